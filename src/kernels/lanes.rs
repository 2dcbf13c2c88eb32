//! How a workgroup's lanes share a row's columns: the choice between parts of one interface.

use crate::gpu::{Gpu, Part, Program};
use crate::wgsl;

const SUM_SHARED: Part = wgsl!("parts/sum_shared.wgsl");
const SUM_SUBGROUP: Part = wgsl!("parts/sum_subgroup.wgsl", Subgroups);
const SUM_LANE: Part = wgsl!("parts/sum_lane.wgsl");
const X_DIRECT: Part = wgsl!("parts/x_direct.wgsl");
const X_BROADCAST: Part = wgsl!("parts/x_broadcast.wgsl", Subgroups);
const ALPHA_DIRECT: Part = wgsl!("parts/alpha_direct.wgsl");
const ALPHA_BROADCAST: Part = wgsl!("parts/alpha_broadcast.wgsl", Subgroups);

/// How lanes get a block of x that all of them want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XSource {
    /// Each reads it: caches make that cheap on real GPUs.
    Direct,
    /// Eight lanes read a quad each and the subgroup shares them: on a software adapter a read costs far more than sharing.
    Broadcast,
}

impl XSource {
    pub fn of(gpu: &Gpu) -> Self {
        let caps = gpu.caps();
        if caps.is_cpu && caps.subgroups && caps.subgroup_min >= 8 { Self::Broadcast } else { Self::Direct }
    }

    pub const ALL: [Self; 2] = [Self::Direct, Self::Broadcast];

    pub fn with_x(self, program: Program) -> Program {
        program.with(if self == Self::Direct { X_DIRECT } else { X_BROADCAST })
    }

    pub fn with_alpha(self, program: Program) -> Program {
        program.with(if self == Self::Direct { ALPHA_DIRECT } else { ALPHA_BROADCAST })
    }

    /// Lanes of a workgroup in which each lane owns whole rows.
    pub fn row_lanes(self) -> usize {
        if self == Self::Direct { 32 } else { 8 }
    }
}

/// How lanes divide a row and bring its sum together.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    pub workgroup: u32,
    /// Lanes that share a row.
    pub columns: u32,
    sum: Part,
}

impl Lanes {
    const SHARED: Self = Self { workgroup: 64, columns: 64, sum: SUM_SHARED };
    const SUBGROUP: Self = Self { workgroup: 64, columns: 64, sum: SUM_SUBGROUP };
    const EACH: Self = Self { workgroup: 8, columns: 1, sum: SUM_LANE };

    /// For kernels whose workgroup reduces as a whole.
    pub fn whole(gpu: &Gpu) -> Self {
        if gpu.caps().subgroups { Self::SUBGROUP } else { Self::SHARED }
    }

    /// As [`whole`](Self::whole) with no more lanes than `count` things keep busy: llvmpipe is slow where lanes idle in loops.
    pub fn whole_of(gpu: &Gpu, count: usize) -> Self {
        let lanes = Self::SIZES.into_iter().find(|&lanes| lanes as usize >= count).unwrap_or(64);
        Self::whole(gpu).sized(lanes)
    }

    /// Workgroup sizes of [`whole_of`](Self::whole_of).
    pub const SIZES: [u32; 4] = [8, 16, 32, 64];

    pub fn sized(self, lanes: u32) -> Self {
        Self { workgroup: lanes, columns: lanes, ..self }
    }

    pub const WHOLE: [Self; 2] = [Self::SHARED, Self::SUBGROUP];

    /// For products with a few rows of x, with the way they get x.
    pub fn matvec(gpu: &Gpu) -> (Self, XSource) {
        match XSource::of(gpu) {
            XSource::Broadcast => (Self::EACH, XSource::Broadcast),
            XSource::Direct => (Self::whole(gpu), XSource::Direct),
        }
    }

    pub const MATVEC: [(Self, XSource); 3] =
        [(Self::SHARED, XSource::Direct), (Self::SUBGROUP, XSource::Direct), (Self::EACH, XSource::Broadcast)];

    /// Rows of a weight that a workgroup takes, four a lane.
    pub fn rows(&self) -> usize {
        4 * (self.workgroup / self.columns) as usize
    }

    pub fn apply(self, program: Program) -> Program {
        program.with(self.sum).set("WORKGROUP_SIZE", self.workgroup).set("COL_LANES", self.columns)
    }
}
