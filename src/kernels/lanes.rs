//! How a workgroup's lanes share rows, columns and what they read: the choice between parts of one interface.

use super::{TILE, WIDE_TILE, coop};
use crate::gpu::{Caps, CoopShape, Field, Gpu, Part, Program, Storage};
use crate::wgsl;
use std::fmt;

const TILE_DOTS: Part = wgsl!("parts/tile_dots.wgsl");
const SUM_SHARED: Part = wgsl!("parts/sum_shared.wgsl");
const SUM_SUBGROUP: Part = wgsl!("parts/sum_subgroup.wgsl", Subgroups);
const SUM_SHUFFLE: Part = wgsl!("parts/sum_shuffle.wgsl", Subgroups);
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lanes {
    pub workgroup: u32,
    /// Lanes that share a row.
    pub columns: u32,
    /// The workgroup is one subgroup of eight lanes that share what they read, each with rows of its own: on a software adapter
    /// a read costs far more than sharing.
    pub shares: bool,
    sum: Part,
    /// Products of many rows in cooperative matrices.
    pub coop: Option<CoopShape>,
}

/// Kinds of work whose lanes may be chosen by measuring (`tune`), what a decoded token needs first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Job {
    /// A product with few rows of x.
    Product,
    /// Attention, whose lanes share a row's past.
    Attention,
    /// A product with many rows, in tiles: a lane has whole rows of the weight.
    Tiles,
}

impl Lanes {
    const SHARED: Self = Self { workgroup: 64, columns: 64, shares: false, sum: SUM_SHARED, coop: None };
    const SUBGROUP: Self = Self { workgroup: 64, columns: 64, shares: false, sum: SUM_SUBGROUP, coop: None };
    const SHUFFLE: Self = Self { workgroup: 64, columns: 8, shares: false, sum: SUM_SHUFFLE, coop: None };
    const EIGHT: Self = Self { workgroup: 8, columns: 1, shares: true, sum: SUM_LANE, coop: None };
    const TILED: Self = Self { workgroup: 32, columns: 1, shares: false, sum: SUM_ALONE, coop: None };

    /// Where barriers cost far more than reading does: a browser's software adapter.
    const ALONE: Self = Self { workgroup: 4, columns: 1, shares: false, sum: SUM_ALONE, coop: None };

    /// The same for what lanes must share: four wait for each other at little cost there, 64 do not.
    const FOUR: Self = Self { workgroup: 4, columns: 4, shares: false, sum: SUM_SHARED, coop: None };

    /// Those of attention, whose lanes share a row's past.
    pub const ATTENTION: [Self; 4] = [Self::SHARED, Self::SUBGROUP, Self::EIGHT, Self::FOUR];

    pub const ALL: [Self; 3] = [Self::SHARED, Self::SUBGROUP, Self::EIGHT];

    /// Those of products, which sum over columns only.
    pub const PRODUCTS: [Self; 5] = [Self::SHARED, Self::SUBGROUP, Self::SHUFFLE, Self::EIGHT, Self::ALONE];

    /// Those of products of many rows.
    pub const TILES: [Self; 3] = [Self::TILED, Self::EIGHT, Self::ALONE];

    /// Products of many rows in cooperative matrices of a shape, on subgroups of at most so many lanes.
    pub fn in_matrices(shape: CoopShape, subgroup: u32) -> Self {
        Self { workgroup: shape.subgroups() * subgroup, columns: 1, coop: Some(shape), ..Self::TILED }
    }

    /// Those of products of many rows, in every way.
    pub fn every_tiles() -> Vec<Self> {
        let coop = CoopShape::ALL.map(|shape| Self::in_matrices(shape, 32));
        Self::TILES.into_iter().chain(coop).collect()
    }

    /// For what is not a [`Job`].
    pub fn of(gpu: &Gpu) -> Self {
        Self::plain(gpu.caps())
    }

    fn plain(caps: &Caps) -> Self {
        match caps {
            caps if caps.images => Self::EIGHT,
            caps if caps.subgroups => Self::SUBGROUP,
            _ => Self::SHARED,
        }
    }

    /// For a product of few rows by the kernel of this name.
    pub fn of_product(gpu: &Gpu, kernel: &str) -> Self {
        Self::chosen(gpu, Job::Product, kernel)
    }

    /// For a product of many rows by the kernel of this name.
    pub fn of_tiles(gpu: &Gpu, kernel: &str) -> Self {
        Self::chosen(gpu, Job::Tiles, kernel)
    }

    /// The same where nothing may be rounded on the way.
    pub fn of_exact_tiles(gpu: &Gpu, kernel: &str) -> Self {
        let lanes = Self::of_tiles(gpu, kernel);
        if lanes.coop.is_some_and(CoopShape::is_f16) { Self::usual(Job::Tiles, gpu.caps()) } else { lanes }
    }

