//! What a device can do, decided once at start.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An optional ability that kernels may lean on, each with a kill switch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Feature {
    Subgroups,
    F16,
    Coop,
    Images,
    Barriers,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Subgroups => "subgroups",
            Self::F16 => "f16",
            Self::Coop => "coop",
            Self::Images => "images",
            Self::Barriers => "barriers",
        };
        f.write_str(name)
    }
}

/// The kill switches: `--disable subgroups,f16,coop,images,barriers`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disabled(pub Vec<Feature>);

impl FromStr for Disabled {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        let parse = |word: &str| match word.trim() {
            "subgroups" => Ok(Feature::Subgroups),
            "f16" => Ok(Feature::F16),
            "coop" => Ok(Feature::Coop),
            "images" => Ok(Feature::Images),
            "barriers" => Ok(Feature::Barriers),
            other => Err(format!("--disable: expected any of subgroups, f16, coop, images, barriers; found {other:?}")),
        };
        list.split(',').filter(|word| !word.trim().is_empty()).map(parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Matrices that a subgroup multiplies as a whole: both of one edge, their numbers in half or single precision, summed in single.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CoopShape {
    F32_8,
    F16_8,
    F16_16,
}

impl CoopShape {
    pub const ALL: [Self; 3] = [Self::F32_8, Self::F16_8, Self::F16_16];

    pub fn edge(self) -> u32 {
        if self == Self::F16_16 { 16 } else { 8 }
    }

    pub fn is_f16(self) -> bool {
        self != Self::F32_8
    }
}

impl fmt::Display for CoopShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{0}×{0} {1}", self.edge(), if self.is_f16() { "f16" } else { "f32" })
    }
}

/// Abilities and limits of one opened device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Caps {
    pub adapter: String,
    pub backend: String,
    pub driver: String,
    /// A software adapter: lanes are SIMD lanes of a few CPU cores.
    pub is_cpu: bool,
    pub subgroups: bool,
    pub f16: bool,
    /// Cooperative matrices of these shapes.
    pub coop: Vec<CoopShape>,
    /// Timestamp queries, for `bench kernels`.
    pub timestamps: bool,
    /// Nanoseconds of one timestamp tick.
    pub timestamp_period_ns: f32,
    /// Weights and activations lie in images and lanes share what they read: the way of software adapters.
    pub images: bool,
    /// Lanes of a product may wait for each other: cheap everywhere but on software adapters of few lanes, such as browsers'.
    pub barriers: bool,
    /// Rows that an image may have.
    pub max_image_rows: u32,
    pub subgroup_min: u32,
    pub subgroup_max: u32,
    pub max_binding_bytes: u64,
    pub max_buffer_bytes: u64,
    pub max_workgroups: u32,
    pub max_shared_bytes: u32,
    pub uniform_alignment: u32,
}

impl Caps {
    /// `core`, or `core + subgroups + f16`, say.
    pub fn tier(&self) -> String {
        let coop = !self.coop.is_empty();
        let gains = [(self.subgroups, " + subgroups"), (self.f16, " + f16"), (coop, " + coop"), (self.images, " + images")];
        gains.iter().filter(|(has, _)| *has).fold("core".to_string(), |tier, (_, name)| tier + name)
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.adapter, self.backend, self.tier())
    }
}
