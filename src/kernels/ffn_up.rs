//! `h = silu(gate x) * (up x)` for every slot of a row (DEEPSEEK.md §3.4): the chosen experts', or a dense or shared FFN's one.

use super::case::{Case, Check, Rng, Stage, UNTOUCHED, dot, filled};
use super::moe_sort::{self, Routing};
use super::weight::{bind_weight, every_format_of_parts, with_weight};
use super::{Job, Lanes, Norm, Rows, Weight, coop, rms_norm};
use crate::checkpoint::{Scale, WeightFormat};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Storage, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("ffn_up.wgsl");
const TILED: Part = wgsl!("ffn_up_tiled.wgsl");
const COOP: Part = wgsl!("ffn_up_coop.wgsl");
const PARAMS: Part = wgsl!("parts/params_ffn_up.wgsl");
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
    /// Only with few rows.
    pub norm: Option<Norm<'a>>,
    /// `[experts * 2 * width, hidden]`: each expert's gate, then its up
    pub weight: &'a Weight,
    /// `[rows, slots, width]`, or wider
    pub h: &'a Tensor,
    pub width: usize,
    pub slots: Slots<'a>,
    pub rows: &'a Rows,
}

params!(
    /// As `parts/params_ffn_up.wgsl` has it.
    Params { cols: u32, width: u32, h_stride: u32, slots: u32, expert_begin: u32, experts: u32, norm_dim: u32, eps: f32 }
);

fn few(lanes: Lanes, format: WeightFormat, slot: Part, gain: Option<Storage>) -> Program {
    let program = lanes.apply(Program::new("ffn_up", Params::FIELDS, [BODY, PARAMS, slot, super::BOUND]));
    let program = program.quads("x", lanes.storage()).puts("h", lanes.storage());
    with_weight(lanes.with_input(program, gain), format, lanes.storage())
}

fn many(lanes: Lanes, format: WeightFormat, tile: Part) -> Program {
    let program = lanes.tiled(Params::FIELDS, ("ffn_up_tiled", TILED), ("ffn_up_coop", COOP)).with(PARAMS).with(tile);
    let program = program.quads("x", lanes.storage()).puts("h", lanes.storage());
    with_weight(lanes.with_x(program), format, lanes.storage())
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for format in every_format_of_parts() {
        for lanes in Lanes::PRODUCTS {
            all.extend([SLOT_SINGLE, SLOT_ROUTED].map(|slot| few(lanes, format, slot, Some(lanes.storage()))));
        }
        for lanes in Lanes::every_tiles() {
            all.extend([TILE_ROWS, TILE_SORTED].map(|tile| many(lanes, format, tile)));
        }
    }
    for lanes in Lanes::PRODUCTS {
        all.extend([SLOT_SINGLE, SLOT_ROUTED].map(|slot| few(lanes, WeightFormat::Bf16, slot, None)));
    }
    all
}

impl Kernel for FfnUp<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let slots = self.h.dim(1) as usize;
        let count = self.rows.count;
        let all_experts = self.weight.rows / (2 * self.width);
        assert!(self.x.dim(1) as usize == self.weight.cols && self.h.dim(2) as usize >= self.width, "ffn_up: {:?} {:?}", self.x, self.h);
        assert!(self.norm.is_none() || self.rows.few, "ffn_up: many rows are normalised before");
        let lanes = if self.rows.few { Lanes::of_product(gpu, "ffn_up") } else { Lanes::of_tiles(gpu, "ffn_up_tiled") };
        let launch = |slab: &super::Slab| {
            let expert_rows = 2 * self.width;
            let experts = slab.rows / expert_rows;
            let (norm_dim, eps) = Norm::params(self.norm);
            let params = Params {
                cols: self.weight.cols as u32,
                width: self.width as u32,
                h_stride: self.h.dim(2),
                slots: slots as u32,
                expert_begin: (slab.row_begin / expert_rows) as u32,
                experts: experts as u32,
                norm_dim,
                eps,
            };
            let format = self.weight.format;
            let start_few = |slot| {
                let program = few(lanes, format, slot, self.norm.map(|norm| norm.gain.storage));
                let launch = Norm::bind(self.norm, Launch::new(program, params).read(self.x).write(self.h));
                launch.grid(self.width.div_ceil(lanes.rows()), slots, count)
            };
            let [tile_rows, tile_slots] = lanes.tile();
            // In matrices a tile's rows are gates and ups.
            let neurons = if lanes.coop.is_some() { tile_rows / 2 } else { tile_rows };
            let start_many = |tile, tiles| {
                let launch = Launch::new(many(lanes, format, tile), params).read(self.x).write(self.h);
                launch.grid(self.width.div_ceil(neurons), tiles, 1)
            };
            let launch = match self.slots {
                Slots::Single if self.rows.few => start_few(SLOT_SINGLE),
                Slots::Single => start_many(TILE_ROWS, count.div_ceil(tile_slots)).uniform_at(SLOT_BINDING, &self.rows.step),
                Slots::Routed(chosen) => start_few(SLOT_ROUTED).read_at(SLOT_BINDING, chosen),
                Slots::Sorted(tiles, order) => {
                    let launch = start_many(TILE_SORTED, super::tile_bound(count * slots, all_experts));
                    launch.read_at(SLOT_BINDING, tiles).read_at(ORDER_BINDING, order)
                }
            };
            // Of all experts only the chosen ones are read; each slab is expected to hold its share.
            let read = (count * slots).min(all_experts) as u64 * expert_rows as u64 * self.weight.row_bytes() * experts as u64
                / all_experts as u64;
            let flops = 2 * (count * slots * expert_rows * self.weight.cols * experts / all_experts) as u64;
            let x_bytes = 4 * (count * self.weight.cols) as u64;
            bind_weight(launch, slab).reads(read + x_bytes).writes(4 * (count * slots * self.width) as u64).flops(flops)
        };
        self.weight.slabs.iter().map(launch).collect()
    }
}

