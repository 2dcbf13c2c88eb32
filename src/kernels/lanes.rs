//! How a workgroup's lanes share rows, columns and what they read: the choice between parts of one interface.

use crate::gpu::{Gpu, Part, Program, Storage};
use crate::wgsl;

const SUM_SHARED: Part = wgsl!("parts/sum_shared.wgsl");
const SUM_SUBGROUP: Part = wgsl!("parts/sum_subgroup.wgsl", Subgroups);
const SUM_LANE: Part = wgsl!("parts/sum_lane.wgsl", Subgroups);
const SUM_ALONE: Part = wgsl!("parts/sum_alone.wgsl");
const X_EACH: Part = wgsl!("parts/x_each.wgsl");
const X_SHARED: Part = wgsl!("parts/x_shared.wgsl", Subgroups);
const NORM_NONE: Part = wgsl!("parts/norm_none.wgsl");
const NORM_EACH: Part = wgsl!("parts/norm_each.wgsl");
const NORM_SHARED: Part = wgsl!("parts/norm_shared.wgsl");

/// Where the `norm_*` parts bind the norm's weight.
pub(super) const GAIN_BINDING: u32 = 15;

/// How lanes divide rows and bring their sums together.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    pub workgroup: u32,
    /// Lanes that share a row.
    pub columns: u32,
    /// The workgroup is one subgroup of eight lanes that share what they read, each with rows of its own: on a software adapter
    /// a read costs far more than sharing.
    pub shares: bool,
    sum: Part,
}

impl Lanes {
    const SHARED: Self = Self { workgroup: 64, columns: 64, shares: false, sum: SUM_SHARED };
    const SUBGROUP: Self = Self { workgroup: 64, columns: 64, shares: false, sum: SUM_SUBGROUP };
    const EIGHT: Self = Self { workgroup: 8, columns: 1, shares: true, sum: SUM_LANE };

    /// Where barriers cost far more than reading does: a browser's software adapter.
    const ALONE: Self = Self { workgroup: 4, columns: 1, shares: false, sum: SUM_ALONE };

    /// The same for what lanes must share: four wait for each other at little cost there, 64 do not.
    const FOUR: Self = Self { workgroup: 4, columns: 4, shares: false, sum: SUM_SHARED };

    /// Those of attention, whose lanes share a row's past.
    pub const ATTENTION: [Self; 4] = [Self::SHARED, Self::SUBGROUP, Self::EIGHT, Self::FOUR];

    pub const ALL: [Self; 3] = [Self::SHARED, Self::SUBGROUP, Self::EIGHT];

    /// Those of products, which sum over columns only.
    pub const PRODUCTS: [Self; 4] = [Self::SHARED, Self::SUBGROUP, Self::EIGHT, Self::ALONE];

    pub fn of(gpu: &Gpu) -> Self {
        match gpu.caps() {
            caps if caps.images => Self::EIGHT,
            caps if caps.subgroups => Self::SUBGROUP,
            _ => Self::SHARED,
        }
    }

    /// For products.
    pub fn of_product(gpu: &Gpu) -> Self {
        let caps = gpu.caps();
        if caps.images || caps.barriers { Self::of(gpu) } else { Self::ALONE }
    }

    /// For attention over latents of so many numbers.
    pub fn of_attention(gpu: &Gpu, latent: usize) -> Self {
        let caps = gpu.caps();
        if caps.images || caps.barriers || !Self::FOUR.hold(latent) { Self::of(gpu) } else { Self::FOUR }
    }

    /// Whether they can hold the sums of so many latent numbers: four lanes of few.
    pub fn hold(self, latent: usize) -> bool {
        self.workgroup >= 8 || latent <= 128
    }

    /// Those whose workgroup goes through a row as a whole.
    pub const WHOLE: [Self; 2] = [Self::SHARED, Self::SUBGROUP];

    /// Many lanes for one row, whatever they share: the more lanes, the fewer numbers each sums.
    pub fn whole(gpu: &Gpu) -> Self {
        if gpu.caps().subgroups { Self::SUBGROUP } else { Self::SHARED }
    }

    /// What weights and most activations lie in where lanes work this way.
    pub fn storage(self) -> Storage {
        if self.shares { Storage::Image } else { Storage::Buffer }
    }

    /// Rows of a weight that a workgroup takes with few rows of x, four a lane.
    pub fn rows(self) -> usize {
        4 * (self.workgroup / self.columns) as usize
    }

    /// Parts of a row's past that attention goes through side by side with few rows: two cores, or a GPU's many.
    pub fn splits(self) -> usize {
        if self.shares { 2 } else { 8 }
    }

    /// Lanes of a workgroup in which each lane owns whole rows.
    pub fn row_lanes(self) -> usize {
        self.workgroup.min(32) as usize
    }

    /// Adds sums and maxima over the lanes.
    pub fn apply(self, program: Program) -> Program {
        program.with(self.sum).set("WORKGROUP_SIZE", self.workgroup).set("COL_LANES", self.columns)
    }

    /// Adds how a block of x is read.
    pub fn with_x(self, program: Program) -> Program {
        program.with(if self.shares { X_SHARED } else { X_EACH })
    }

    /// Adds how a block of x is read and, with the storage of its weight, normalised on the way.
    pub fn with_input(self, program: Program, gain: Option<Storage>) -> Program {
        let program = self.with_x(program);
        match gain {
            None => program.with(NORM_NONE),
            Some(storage) => program.with(if self.shares { NORM_SHARED } else { NORM_EACH }).quads_at(GAIN_BINDING, "gain", storage),
        }
    }
}
