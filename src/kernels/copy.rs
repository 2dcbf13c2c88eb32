//! Keeps a tensor that later steps overwrite: traces of hidden states and of the router's choices.

use super::case::{Case, Check, Rng, Stage, UNTOUCHED};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Storage, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("copy.wgsl");

pub struct Copy<'a> {
    pub from: &'a Tensor,
    pub to: &'a Tensor,
    /// First number of `to` that is written.
    pub begin: usize,
}

params!(
    /// As `copy.wgsl` has it.
    Params { len: u32, begin: u32 }
);

fn program(storage: Storage) -> Program {
    Program::new("copy", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", 64).words("source", storage)
}

pub(super) fn programs() -> Vec<Program> {
    [Storage::Buffer, Storage::Image].map(program).to_vec()
}

impl Kernel for Copy<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        assert!(self.begin + self.from.len() <= self.to.len(), "copy: {:?} into {:?} at {}", self.from, self.to, self.begin);
        let params = Params { len: self.from.len() as u32, begin: self.begin as u32 };
        let groups = self.from.len().div_ceil(64).clamp(1, 4096);
        vec![
            Launch::new(program(self.from.storage), params)
                .read(self.from)
                .write(self.to)
                .grid(groups, 1, 1)
                .writes(self.from.size_bytes()),
        ]
    }
}

/// `to` with `from` written over it from `begin` on.
pub fn reference(from: &[u32], to: &mut [u32], begin: usize) {
    to[begin..begin + from.len()].copy_from_slice(from);
}

fn case(len: usize, begin: usize) -> Case {
    Case::new(format!("copy {len} numbers from {begin} on"), move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(12);
        let numbers: Vec<u32> = (0..len).map(|_| rng.bits() as u32 >> 1).collect();
        let mut expected = vec![UNTOUCHED; begin + len];
        reference(&numbers, &mut expected, begin);
        let from = stage.u32(&[len], &numbers)?;
        let to = stage.fresh_u32(&[begin + len + 7])?;
        stage.run(Copy { from: &from, to: &to, begin });
        stage.expect_u32("to", &to, &expected, Check::Exact);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    vec![case(33, 7), case(1, 0), case(64, 64), case(300_000, 1), case(8 << 20, 0).bench()]
}
