//! The kernels: each a WGSL file under `shaders/` and a Rust file of the same stem with its formula, launch, CPU twin and cases.
//!
//! Knows arrays and formats, not models: which kernel follows which is `model/forward.rs`'s business.

mod case;
mod coop;
mod copy;
mod embed;
mod ffn_down;
mod ffn_up;
mod lanes;
mod latent_cache;
mod linear;
mod mla_attention;
mod mla_enter;
mod moe_combine;
mod moe_route;
mod moe_sort;
mod peak;
mod rms_norm;
mod sample;
mod self_test;
mod top_candidates;
mod tune;
mod weight;

pub use case::{Case, Check, Output, Prepared, UNTOUCHED};
pub use copy::Copy;
pub use embed::Embed;
pub use ffn_down::FfnDown;
pub use ffn_up::{FfnUp, Slots};
pub use lanes::{Job, Lanes};
pub use latent_cache::{CacheFormat, LatentCache};
pub use linear::{Linear, Norm};
pub use mla_attention::MlaAttention;
pub use mla_enter::{Absorption, MlaEnter};
pub use moe_combine::MoeCombine;
pub use moe_route::{GroupScore, MAX_EXPERTS, MoeRoute, RouterInput, RouterSettings, Scoring};
pub use moe_sort::{MoeSort, tile_bound};
pub use peak::limits;
pub use rms_norm::RmsNorm;
pub use sample::{SAMPLING_WORDS, Sample};
pub use self_test::{TurnedOff, open_tested, self_test};
pub use top_candidates::{CANDIDATES, NO_CANDIDATE, TopCandidates};
pub use tune::{Tuned, Tuner};
pub use weight::{BLOCK_COLS, Slab, Weight, WeightWriter, every_format};

use crate::gpu::{Launch, Part, Program, Tensor};
use crate::wgsl;

/// Up to this many rows a step uses the few-rows kernels, whose sums do not depend on the rows beside them.
pub const FEW_ROWS: usize = 8;

/// Slots that a tile of the grouped products holds, and tokens that a tile of `matmul` holds.
pub const TILE: usize = 8;

/// The same for products in cooperative matrices; `moe_sort` lists both.
pub const WIDE_TILE: usize = 32;

/// Positions in a page of the latent cache.
pub const PAGE: usize = 64;

/// Rows that a step may have: what a uniform has room for everywhere.
pub const MAX_ROWS: usize = 1024;

/// The token of a [`BatchRow`] that stands for the sequence's last sampled one.
pub const SAMPLED: u32 = u32::MAX;

/// A row of a step, as `parts/batch.wgsl` has it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct BatchRow {
    pub token: u32,
    pub position: u32,
    pub sequence: u32,
    /// Its place in the latent cache.
    pub entry: u32,
}

/// `bound`, for loops whose bounds are params.
const BOUND: Part = wgsl!("parts/bound.wgsl");

const BATCH: Part = wgsl!("parts/batch.wgsl");
const BATCH_BINDING: u32 = 12;

fn with_batch(program: Program) -> Program {
    program.with(BATCH).set("MAX_ROWS", MAX_ROWS as u32)
}

fn bind_batch(launch: Launch, batch: &Tensor) -> Launch {
    launch.uniform_at(BATCH_BINDING, batch)
}

/// The rows of a step: how many a recording has room for, and where the device reads how many are live.
#[derive(Clone)]
pub struct Rows {
    /// Above [`FEW_ROWS`] a multiple of [`TILE`].
    pub count: usize,
    /// The few-rows kernels are used.
    pub few: bool,
    /// Uniform: live rows, live outputs, 0, 0.
    pub step: Tensor,
}

/// What a kernel's file declares for tests and benches.
struct Source {
    programs: fn() -> Vec<Program>,
    cases: fn() -> Vec<Case>,
}

/// All kernels.
const SOURCES: &[Source] = &[
    Source { programs: copy::programs, cases: copy::cases },
    Source { programs: embed::programs, cases: embed::cases },
    Source { programs: ffn_down::programs, cases: ffn_down::cases },
    Source { programs: ffn_up::programs, cases: ffn_up::cases },
    Source { programs: linear::programs, cases: linear::cases },
    Source { programs: mla_attention::programs, cases: mla_attention::cases },
    Source { programs: mla_enter::programs, cases: mla_enter::cases },
    Source { programs: moe_combine::programs, cases: moe_combine::cases },
    Source { programs: moe_route::programs, cases: moe_route::cases },
    Source { programs: moe_sort::programs, cases: moe_sort::cases },
    Source { programs: peak::programs, cases: peak::cases },
    Source { programs: rms_norm::programs, cases: rms_norm::cases },
    Source { programs: sample::programs, cases: sample::cases },
    Source { programs: top_candidates::programs, cases: top_candidates::cases },
];

/// Programs of every kernel in every combination of parts. What remains to be asked for at run time differs from one of these
/// in a constant, or joins parts that do not meet in the text: a bias and a weight format.
pub fn every_program() -> Vec<Program> {
    SOURCES.iter().flat_map(|source| (source.programs)()).collect()
}

/// Every kernel with sizes, inputs, right answers and tolerances.
pub fn cases() -> Vec<Case> {
    SOURCES.iter().flat_map(|source| (source.cases)()).collect()
}
