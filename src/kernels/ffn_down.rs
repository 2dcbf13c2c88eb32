//! The chosen experts' second half: for a few rows weighed and added to the residual, for many one result a slot.

use super::ffn_up::{ORDER_BINDING, SLOT_BINDING, SLOT_ROUTED, Slots, TILE_SORTED};
use super::weight::{bind_weight, every_format_of_parts, with_weight};
use super::{Lanes, Rows, Weight, XSource};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("ffn_down.wgsl");
const TILED: Part = wgsl!("ffn_down_tiled.wgsl");

pub struct FfnDown<'a> {
    /// `[rows, top_k, width]`
    pub h: &'a Tensor,
    /// `[experts * out, width]`
    pub weight: &'a Weight,
    /// The router's weights, `[rows, top_k]`; unread with sorted slots
    pub weights: &'a Tensor,
    /// Added to, `[rows, hidden]`; with sorted slots replaced, `[rows, top_k, hidden]`
    pub y: &'a Tensor,
    /// Rows of an expert.
    pub out: usize,
    pub slots: Slots<'a>,
    pub rows: &'a Rows,
}

params!(
    /// As `ffn_down.wgsl` has it.
    Params { cols: u32, rows: u32, y_stride: u32, slots: u32, expert_begin: u32, experts: u32 }
);

params!(
    /// As `ffn_down_tiled.wgsl` has it.
    TiledParams { cols: u32, rows: u32, y_stride: u32, expert_begin: u32, experts: u32 }
);

fn few(lanes: (Lanes, XSource), format: WeightFormat) -> Program {
    with_weight(lanes.1.with_x(lanes.0.apply(Program::new("ffn_down", Params::FIELDS, [BODY, SLOT_ROUTED]))), format)
}

fn many(x: XSource, format: WeightFormat) -> Program {
    let program = x.with_x(Program::new("ffn_down_tiled", TiledParams::FIELDS, [TILED, TILE_SORTED]));
    with_weight(program.set("WORKGROUP_SIZE", x.row_lanes() as u32), format)
}

pub(super) fn programs() -> Vec<Program> {
    let of = |format| Lanes::MATVEC.map(|lanes| few(lanes, format)).into_iter().chain(XSource::ALL.map(|x| many(x, format)));
    every_format_of_parts().into_iter().flat_map(of).collect()
}

impl Kernel for FfnDown<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let slots = self.h.dim(1) as usize;
        let count = self.rows.count;
        let all_experts = self.weight.rows / self.out;
        assert_eq!(self.h.dim(2) as usize, self.weight.cols, "ffn_down: columns of h and of the weight");
        let lanes = Lanes::matvec(gpu);
        let launch = |slab: &super::Slab| {
            let experts = slab.rows / self.out;
            let (cols, rows, format) = (self.weight.cols as u32, self.out as u32, self.weight.format);
            let (expert_begin, experts_u32) = ((slab.row_begin / self.out) as u32, experts as u32);
            let y_stride = *self.y.shape.last().unwrap_or(&0) as u32;
            let launch = match self.slots {
                Slots::Sorted(tiles, order) => {
                    let params = TiledParams { cols, rows, y_stride, expert_begin, experts: experts_u32 };
                    let launch = Launch::new(many(lanes.1, format), params).read(self.h).write(self.y);
                    let launch = launch.read_at(SLOT_BINDING, tiles).read_at(ORDER_BINDING, order);
                    launch.grid(self.out.div_ceil(4 * lanes.1.row_lanes()), super::tile_bound(count * slots, all_experts), 1)
                }
                Slots::Routed(chosen) => {
                    let params = Params { cols, rows, y_stride, slots: slots as u32, expert_begin, experts: experts_u32 };
                    let launch = Launch::new(few(lanes, format), params).read(self.h).read(self.weights).write(self.y);
                    launch.read_at(SLOT_BINDING, chosen).grid(self.out.div_ceil(lanes.0.rows()), count, 1)
                }
                Slots::Single => unreachable!("a single expert's second half is a Linear"),
            };
            let read = (count * slots).min(all_experts) as u64 * self.out as u64 * self.weight.row_bytes() * experts as u64 / all_experts as u64;
            let flops = 2 * (count * slots * self.out * self.weight.cols * experts / all_experts) as u64;
            bind_weight(launch, slab).reads(read + self.h.size_bytes()).flops(flops)
        };
        self.weight.slabs.iter().map(launch).collect()
    }
}
