//! Keeps a tensor that later steps overwrite: traces of hidden states and of the router's choices.

use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
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

fn program() -> Program {
    Program::new("copy", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", 64)
}

pub(super) fn programs() -> Vec<Program> {
    vec![program()]
}

impl Kernel for Copy<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        assert!(self.begin + self.from.len() <= self.to.len(), "copy: {:?} into {:?} at {}", self.from, self.to, self.begin);
        let params = Params { len: self.from.len() as u32, begin: self.begin as u32 };
        let groups = self.from.len().div_ceil(64).clamp(1, 4096);
        vec![Launch::new(program(), params).read(self.from).write(self.to).grid(groups, 1, 1).writes(self.from.size_bytes())]
    }
}
