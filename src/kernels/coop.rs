//! Products of many rows in cooperative matrices (tensor cores, simdgroup matrices): what their kernels share.

use super::WIDE_TILE;
use super::case::Check;
use super::lanes::Lanes;
use crate::gpu::{CoopShape, Gpu, Part, Program};
use crate::wgsl;

const COOP_TILE: Part = wgsl!("parts/coop_tile.wgsl", Subgroups, Coop);
const TILE_F32: Part = wgsl!("parts/tile_f32.wgsl");
const TILE_F16: Part = wgsl!("parts/tile_f16.wgsl", F16);
const COOP_F32_8: Part = wgsl!("parts/coop_f32_8.wgsl");
const COOP_F16_8: Part = wgsl!("parts/coop_f16_8.wgsl", F16);
const COOP_F16_16: Part = wgsl!("parts/coop_f16_16.wgsl", F16);

impl CoopShape {
    /// Rows of a weight that a workgroup takes: with its slots, what core WebGPU's workgroup memory holds.
    pub fn rows(self) -> usize {
        if self == Self::F16_16 { 64 } else { 32 }
    }

    /// Each multiplies a strip of rows by two matrices of slots.
    pub fn subgroups(self) -> u32 {
        let edge = self.edge() as usize;
        (self.rows() / edge * (WIDE_TILE / (2 * edge))) as u32
    }
}

/// Adds a tile's products: `multiply_tile` and `sums_at`.
pub(super) fn with_tile(program: Program, shape: CoopShape) -> Program {
    let program = match shape {
        CoopShape::F32_8 => program.with(COOP_F32_8).with(TILE_F32),
        CoopShape::F16_8 => program.with(COOP_F16_8).with(TILE_F16),
        CoopShape::F16_16 => program.with(COOP_F16_16).with(TILE_F16),
    };
    program.with(COOP_TILE).set("ROWS", shape.rows() as u32).set("SLOTS", WIDE_TILE as u32)
}

/// How exact what this kernel computes is: `exact` where nothing is rounded, `rounded` where weights and x are.
pub(super) fn check_of(gpu: &Gpu, kernel: &str, exact: Check, rounded: f64) -> Check {
    match Lanes::of_tiles(gpu, kernel).coop {
        Some(shape) if shape.is_f16() => Check::Nmse(rounded, "weights and x rounded to f16"),
        _ => exact,
    }
}
