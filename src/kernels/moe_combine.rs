//! `y += Σ_slot weight * x[slot]`: what the grouped products gave, weighed and added to the residual.

use super::Rows;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("moe_combine.wgsl");
const WORKGROUP: u32 = 64;

pub struct MoeCombine<'a> {
    /// `[rows, top_k, hidden]`
    pub x: &'a Tensor,
    /// `[rows, top_k]`
    pub weights: &'a Tensor,
    /// `[rows, hidden]`
    pub y: &'a Tensor,
    pub rows: &'a Rows,
}

params!(
    /// As `moe_combine.wgsl` has it.
    Params { stride: u32, slots: u32 }
);

fn program() -> Program {
    Program::new("moe_combine", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", WORKGROUP)
}

pub(super) fn programs() -> Vec<Program> {
    vec![program()]
}

impl Kernel for MoeCombine<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        assert_eq!(self.x.dim(2), self.y.dim(1), "moe_combine: columns of x and y");
        let params = Params { stride: self.y.dim(1) / 4, slots: self.x.dim(1) };
        let launch = Launch::new(program(), params).read(self.x).read(self.weights).write(self.y).uniform(&self.rows.step);
        vec![launch.grid(params.stride.div_ceil(WORKGROUP) as usize, self.rows.count, 1).flops(2 * self.x.len() as u64)]
    }
}
