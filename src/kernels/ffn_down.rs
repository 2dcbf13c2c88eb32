//! The chosen experts' second half: for a few rows weighed and added to the residual, for many one result a slot.

use super::case::{Case, Check, F32_SUMS, Rng, Stage, UNTOUCHED, dot, filled};
use super::ffn_up::{FfnUp, ORDER_BINDING, SLOT_BINDING, SLOT_ROUTED, Slots, TILE_SORTED, Variant};
use super::linear::{bind_base, with_base};
use super::moe_combine::{self, MoeCombine};
use super::moe_sort::{self, MoeSort, Routing};
use super::weight::{bind_weight, every_format_of_parts, with_weight};
use super::{Job, Lanes, Rows, Weight, coop};
use crate::checkpoint::{Scale, WeightFormat};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("ffn_down.wgsl");
const TILED: Part = wgsl!("ffn_down_tiled.wgsl");
const COOP: Part = wgsl!("ffn_down_coop.wgsl");
const TILED_PARAMS: Part = wgsl!("parts/params_ffn_down.wgsl");

pub struct FfnDown<'a> {
    /// `[rows, top_k, width]`
    pub h: &'a Tensor,
    /// `[experts * out, width]`
    pub weight: &'a Weight,
    /// The router's weights, `[rows, top_k]`; unread with sorted slots
    pub weights: &'a Tensor,
    /// What the sum is added to, `[rows, hidden]`; unread with sorted slots
    pub base: &'a Tensor,
    /// Of y's shape, for sums on their way: a weight in several slabs adds in several steps.
    pub scratch: &'a Tensor,
    /// `[rows, hidden]`; with sorted slots `[rows, top_k, hidden]`
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
    /// As `parts/params_ffn_down.wgsl` has it.
    TiledParams { cols: u32, rows: u32, y_stride: u32, expert_begin: u32, experts: u32 }
);

fn few(lanes: Lanes, format: WeightFormat) -> Program {
    let program = lanes.apply(Program::new("ffn_down", Params::FIELDS, [BODY, SLOT_ROUTED, super::BOUND]));
    let storage = lanes.storage();
    let program = with_base(program.quads("x", storage).puts("y", storage), Some(storage));
    with_weight(lanes.with_x(program), format, storage)
}

fn many(lanes: Lanes, format: WeightFormat) -> Program {
    let program = lanes.tiled(TiledParams::FIELDS, ("ffn_down_tiled", TILED), ("ffn_down_coop", COOP));
    let program = program.with(TILED_PARAMS).with(TILE_SORTED).quads("x", lanes.storage()).puts("y", lanes.storage());
    with_weight(lanes.with_x(program), format, lanes.storage())
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for format in every_format_of_parts() {
        all.extend(Lanes::PRODUCTS.map(|lanes| few(lanes, format)));
        all.extend(Lanes::every_tiles().into_iter().map(|lanes| many(lanes, format)));
    }
    all
}

impl Kernel for FfnDown<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let slots = self.h.dim(1) as usize;
        let count = self.rows.count;
        let all_experts = self.weight.rows / self.out;
        assert_eq!(self.h.dim(2) as usize, self.weight.cols, "ffn_down: columns of h and of the weight");
        let slabs = self.weight.slabs.len();
        let launch = |(i, slab): (usize, &super::Slab)| {
            let experts = slab.rows / self.out;
            let (cols, rows, format) = (self.weight.cols as u32, self.out as u32, self.weight.format);
            let (expert_begin, experts_u32) = ((slab.row_begin / self.out) as u32, experts as u32);
            let y_stride = *self.y.shape.last().unwrap_or(&0) as u32;
            // Sums go from slab to slab, the last one into y.
            let landing = |i: usize| if (slabs - 1 - i).is_multiple_of(2) { self.y } else { self.scratch };
            let launch = match self.slots {
                Slots::Sorted(tiles, order) => {
                    let params = TiledParams { cols, rows, y_stride, expert_begin, experts: experts_u32 };
                    let lanes = Lanes::of_tiles(gpu, "ffn_down_tiled");
                    let launch = Launch::new(many(lanes, format), params).read(self.h).write(self.y);
                    let launch = launch.read_at(SLOT_BINDING, tiles).read_at(ORDER_BINDING, order);
                    launch.grid(self.out.div_ceil(lanes.tile()[0]), super::tile_bound(count * slots, all_experts), 1)
                }
                Slots::Routed(chosen) => {
                    let params = Params { cols, rows, y_stride, slots: slots as u32, expert_begin, experts: experts_u32 };
                    let base = if i == 0 { self.base } else { landing(i - 1) };
                    let lanes = Lanes::of_product(gpu, "ffn_down");
                    let launch = Launch::new(few(lanes, format), params).read(self.h).write(landing(i)).read(self.weights);
                    let launch = bind_base(launch.read_at(SLOT_BINDING, chosen), Some(base));
                    launch.grid(self.out.div_ceil(lanes.rows()), count, 1)
                }
                Slots::Single => unreachable!("a single expert's second half is a Linear"),
            };
            let read =
                (count * slots).min(all_experts) as u64 * self.out as u64 * self.weight.row_bytes() * experts as u64 / all_experts as u64;
            let flops = 2 * (count * slots * self.out * self.weight.cols * experts / all_experts) as u64;
            let added = if matches!(self.slots, Slots::Sorted(..)) { 0 } else { 4 * (count * self.out) as u64 };
            let written = 4 * (count * self.out * if added > 0 { 1 } else { slots }) as u64;
            let h_bytes = 4 * (count * slots * self.weight.cols) as u64;
            bind_weight(launch, slab).reads(read + h_bytes + added).writes(written).flops(flops)
        };
        self.weight.slabs.iter().enumerate().map(launch).collect()
    }
}

