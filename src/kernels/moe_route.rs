//! The router: from logits to chosen experts and their weights, in every variant (DEEPSEEK.md §3.6).

use super::{Lanes, Rows};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("moe_route.wgsl");

/// Workgroup memory holds four numbers an expert.
pub const MAX_EXPERTS: usize = 768;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scoring {
    Softmax,
    Sigmoid,
}

/// What a group of experts counts for when groups are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupScore {
    /// Its best expert (V2).
    Best,
    /// The sum of its two best (V3).
    BestTwo,
}

pub struct MoeRoute<'a> {
    /// `[rows, experts]`
    pub logits: &'a Tensor,
    /// Added to scores for the choice alone, `[experts]`
    pub correction: &'a Tensor,
    /// Expert ids in ascending order, `[rows, top_k]`
    pub chosen: &'a Tensor,
    /// `[rows, top_k]`
    pub weights: &'a Tensor,
    pub scoring: Scoring,
    pub groups: usize,
    pub top_groups: usize,
    pub group_score: GroupScore,
    /// Weights are divided by their sum.
    pub normalise: bool,
    pub scaling: f32,
    pub rows: &'a Rows,
}

params!(
    /// As `moe_route.wgsl` has it.
    Params { experts: u32, top_k: u32, groups: u32, top_groups: u32, is_sigmoid: u32, group_by_two: u32, normalise: u32, scaling: f32 }
);

fn program(lanes: Lanes) -> Program {
    lanes.apply(Program::new("moe_route", Params::FIELDS, [BODY])).set("MAX_EXPERTS", MAX_EXPERTS as u32)
}

pub(super) fn programs() -> Vec<Program> {
    Lanes::WHOLE.map(program).to_vec()
}

impl Kernel for MoeRoute<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let experts = self.correction.dim(0);
        assert!(experts as usize <= MAX_EXPERTS && self.logits.dim(1) == experts, "moe_route: {experts} experts, logits {:?}", self.logits);
        let params = Params {
            experts,
            top_k: self.chosen.dim(1),
            groups: self.groups as u32,
            top_groups: self.top_groups as u32,
            is_sigmoid: u32::from(self.scoring == Scoring::Sigmoid),
            group_by_two: u32::from(self.group_score == GroupScore::BestTwo),
            normalise: u32::from(self.normalise),
            scaling: self.scaling,
        };
        let launch = Launch::new(program(Lanes::whole(gpu)), params).read(self.logits).read(self.correction);
        let launch = launch.write(self.chosen).write(self.weights);
        let flops = self.rows.count as u64 * u64::from(experts) * u64::from(2 * experts + 8);
        vec![launch.grid(self.rows.count, 1, 1).flops(flops)]
    }
}
