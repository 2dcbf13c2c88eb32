//! `y = x / rms(x) * weight` (DEEPSEEK.md §1), one row of the step each, or the rows of a list.

use super::Lanes;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("rms_norm.wgsl");
const ROWS_ALL: Part = wgsl!("parts/rows_all.wgsl");
const ROWS_LISTED: Part = wgsl!("parts/rows_listed.wgsl");
const LIST_BINDING: u32 = 12;

pub struct RmsNorm<'a> {
    /// `[rows, cols]`, zeros from column `dim` on
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
    Params { stride: u32, dim: u32, eps: f32 }
);

fn program(lanes: Lanes, listed: bool) -> Program {
    lanes.apply(Program::new("rms_norm", Params::FIELDS, [BODY, if listed { ROWS_LISTED } else { ROWS_ALL }]))
}

pub(super) fn programs() -> Vec<Program> {
    Lanes::WHOLE.iter().flat_map(|&lanes| [false, true].map(|listed| program(lanes, listed))).collect()
}

impl Kernel for RmsNorm<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let cols = self.weight.len();
        assert!(cols.is_multiple_of(4) && self.dim <= cols, "rms_norm: dim {} of {cols} columns", self.dim);
        let params = Params { stride: cols as u32 / 4, dim: self.dim as u32, eps: self.eps };
        let launch = Launch::new(program(Lanes::whole(gpu), self.listed.is_some()), params);
        let launch = launch.read(self.x).read(self.weight).write(self.y);
        let launch = self.listed.iter().fold(launch, |launch, listed| launch.read_at(LIST_BINDING, listed));
        let row_bytes = 4 * (self.count * cols) as u64;
        vec![launch.grid(self.count, 1, 1).flops(4 * (self.count * cols) as u64).reads(row_bytes + self.weight.size_bytes()).writes(row_bytes)]
    }
}
