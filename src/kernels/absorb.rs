//! `alpha[head] = BK[head]ᵀ q_nope[head]`: the query seen from the latent (DEEPSEEK.md §4.1).

use super::weight::{bind_weight, every_format_of_parts, with_weight};
use super::{Rows, Weight};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("absorb.wgsl");
const WORKGROUP: u32 = 32;

pub struct Absorb<'a> {
    /// `[rows, cols]`; head h's part begins at `h * nope`
    pub q: &'a Tensor,
    /// The key half of kv_b: `[heads * nope, latent]`
    pub weight: &'a Weight,
    /// `[rows, heads, latent]`
    pub alpha: &'a Tensor,
    pub heads: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `absorb.wgsl` has it.
    Params { nope: u32, cols: u32, heads: u32, head_begin: u32, q_stride: u32, q_head_stride: u32, blocks: u32 }
);

fn program(format: WeightFormat, workgroup: u32) -> Program {
    with_weight(Program::new("absorb", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", workgroup), format)
}

pub(super) fn programs() -> Vec<Program> {
    every_format_of_parts().into_iter().map(|format| program(format, WORKGROUP)).collect()
}

impl Kernel for Absorb<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        let nope = self.weight.rows / self.heads;
        let cols = self.weight.cols;
        assert_eq!(self.alpha.shape[1..], [self.heads, cols], "absorb: alpha");
        let launch = |slab: &super::Slab| {
            let blocks = slab.rows / nope * (cols / 32);
            let params = Params {
                nope: nope as u32,
                cols: cols as u32,
                heads: self.heads as u32,
                head_begin: (slab.row_begin / nope) as u32,
                q_stride: self.q.dim(1),
                q_head_stride: nope as u32,
                blocks: blocks as u32,
            };
            let launch = Launch::new(program(self.weight.format, WORKGROUP), params).read(self.q).write(self.alpha);
            let flops = 2 * (self.rows.count * slab.rows * cols) as u64;
            bind_weight(launch, slab).grid(blocks.div_ceil(WORKGROUP as usize), self.rows.count, 1).flops(flops)
        };
        self.weight.slabs.iter().map(launch).collect()
    }
}