    /// For attention over latents of so many numbers.
    pub fn of_attention(gpu: &Gpu, latent: usize) -> Self {
        let lanes = Self::chosen(gpu, Job::Attention, "mla_attention");
        if lanes.hold(latent) { lanes } else { Self::of(gpu) }
    }

    /// What was measured to be best, or the usual.
    fn chosen(gpu: &Gpu, job: Job, kernel: &str) -> Self {
        let named = |name: String| Self::candidates(job, gpu.caps()).into_iter().find(|lanes| lanes.to_string() == name);
        gpu.choice(kernel).and_then(named).unwrap_or_else(|| Self::usual(job, gpu.caps()))
    }

    /// What is good where nothing was measured.
    fn usual(job: Job, caps: &Caps) -> Self {
        match job {
            _ if caps.images => Self::EIGHT,
            Job::Product | Job::Tiles if !caps.barriers => Self::ALONE,
            Job::Attention if !caps.barriers => Self::FOUR,
            Job::Tiles => Self::TILED,
            Job::Product | Job::Attention => Self::plain(caps),
        }
    }

    /// All that may be best on such a device, the usual first.
    pub fn candidates(job: Job, caps: &Caps) -> Vec<Self> {
        let usual = Self::usual(job, caps);
        // Where weights lie in images, lanes share them in one way.
        if caps.images {
            return vec![usual];
        }
        let of = |lanes: Self, workgroup: u32, columns: u32| Self { workgroup, columns, ..lanes };
        let others = match job {
            Job::Product => {
                let shuffled = [8, 16, 32].into_iter().filter(|&columns| caps.subgroups && columns <= caps.subgroup_min);
                let shuffled = shuffled.map(|columns| of(Self::SHUFFLE, 64, columns));
                let shared = [64, 16, 4].into_iter().filter(|_| caps.barriers).map(|columns| of(Self::SHARED, 64, columns));
                let alone = [4, 16].into_iter().filter(|_| caps.is_cpu).map(|workgroup| of(Self::ALONE, workgroup, 1));
                shuffled.chain(shared).chain(alone).collect::<Vec<_>>()
            }
            Job::Tiles => {
                let least = if caps.is_cpu { 4 } else { 16 };
                let plain = [4, 8, 16, 32, 64].into_iter().filter(|&lanes| lanes >= least).map(|lanes| of(Self::TILED, lanes, 1));
                // Where a subgroup turns out smaller, there are more than are needed.
                let coop = caps.coop.iter().map(|&shape| Self::in_matrices(shape, caps.subgroup_max));
                plain.chain(coop.filter(|lanes| lanes.workgroup <= 256)).collect()
            }
            Job::Attention => {
                let wide = |lanes: Self| [32, 64, 128].map(|workgroup| of(lanes, workgroup, workgroup));
                let subgroups = wide(Self::SUBGROUP).into_iter().filter(|_| caps.subgroups && caps.barriers);
                let shared = wide(Self::SHARED).into_iter().filter(|_| caps.barriers);
                subgroups.chain(shared).chain(caps.is_cpu.then_some(Self::FOUR)).collect()
            }
        };
        std::iter::once(usual).chain(others.into_iter().filter(|lanes| *lanes != usual)).collect()
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

    /// Rows of a weight that a workgroup takes with many rows of x, and of those how many.
    pub fn tile(self) -> [usize; 2] {
        self.coop.map_or([4 * self.workgroup as usize, TILE], |shape| [shape.rows(), WIDE_TILE])
    }

    /// Parts of a row's past that attention goes through side by side with few rows: two cores, or a GPU's many.
    pub fn splits(self) -> usize {
        if self.shares { 2 } else { 8 }
    }

    /// Adds sums and maxima over the lanes.
    pub fn apply(self, program: Program) -> Program {
        program.with(self.sum).set("WORKGROUP_SIZE", self.workgroup).set("COL_LANES", self.columns)
    }

    /// A product of many rows by the body that is plain or the one in cooperative matrices, each with its kernel's name.
    pub fn tiled(self, fields: &'static [Field], plain: (&'static str, Part), in_matrices: (&'static str, Part)) -> Program {
        let program = match self.coop {
            None => Program::new(plain.0, fields, [plain.1, TILE_DOTS]),
            Some(shape) => coop::with_tile(Program::new(in_matrices.0, fields, [in_matrices.1]), shape),
        };
        program.set("WORKGROUP_SIZE", self.workgroup)
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

impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shape) = self.coop {
            return write!(f, "{} lanes, matrices of {shape}", self.workgroup);
        }
        let way = match self.sum {
            sum if sum == SUM_SHARED => ", summed in workgroup memory",
            sum if sum == SUM_SUBGROUP => ", summed by subgroup",
            sum if sum == SUM_SHUFFLE => ", summed by shuffles",
            sum if sum == SUM_LANE => ", sharing what they read",
            _ => "",
        };
        write!(f, "{} lanes, {} a row{way}", self.workgroup, self.columns)
    }
}