/// One slot: `silu(gate x) * (up x)`, gate and up each `[width, x.len()]`, one after the other.
pub fn reference(x: &[f32], gate_up: &[f32]) -> Vec<f32> {
    let (gate, up) = gate_up.split_at(gate_up.len() / 2);
    let silu = |v: f64| v / (1.0 + (-v).exp());
    let neuron = |(gate, up): (&[f32], &[f32])| (silu(dot(gate, x)) * dot(up, x)) as f32;
    gate.chunks(x.len()).zip(up.chunks(x.len())).map(neuron).collect()
}

/// What a case of either half varies; with one expert that every row takes, `routing` is none.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    pub format: WeightFormat,
    pub count: usize,
    pub live: usize,
    pub hidden: usize,
    pub width: usize,
    pub top_k: usize,
    pub experts: usize,
    pub slab_experts: usize,
    pub routing: Option<Routing>,
    pub normed: bool,
}

impl Variant {
    /// Rows: room and live; then hidden × width; then top of experts.
    pub fn routed(format: WeightFormat, rows: [usize; 2], [hidden, width]: [usize; 2], [top_k, experts]: [usize; 2]) -> Self {
        let [count, live] = rows;
        Self { format, count, live, hidden, width, top_k, experts, slab_experts: experts, routing: Some(Routing::Random), normed: false }
    }

    fn single(format: WeightFormat, rows: [usize; 2], shape: [usize; 2]) -> Self {
        Self { routing: None, ..Self::routed(format, rows, shape, [1, 1]) }
    }

    pub fn name(&self) -> String {
        let Self { format, count, live, hidden, width, top_k, experts, slab_experts, routing, normed } = self;
        let slots = routing.map(|routing| format!(" top {top_k} of {experts} {routing:?}, {slab_experts} a slab")).unwrap_or_default();
        let normed = if *normed { ", normed" } else { "" };
        format!("{live} of {count} rows, {hidden}×{width}{slots} {format}{normed}")
    }
}

