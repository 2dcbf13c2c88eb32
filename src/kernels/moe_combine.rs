//! `y = base + Σ_slot weight * x[slot]`: what the grouped products gave, weighed and added to the residual.

use super::Rows;
use super::case::{Case, F32_SUMS, Rng, Stage};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Storage, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("moe_combine.wgsl");
const WORKGROUP: u32 = 64;

pub struct MoeCombine<'a> {
    /// `[rows, top_k, hidden]`
    pub x: &'a Tensor,
    /// `[rows, top_k]`
    pub weights: &'a Tensor,
    /// `[rows, hidden]`
    pub base: &'a Tensor,
    /// `[rows, hidden]`
    pub y: &'a Tensor,
    pub rows: &'a Rows,
}

params!(
    /// As `moe_combine.wgsl` has it.
    Params { stride: u32, slots: u32 }
);

fn program(storage: Storage) -> Program {
    let program = Program::new("moe_combine", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", WORKGROUP);
    program.quads("x", storage).quads("base", storage).puts("y", storage)
}

pub(super) fn programs() -> Vec<Program> {
    [Storage::Buffer, Storage::Image].map(program).to_vec()
}

impl Kernel for MoeCombine<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        assert_eq!(self.x.dim(2), self.y.dim(1), "moe_combine: columns of x and y");
        let params = Params { stride: self.y.dim(1) / 4, slots: self.x.dim(1) };
        let launch = Launch::new(program(self.x.storage), params)
            .read(self.x)
            .read(self.base)
            .write(self.y)
            .read(self.weights)
            .uniform(&self.rows.step);
        vec![launch.grid(params.stride.div_ceil(WORKGROUP) as usize, self.rows.count, 1).flops(2 * self.x.len() as u64)]
    }
}

/// One row: y with every slot's x added, weighed.
pub fn reference(x: &[f32], weights: &[f32], y: &[f32]) -> Vec<f32> {
    let column = |j: usize| weights.iter().enumerate().map(|(k, &weight)| f64::from(weight) * f64::from(x[k * y.len() + j])).sum::<f64>();
    (0..y.len()).map(|j| (f64::from(y[j]) + column(j)) as f32).collect()
}

fn case(count: usize, live: usize, top_k: usize, hidden: usize) -> Case {
    Case::new(format!("moe_combine {live} of {count} rows, {top_k} slots of {hidden}"), move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(16);
        let (x, weights) = (rng.numbers(count * top_k * hidden), rng.numbers(count * top_k));
        let start = rng.numbers((count + 1) * hidden);
        let row = |row: usize| reference(&x[row * top_k * hidden..], &weights[row * top_k..][..top_k], &start[row * hidden..][..hidden]);
        let expected: Vec<f32> = (0..live).flat_map(row).collect();
        let (x, weights) = (stage.quads(&[count, top_k, hidden], &x)?, stage.f32(&[count, top_k], &weights)?);
        let (base, y) = (stage.quads(&[count + 1, hidden], &start)?, stage.fresh_quads(&[count + 1, hidden])?);
        stage.run(MoeCombine { x: &x, weights: &weights, base: &base, y: &y, rows: &stage.rows(count, live)? });
        stage.expect("y", &y, &expected, F32_SUMS);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    vec![case(16, 13, 3, 96), case(24, 17, 1, 32), case(16, 16, 8, 576), case(128, 128, 6, 2048).bench()]
}