/// One slot: `[out]` from its hidden neurons and its expert's `[out, h.len()]`.
pub fn reference(h: &[f32], down: &[f32]) -> Vec<f32> {
    down.chunks(h.len()).map(|row| dot(row, h) as f32).collect()
}

fn case(variant: Variant) -> Case {
    let Variant { format, count, live, hidden: out, width, top_k, experts, slab_experts, routing, .. } = variant;
    Case::new(format!("ffn_down {}", variant.name()), move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(32);
        let (weight, numbers) = rng.weight_in_slabs(gpu, format, [experts * out, width], out, slab_experts * out)?;
        let cols = weight.cols;
        let (h, weights) = (rng.numbers(count * top_k * cols), rng.numbers(count * top_k));
        let chosen = routing.unwrap_or(Routing::Even).choose(&mut rng, count, top_k, experts);
        let stride = out.next_multiple_of(4) + 4;
        let slot_result = |slot: usize| reference(&h[slot * cols..][..cols], &numbers[chosen[slot] as usize * out * cols..][..out * cols]);

        let (hidden, factors, ids) =
            (stage.quads(&[count, top_k, cols], &h)?, stage.f32(&[count, top_k], &weights)?, stage.u32(&[count, top_k], &chosen)?);
        let rows = stage.rows(count, live)?;
        let start = rng.padded(count + 1, out, stride);
        let (base, scratch) = (stage.quads(&[count + 1, stride], &start)?, stage.fresh_quads(&[count + 1, stride])?);
        let run = |stage: &mut Stage, y: &Tensor, slots: Slots| {
            stage.run(FfnDown {
                h: &hidden,
                weight: &weight,
                weights: &factors,
                base: &base,
                scratch: &scratch,
                y,
                out,
                slots,
                rows: &rows,
            });
        };
        let mut expected = vec![f32::from_bits(UNTOUCHED); count * stride * if rows.few { 1 } else { top_k }];
        let y = if rows.few {
            for row in 0..live {
                let results: Vec<f32> = (0..top_k).flat_map(|k| slot_result(row * top_k + k)).collect();
                let added = moe_combine::reference(&results, &weights[row * top_k..][..top_k], &start[row * stride..][..out]);
                expected[row * stride..][..out].copy_from_slice(&added);
            }
            let y = stage.fresh_quads(&[count + 1, stride])?;
            run(&mut stage, &y, Slots::Routed(&ids));
            y
        } else {
            for slot in 0..live * top_k {
                expected[slot * stride..][..out].copy_from_slice(&slot_result(slot));
            }
            let (order, tiles) = moe_sort::reference(&chosen[..live * top_k], experts);
            let (order, tiles) = moe_sort::uploaded(&stage, order, tiles, count * top_k, experts)?;
            let y = stage.fresh_quads(&[count + 1, top_k, stride])?;
            run(&mut stage, &y, Slots::Sorted(&tiles, &order));
            y
        };
        let check = if rows.few { F32_SUMS } else { coop::check_of(gpu, "ffn_down_tiled", F32_SUMS, 2e-7) };
        stage.expect("y", &y, &filled(&y, expected, out, stride), check);
        stage.finish()
    })
}

