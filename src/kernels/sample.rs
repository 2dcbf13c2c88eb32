//! The next token of each output row: greedy, or drawn after temperature, top-k, top-p and min-p (DEEPSEEK.md §9.3).

use super::{Lanes, Rows};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("sample.wgsl");

/// Words of one sequence's settings, laid out as `struct Sampling` in `sample.wgsl`.
pub const SAMPLING_WORDS: usize = 8;

pub struct Sample<'a> {
    /// `[outputs, vocab]`
    pub logits: &'a Tensor,
    /// `[sequences, SAMPLING_WORDS]`
    pub sampling: &'a Tensor,
    /// Row of the step of each output, `[outputs]`
    pub listed: &'a Tensor,
    /// `[rows, 4]`: token, position, sequence, whether the token is the sequence's last sampled one
    pub batch: &'a Tensor,
    /// `[sequences]`
    pub sampled: &'a Tensor,
    pub outputs: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `sample.wgsl` has it.
    Params { stride: u32 }
);

fn program(lanes: Lanes) -> Program {
    lanes.apply(Program::new("sample", Params::FIELDS, [BODY]))
}

pub(super) fn programs() -> Vec<Program> {
    Lanes::WHOLE.map(program).to_vec()
}

impl Kernel for Sample<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let launch = Launch::new(program(Lanes::whole(gpu)), Params { stride: self.logits.dim(1) });
        let launch = launch.read(self.logits).read(self.sampling).read(self.listed).read(self.batch).write(self.sampled);
        vec![launch.uniform(&self.rows.step).grid(self.outputs, 1, 1).writes(4 * self.outputs as u64)]
    }
}
