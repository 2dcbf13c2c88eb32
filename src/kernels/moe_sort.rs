//! Groups the slots of many rows by expert and lists tiles of one expert's slots, for the grouped products.

use super::case::{Case, Check, Rng, Stage, UNTOUCHED};
use super::{MAX_EXPERTS, Rows, TILE, WIDE_TILE};
use crate::gpu::{Gpu, GpuError, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("moe_sort.wgsl");

pub struct MoeSort<'a> {
    /// `[rows, top_k]`
    pub chosen: &'a Tensor,
    /// Slots by expert, `[rows * top_k]`
    pub order: &'a Tensor,
    /// Expert, first in order, slots, slots of a wide tile: `[tile_bound, 4]`
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
    Program::new("moe_sort", Params::FIELDS, [BODY, super::BOUND]).set("WORKGROUP_SIZE", 64).set("MAX_EXPERTS", MAX_EXPERTS as u32)
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

/// The live slots by expert, and tiles: expert, first in order, slots, slots of a wide tile.
pub fn reference(chosen: &[u32], experts: usize) -> (Vec<u32>, Vec<[u32; 4]>) {
    let (mut order, mut tiles) = (vec![], vec![]);
    for expert in 0..experts as u32 {
        let begin = order.len();
        order.extend((0..chosen.len() as u32).filter(|&slot| chosen[slot as usize] == expert));
        for first in (begin..order.len()).step_by(TILE) {
            let left = order.len() - first;
            let wide = if (first - begin).is_multiple_of(WIDE_TILE) { WIDE_TILE.min(left) } else { 0 };
            tiles.push([expert, first as u32, TILE.min(left) as u32, wide as u32]);
        }
    }
    (order, tiles)
}

/// How rows of a case choose among experts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Routing {
    /// Distinct experts at random.
    Random,
    /// All rows the same experts.
    Same,
    /// As even as can be.
    Even,
}

impl Routing {
    /// Distinct experts in ascending order for each row.
    pub fn choose(self, rng: &mut Rng, rows: usize, top_k: usize, experts: usize) -> Vec<u32> {
        let row = |row: usize| {
            let mut row: Vec<u32> = match self {
                Self::Random => rng.shuffled(experts)[..top_k].to_vec(),
                Self::Same => (experts - top_k..experts).map(|e| e as u32).collect(),
                Self::Even => (0..top_k).map(|k| ((row * top_k + k) % experts) as u32).collect(),
            };
            row.sort_unstable();
            row
        };
        (0..rows).flat_map(row).collect()
    }
}

/// A sorted step's order and tiles on the device, with the room that `slots` slots may need.
pub(super) fn uploaded(
    stage: &Stage,
    mut order: Vec<u32>,
    mut tiles: Vec<[u32; 4]>,
    slots: usize,
    experts: usize,
) -> Result<(Tensor, Tensor), GpuError> {
    order.resize(slots, UNTOUCHED);
    tiles.resize(tile_bound(slots, experts), [0; 4]);
    Ok((stage.u32(&[slots], &order)?, stage.u32(&[tiles.len(), 4], tiles.as_flattened())?))
}

fn case(routing: Routing, count: usize, live: usize, top_k: usize, experts: usize) -> Case {
    Case::new(format!("moe_sort {live} of {count} rows, top {top_k} of {experts}, {routing:?}"), move |gpu| {
        let mut stage = Stage::new(gpu);
        let chosen = routing.choose(&mut Rng(17), count, top_k, experts);
        let (expected, mut tiles) = reference(&chosen[..live * top_k], experts);
        let bound = tile_bound(count * top_k, experts);
        // Tiles beyond the needed are cleared to the end of the list: a replay may find an earlier step's.
        tiles.resize(bound + 1, [0; 4]);
        let chosen = stage.u32(&[count, top_k], &chosen)?;
        let (order, tile_list) = (stage.fresh_u32(&[count * top_k])?, stage.fresh_u32(&[bound + 1, 4])?);
        stage.run(MoeSort { chosen: &chosen, order: &order, tiles: &tile_list, experts, rows: &stage.rows(count, live)? });
        stage.expect_u32("order", &order, &expected, Check::Exact);
        stage.expect_u32("tiles", &tile_list, tiles.as_flattened(), Check::Exact);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(Routing::Random, 16, 11, 3, 9),
        case(Routing::Same, 16, 16, 1, 1),
        case(Routing::Same, 24, 23, 2, 7),
        case(Routing::Even, 64, 64, 4, 64),
        case(Routing::Random, 128, 100, 8, 384),
        case(Routing::Random, 512, 512, 6, 64).bench(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_routing_needs_more_tiles_than_the_bound() {
        for experts in 1..40 {
            for slots in 1..200usize {
                // Most tiles: a slot for each expert, then expert after expert one past a full tile.
                let spread = slots.min(experts);
                let most = spread + (slots - spread) / TILE;
                assert!(most <= tile_bound(slots, experts), "{slots} slots, {experts} experts");
            }
        }
    }
}
