//! `x[row] = table[token of row]`.

use super::weight::{bind_weight, every_format_of_parts, with_weight};
use super::{Rows, Weight};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("embed.wgsl");

pub struct Embed<'a> {
    /// `[tokens, hidden]`
    pub table: &'a Weight,
    /// `[rows, 4]`: token, position, sequence, whether the token is the sequence's last sampled one
    pub batch: &'a Tensor,
    /// `[sequences]`
    pub sampled: &'a Tensor,
    /// `[rows, hidden]`
    pub x: &'a Tensor,
    pub rows: &'a Rows,
}

params!(
    /// As `embed.wgsl` has it.
    Params { cols: u32, row_begin: u32, rows: u32 }
);

fn program(format: WeightFormat) -> Program {
    with_weight(Program::new("embed", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", 32), format)
}

pub(super) fn programs() -> Vec<Program> {
    every_format_of_parts().into_iter().map(program).collect()
}

impl Kernel for Embed<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        let launch = |slab: &super::Slab| {
            let params = Params { cols: self.table.cols as u32, row_begin: slab.row_begin as u32, rows: slab.rows as u32 };
            let launch = Launch::new(program(self.table.format), params).read(self.batch).read(self.sampled).write(self.x);
            let touched = self.rows.count as u64 * self.table.row_bytes();
            bind_weight(launch, slab).grid(self.rows.count, 1, 1).reads(touched)
        };
        self.table.slabs.iter().map(launch).collect()
    }
}
