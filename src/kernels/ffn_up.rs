//! `h = silu(gate x) * (up x)` for every slot of a row (DEEPSEEK.md §3.4): the chosen experts', or a dense or shared FFN's one.

use super::weight::{bind_weight, every_format_of_parts, with_weight};
use super::{Lanes, Rows, TILE, Weight, XSource};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("ffn_up.wgsl");
const TILED: Part = wgsl!("ffn_up_tiled.wgsl");
pub(super) const SLOT_SINGLE: Part = wgsl!("parts/slot_single.wgsl");
pub(super) const SLOT_ROUTED: Part = wgsl!("parts/slot_routed.wgsl");
const TILE_ROWS: Part = wgsl!("parts/tile_rows.wgsl");
pub(super) const TILE_SORTED: Part = wgsl!("parts/tile_sorted.wgsl");
/// Where `slot_*` and `tile_*` parts bind.
pub(super) const SLOT_BINDING: u32 = 13;
pub(super) const ORDER_BINDING: u32 = 14;

/// Where the slots' experts come from.
#[derive(Clone, Copy)]
pub enum Slots<'a> {
    /// One expert for all.
    Single,
    /// The router's choice, `[rows, top_k]`
    Routed(&'a Tensor),
    /// The router's choice grouped by `moe_sort`: tiles, order
    Sorted(&'a Tensor, &'a Tensor),
}

pub struct FfnUp<'a> {
    /// `[rows, hidden]`
    pub x: &'a Tensor,
    /// `[experts * 2 * width, hidden]`: each expert's gate, then its up
    pub weight: &'a Weight,
    /// `[rows, slots, width]`, or wider
    pub h: &'a Tensor,
    pub width: usize,
    pub slots: Slots<'a>,
    pub rows: &'a Rows,
}

params!(
    /// As `ffn_up.wgsl` and `ffn_up_tiled.wgsl` have it.
    Params { cols: u32, width: u32, h_stride: u32, slots: u32, expert_begin: u32, experts: u32 }
);

fn few(lanes: (Lanes, XSource), format: WeightFormat, slot: Part) -> Program {
    with_weight(lanes.1.with_x(lanes.0.apply(Program::new("ffn_up", Params::FIELDS, [BODY, slot]))), format)
}

fn many(x: XSource, format: WeightFormat, tile: Part) -> Program {
    let program = x.with_x(Program::new("ffn_up_tiled", Params::FIELDS, [TILED, tile])).set("WORKGROUP_SIZE", x.row_lanes() as u32);
    with_weight(program, format)
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for format in every_format_of_parts() {
        for lanes in Lanes::MATVEC {
            all.extend([SLOT_SINGLE, SLOT_ROUTED].map(|slot| few(lanes, format, slot)));
        }
        for x in XSource::ALL {
            all.extend([TILE_ROWS, TILE_SORTED].map(|tile| many(x, format, tile)));
        }
    }
    all
}

impl Kernel for FfnUp<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let slots = self.h.dim(1) as usize;
        let count = self.rows.count;
        let all_experts = self.weight.rows / (2 * self.width);
        assert!(self.x.dim(1) as usize == self.weight.cols && self.h.dim(2) as usize >= self.width, "ffn_up: {:?} {:?}", self.x, self.h);
        let lanes = Lanes::matvec(gpu);
        let launch = |slab: &super::Slab| {
            let expert_rows = 2 * self.width;
            let experts = slab.rows / expert_rows;
            let params = Params {
                cols: self.weight.cols as u32,
                width: self.width as u32,
                h_stride: self.h.dim(2),
                slots: slots as u32,
                expert_begin: (slab.row_begin / expert_rows) as u32,
                experts: experts as u32,
            };
            let format = self.weight.format;
            let start = |program| Launch::new(program, params).read(self.x).write(self.h);
            let few_grid = |launch: Launch| launch.grid(self.width.div_ceil(lanes.0.rows()), slots, count);
            let many_grid = |launch: Launch, tiles| launch.grid(self.width.div_ceil(2 * lanes.1.row_lanes()), tiles, 1);
            let launch = match self.slots {
                Slots::Single if self.rows.few => few_grid(start(few(lanes, format, SLOT_SINGLE))),
                Slots::Single => {
                    let launch = start(many(lanes.1, format, TILE_ROWS)).uniform_at(SLOT_BINDING, &self.rows.step);
                    many_grid(launch, count.div_ceil(TILE))
                }
                Slots::Routed(chosen) => few_grid(start(few(lanes, format, SLOT_ROUTED)).read_at(SLOT_BINDING, chosen)),
                Slots::Sorted(tiles, order) => {
                    let launch = start(many(lanes.1, format, TILE_SORTED)).read_at(SLOT_BINDING, tiles).read_at(ORDER_BINDING, order);
                    many_grid(launch, super::tile_bound(count * slots, all_experts))
                }
            };
            // Of all experts only the chosen ones are read; each slab is expected to hold its share.
            let read = (count * slots).min(all_experts) as u64 * expert_rows as u64 * self.weight.row_bytes() * experts as u64 / all_experts as u64;
            let flops = 2 * (count * slots * expert_rows * self.weight.cols * experts / all_experts) as u64;
            bind_weight(launch, slab).reads(read + self.x.size_bytes()).writes(self.h.size_bytes()).flops(flops)
        };
        self.weight.slabs.iter().map(launch).collect()
    }
}