/// The whole chain of a routed FFN for many rows, each step fed by the one before, against the formula.
fn chain(routing: Routing, [count, live]: [usize; 2], [hidden, width]: [usize; 2], [top_k, experts]: [usize; 2]) -> Case {
    let name = format!("ffn_down after moe_sort and ffn_up, {live} of {count} rows, {hidden}×{width} top {top_k} of {experts} {routing:?}");
    Case::new(name, move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(33);
        let format = WeightFormat::Bf16;
        let (gate_up, gate_up_numbers) = rng.weight(gpu, format, [experts * 2 * width, hidden])?;
        let (down, down_numbers) = rng.weight(gpu, format, [experts * hidden, width])?;
        let (x, weights, start) = (rng.numbers(count * hidden), rng.numbers(count * top_k), rng.numbers((count + 1) * hidden));
        let chosen = routing.choose(&mut rng, count, top_k, experts);
        let mut expected = vec![];
        for row in 0..live {
            let slot = |k: usize| {
                let expert = chosen[row * top_k + k] as usize;
                let gate_up = &gate_up_numbers[expert * 2 * width * hidden..][..2 * width * hidden];
                let h = super::ffn_up::reference(&x[row * hidden..][..hidden], gate_up);
                reference(&h, &down_numbers[expert * hidden * width..][..hidden * width])
            };
            let results: Vec<f32> = (0..top_k).flat_map(slot).collect();
            expected.extend(moe_combine::reference(&results, &weights[row * top_k..][..top_k], &start[row * hidden..][..hidden]));
        }
        let rows = stage.rows(count, live)?;
        let (x, weights, chosen) =
            (stage.quads(&[count, hidden], &x)?, stage.f32(&[count, top_k], &weights)?, stage.u32(&[count, top_k], &chosen)?);
        let (order, tiles) = (stage.fresh_u32(&[count * top_k])?, stage.fresh_u32(&[super::tile_bound(count * top_k, experts), 4])?);
        let (h, results) = (stage.fresh_quads(&[count, top_k, width])?, stage.fresh_quads(&[count, top_k, hidden])?);
        let (base, y) = (stage.quads(&[count + 1, hidden], &start)?, stage.fresh_quads(&[count + 1, hidden])?);
        let slots = Slots::Sorted(&tiles, &order);
        stage.run(MoeSort { chosen: &chosen, order: &order, tiles: &tiles, experts, rows: &rows });
        stage.run(FfnUp { x: &x, norm: None, weight: &gate_up, h: &h, width, slots, rows: &rows });
        let (y_all, out) = (&results, hidden);
        stage.run(FfnDown { h: &h, weight: &down, weights: &weights, base: &base, scratch: &base, y: y_all, out, slots, rows: &rows });
        stage.run(MoeCombine { x: &results, weights: &weights, base: &base, y: &y, rows: &rows });
        let exact = Check::Nmse(1e-11, "f32 sums and exp");
        let check = coop::check_of(gpu, "ffn_down_tiled", coop::check_of(gpu, "ffn_up_tiled", exact, 1e-6), 1e-6);
        stage.expect("y", &y, &expected, check);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    let routed = Variant::routed;
    let mut all = vec![routed(WeightFormat::Bf16, [2, 2], [33, 96], [2, 5])];
    for format in every_format_of_parts() {
        all.extend([routed(format, [1, 1], [9, 160], [2, 3]), routed(format, [16, 13], [9, 160], [2, 3])]);
    }
    all.extend((1..=super::FEW_ROWS).map(|count| routed(WeightFormat::Bf16, [count, count], [5, 32], [3, 7])));
    all.extend([[1, 1], [7, 33], [33, 1]].map(|shape| routed(WeightFormat::F32, [1, 1], shape, [1, 1])));
    let bf16 = |rows, top| routed(WeightFormat::Bf16, rows, [19, 64], top);
    for routing in [Routing::Same, Routing::Even].map(Some) {
        all.push(Variant { routing, ..bf16([24, 24], [1, 24]) });
        all.push(Variant { routing, ..bf16([128, 70], [2, 6]) });
    }
    all.extend([[2, 2], [16, 16]].map(|rows| Variant { slab_experts: 2, ..bf16(rows, [3, 5]) }));
    let mlx = WeightFormat::Affine { bits: 4, group: 64, scale: Scale::Bf16 };
    all.push(routed(mlx, [1, 1], [128, 1408], [2, 3]));
    let timed = [routed(mlx, [1, 1], [2048, 1408], [6, 8]), routed(mlx, [64, 64], [2048, 1408], [6, 32])];
    let chains = [
        chain(Routing::Random, [16, 16], [64, 32], [3, 9]),
        chain(Routing::Same, [32, 27], [32, 32], [2, 12]),
        chain(Routing::Even, [128, 128], [32, 64], [1, 16]),
    ];
    let gguf = WeightFormat::Affine { bits: 4, group: 32, scale: Scale::F16 };
    let tuned = [
        case(routed(gguf, [1, 1], [2048, 352], [6, 6])).bench().tunes(Job::Product, "ffn_down"),
        case(routed(gguf, [32, 32], [1024, 256], [4, 8])).bench().tunes(Job::Tiles, "ffn_down_tiled"),
    ];
    all.into_iter().map(case).chain(chains).chain(timed.map(|variant| case(variant).bench())).chain(tuned).collect()
}