fn case(variant: Variant) -> Case {
    let Variant { format, count, live, hidden, width, top_k, experts, slab_experts, routing, normed } = variant;
    Case::new(format!("ffn_up {}", variant.name()), move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(31);
        let expert_rows = 2 * width;
        let shape = [experts * expert_rows, hidden];
        let (weight, numbers) = rng.weight_in_slabs(gpu, format, shape, expert_rows, slab_experts * expert_rows)?;
        // Sums about as large as silu bends.
        let cols = weight.cols;
        let size = if normed { 1.0 } else { 8.0 / (cols as f32).sqrt() };
        let x: Vec<f32> = rng.padded(count, hidden, cols).iter().map(|v| v * size).collect();
        let gain: Vec<f32> = rng.padded(1, hidden, cols).iter().map(|v| v * 4.0 / (cols as f32).sqrt()).collect();
        let eps = 1e-3;
        let chosen = routing.unwrap_or(Routing::Even).choose(&mut rng, count, top_k, experts);
        let stride = width.next_multiple_of(super::BLOCK_COLS);
        let mut expected = vec![f32::from_bits(UNTOUCHED); count * top_k * stride];
        for slot in 0..live * top_k {
            let gate_up = &numbers[chosen[slot] as usize * expert_rows * cols..][..expert_rows * cols];
            let x = &x[slot / top_k * cols..][..cols];
            let x = if normed { rms_norm::reference(x, &gain, hidden, eps) } else { x.to_vec() };
            expected[slot * stride..][..width].copy_from_slice(&reference(&x, gate_up));
        }
        let (x, gain) = (stage.quads(&[count, cols], &x)?, stage.quads(&[cols], &gain)?);
        let (order, tiles) = moe_sort::reference(&chosen[..live * top_k], experts);
        let (order, tiles) = moe_sort::uploaded(&stage, order, tiles, count * top_k, experts)?;
        let chosen = stage.u32(&[count, top_k], &chosen)?;
        let h = stage.fresh_quads(&[count + 1, top_k, stride])?;
        let rows = stage.rows(count, live)?;
        let slots = match routing {
            None => Slots::Single,
            Some(_) if rows.few => Slots::Routed(&chosen),
            Some(_) => Slots::Sorted(&tiles, &order),
        };
        let norm = normed.then_some(Norm { gain: &gain, dim: hidden, eps });
        stage.run(FfnUp { x: &x, norm, weight: &weight, h: &h, width, slots, rows: &rows });
        let exact = Check::Nmse(1e-11, "f32 sums and exp");
        let check = if rows.few { exact } else { coop::check_of(gpu, "ffn_up_tiled", exact, 1e-6) };
        stage.expect("h", &h, &filled(&h, expected, width, stride), check);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    let routed = Variant::routed;
    let mut all = vec![routed(WeightFormat::Bf16, [2, 2], [96, 33], [2, 5])];
    for format in every_format_of_parts() {
        all.extend([routed(format, [1, 1], [160, 9], [2, 3]), routed(format, [16, 13], [160, 9], [2, 3])]);
    }
    for format in [WeightFormat::Fp8, WeightFormat::Affine { bits: 8, group: 128, scale: Scale::Bf16 }] {
        all.extend([Variant::single(format, [2, 2], [160, 7]), Variant::single(format, [16, 9], [160, 7])]);
    }
    all.extend([[1, 1], [7, 33], [33, 1]].map(|shape| Variant::single(WeightFormat::F32, [1, 1], shape)));
    all.extend((1..=super::FEW_ROWS).map(|count| routed(WeightFormat::Bf16, [count, count], [32, 5], [3, 7])));
    all.extend(every_format_of_parts().into_iter().map(|format| Variant { normed: true, ..routed(format, [3, 3], [160, 9], [2, 3]) }));
    all.extend([[7, 33], [33, 1], [2100, 8]].map(|shape| Variant { normed: true, ..Variant::single(WeightFormat::F32, [2, 2], shape) }));
    let bf16 = |rows, top| routed(WeightFormat::Bf16, rows, [64, 19], top);
    for routing in [Routing::Same, Routing::Even].map(Some) {
        all.push(Variant { routing, ..bf16([24, 24], [1, 24]) });
        all.push(Variant { routing, ..bf16([128, 70], [2, 6]) });
    }
    all.extend([[2, 2], [16, 16]].map(|rows| Variant { slab_experts: 2, ..bf16(rows, [3, 5]) }));
    let mlx = WeightFormat::Affine { bits: 4, group: 64, scale: Scale::Bf16 };
    let gguf = WeightFormat::Affine { bits: 4, group: 32, scale: Scale::F16 };
    all.push(routed(mlx, [1, 1], [2048, 88], [2, 3]));
    // 64 rows of 32 experts: as many slots an expert as 128 rows of V2-Lite's 64 have.
    let timed = [
        Variant::single(gguf, [1, 1], [576, 1536]),
        Variant::single(gguf, [128, 128], [576, 1536]),
        routed(mlx, [1, 1], [2048, 1408], [6, 8]),
        routed(mlx, [64, 64], [2048, 1408], [6, 32]),
    ];
    let tuned = [
        case(routed(gguf, [1, 1], [2048, 352], [6, 6])).bench().tunes(Job::Product, "ffn_up"),
        case(routed(gguf, [32, 32], [1024, 256], [4, 8])).bench().tunes(Job::Tiles, "ffn_up_tiled"),
    ];
    all.into_iter().map(case).chain(timed.map(|variant| case(variant).bench())).chain(tuned).collect()
}
