//! Groups the slots of many rows by expert and lists tiles of one expert's slots, for the grouped products.

use super::{MAX_EXPERTS, Rows, TILE};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("moe_sort.wgsl");

pub struct MoeSort<'a> {
    /// `[rows, top_k]`
    pub chosen: &'a Tensor,
    /// Slots by expert, `[rows * top_k]`
    pub order: &'a Tensor,
    /// Expert, first in order, slots, 0: `[tile_bound, 4]`
    pub tiles: &'a Tensor,
    pub experts: usize,
    pub rows: &'a Rows,
}

/// Tiles that `slots` slots over `experts` experts need at the most.
pub fn tile_bound(slots: usize, experts: usize) -> usize {
    // An expert with any slot wastes less than a tile; no more experts than slots have any.
    slots / TILE + experts.min(slots)
}

params!(
    /// As `moe_sort.wgsl` has it.
    Params { experts: u32, slots: u32 }
);

fn program() -> Program {
    Program::new("moe_sort", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", 64).set("MAX_EXPERTS", MAX_EXPERTS as u32)
}

pub(super) fn programs() -> Vec<Program> {
    vec![program()]
}

impl Kernel for MoeSort<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        let slots = self.chosen.dim(1);
        let bound = tile_bound(self.rows.count * slots as usize, self.experts);
        assert!(self.tiles.dim(0) as usize >= bound, "moe_sort: {:?} tiles, {bound} may be needed", self.tiles);
        let launch = Launch::new(program(), Params { experts: self.experts as u32, slots });
        let launch = launch.read(self.chosen).write(self.order).write(self.tiles).uniform(&self.rows.step);
        vec![launch.flops(2 * (self.rows.count * self.experts) as u64 * u64::from(slots))]
    }
}
