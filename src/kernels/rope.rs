//! Rotates the rotary part of every head's query in place (DEEPSEEK.md §3.3, interleaved pairs).

use super::Rows;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("rope.wgsl");
const WORKGROUP: u32 = 64;

pub struct Rope<'a> {
    /// `[rows, 4]`: token, position, sequence, whether the token is the sequence's last sampled one
    pub batch: &'a Tensor,
    /// cos and sin: `[positions, pairs, 2]`
    pub rotary: &'a Tensor,
    /// `[rows, cols]`; in a row, head h's pairs begin at `begin + h * head_stride`
    pub q: &'a Tensor,
    pub heads: usize,
    /// Numbers before the first head's rotary part.
    pub begin: usize,
    /// Numbers from head to head.
    pub head_stride: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `rope.wgsl` has it.
    Params { heads: u32, pairs: u32, head_stride: u32, row_stride: u32, begin: u32, positions: u32 }
);

fn program() -> Program {
    Program::new("rope", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", WORKGROUP)
}

pub(super) fn programs() -> Vec<Program> {
    vec![program()]
}

impl Kernel for Rope<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        let pairs = self.rotary.dim(1);
        assert!(2 * pairs as usize <= self.head_stride && self.q.dim(1) as usize >= self.begin + self.heads * self.head_stride, "rope: {:?}", self.q);
        let params = Params {
            heads: self.heads as u32,
            pairs,
            head_stride: self.head_stride as u32 / 2,
            row_stride: self.q.dim(1) / 2,
            begin: self.begin as u32 / 2,
            positions: self.rotary.dim(0),
        };
        let touched = (8 * self.rows.count * self.heads) as u64 * u64::from(pairs);
        let launch = Launch::new(program(), params).read(self.batch).read(self.rotary).write(self.q);
        let groups = (self.heads as u32 * pairs).div_ceil(WORKGROUP) as usize;
        vec![launch.grid(groups, self.rows.count, 1).flops(touched).reads(touched).writes(touched)]
    }
}
