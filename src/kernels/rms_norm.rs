//! `y = x / rms(x) * weight` (DEEPSEEK.md §1), one row of the step each, or the rows of a list.

use super::Lanes;
use super::case::{Case, F32_SUMS, Rng, Stage, dot};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("rms_norm.wgsl");
const ROWS_ALL: Part = wgsl!("parts/rows_all.wgsl");
const ROWS_LISTED: Part = wgsl!("parts/rows_listed.wgsl");
const LIST_BINDING: u32 = 12;

pub struct RmsNorm<'a> {
    /// `[rows, cols]` or wider, zeros from column `dim` on
    pub x: &'a Tensor,
    /// `[cols]`, zeros from `dim` on
    pub weight: &'a Tensor,
    /// `[rows, cols]`, or `[outputs, cols]` with `listed`
    pub y: &'a Tensor,
    /// Rows of x to take, `[outputs]`
    pub listed: Option<&'a Tensor>,
    /// Rows of y.
    pub count: usize,
    pub dim: usize,
    pub eps: f32,
}

params!(
    /// As `rms_norm.wgsl` has it.
    Params { x_stride: u32, stride: u32, dim: u32, eps: f32 }
);

fn program(lanes: Lanes, listed: bool) -> Program {
    let program = lanes.apply(Program::new("rms_norm", Params::FIELDS, [BODY, if listed { ROWS_LISTED } else { ROWS_ALL }]));
    let storage = lanes.storage();
    program.quads("x", storage).quads("gain", storage).puts("y", storage)
}

pub(super) fn programs() -> Vec<Program> {
    Lanes::ALL.iter().flat_map(|&lanes| [false, true].map(|listed| program(lanes, listed))).collect()
}

impl Kernel for RmsNorm<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let cols = self.weight.len();
        assert!(cols.is_multiple_of(4) && self.dim <= cols, "rms_norm: dim {} of {cols} columns", self.dim);
        let params = Params { x_stride: self.x.dim(1) / 4, stride: cols as u32 / 4, dim: self.dim as u32, eps: self.eps };
        let launch = Launch::new(program(Lanes::of(gpu), self.listed.is_some()), params);
        let launch = launch.read(self.x).read(self.weight).write(self.y);
        let launch = self.listed.iter().fold(launch, |launch, listed| launch.read_at(LIST_BINDING, listed));
        let row_bytes = 4 * (self.count * cols) as u64;
        vec![
            launch
                .grid(self.count, 1, 1)
                .flops(4 * (self.count * cols) as u64)
                .reads(row_bytes + self.weight.size_bytes())
                .writes(row_bytes),
        ]
    }
}

/// One row; columns from `dim` on count as zeros.
pub fn reference(x: &[f32], weight: &[f32], dim: usize, eps: f32) -> Vec<f32> {
    let mean_square = dot(&x[..dim], &x[..dim]) / dim as f64;
    let scale = 1.0 / (mean_square + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(&x, &weight)| (f64::from(x) * scale * f64::from(weight)) as f32).collect()
}

fn case(rows: usize, dim: usize, listed: Option<&'static [u32]>) -> Case {
    let name = format!("rms_norm {rows} rows of {dim}{}", listed.map(|l| format!(", {} listed", l.len())).unwrap_or_default());
    Case::new(name, move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(14);
        let cols = dim.next_multiple_of(super::BLOCK_COLS);
        let (x, weight) = (rng.padded(rows, dim, cols), rng.padded(1, dim, cols));
        let eps = 1e-3;
        let all: Vec<u32> = (0..rows as u32).collect();
        let chosen = listed.unwrap_or(&all);
        let expected: Vec<f32> = chosen.iter().flat_map(|&row| reference(&x[row as usize * cols..][..cols], &weight, dim, eps)).collect();
        let (x, weight) = (stage.quads(&[rows, cols], &x)?, stage.quads(&[cols], &weight)?);
        let list = listed.map(|list| stage.u32(&[list.len()], list)).transpose()?;
        let y = stage.fresh_quads(&[chosen.len() + 1, cols])?;
        stage.run(RmsNorm { x: &x, weight: &weight, y: &y, listed: list.as_ref(), count: chosen.len(), dim, eps });
        stage.expect("y", &y, &expected, F32_SUMS);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![case(3, 160, None), case(5, 96, Some(&[4, 0, 4]))];
    all.extend([1, 7, 33, 576, 2048].map(|dim| case(2, dim, None)));
    all.push(case(1, 7168, Some(&[0])));
    all.push(case(128, 2048, None).bench());
    all
}
