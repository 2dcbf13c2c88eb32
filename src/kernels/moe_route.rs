//! The router: from logits to chosen experts and their weights, in every variant (DEEPSEEK.md §3.6).

use super::case::{Case, Check, Rng, Stage};
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
    Lanes::WHOLE.iter().flat_map(|lanes| Lanes::SIZES.map(|size| program(lanes.sized(size)))).collect()
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
        let launch = Launch::new(program(Lanes::whole_of(gpu, experts as usize)), params).read(self.logits).read(self.correction);
        let launch = launch.write(self.chosen).write(self.weights);
        let flops = self.rows.count as u64 * u64::from(experts) * u64::from(2 * experts + 8);
        vec![launch.grid(self.rows.count, 1, 1).flops(flops)]
    }
}

/// The router's settings, as the fields of [`MoeRoute`].
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub top_k: usize,
    pub scoring: Scoring,
    pub groups: usize,
    pub top_groups: usize,
    pub group_score: GroupScore,
    pub normalise: bool,
    pub scaling: f32,
}

/// Indices of the `count` largest, the lower index first among equals.
fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

/// One row: chosen experts in ascending order, and their weights.
pub fn reference(logits: &[f32], correction: &[f32], settings: &Settings) -> Vec<(u32, f32)> {
    let z: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let scores: Vec<f64> = match settings.scoring {
        Scoring::Sigmoid => z.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect(),
        Scoring::Softmax => {
            let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = z.iter().map(|z| (z - top).exp()).sum();
            z.iter().map(|z| (z - top).exp() / total).collect()
        }
    };
    let mut choices: Vec<f64> = scores.iter().zip(correction).map(|(score, &c)| score + f64::from(c)).collect();
    let size = choices.len() / settings.groups;
    let group_score = |group: &[f64]| {
        let best = largest(group, if settings.group_score == GroupScore::BestTwo { 2 } else { 1 });
        best.iter().map(|&e| group[e]).sum()
    };
    let group_scores: Vec<f64> = choices.chunks(size).map(group_score).collect();
    let kept = largest(&group_scores, settings.top_groups);
    for (expert, choice) in choices.iter_mut().enumerate() {
        if !kept.contains(&(expert / size)) {
            *choice = f64::NEG_INFINITY;
        }
    }
    let mut chosen = largest(&choices, settings.top_k);
    chosen.sort_unstable();
    let total = if settings.normalise { chosen.iter().map(|&e| scores[e]).sum::<f64>() + 1e-20 } else { 1.0 };
    chosen.iter().map(|&e| (e as u32, (scores[e] / total * f64::from(settings.scaling)) as f32)).collect()
}

/// How a case's logits are made.
#[derive(Clone, Copy, Debug)]
enum Logits {
    Random,
    /// Few different values: ties.
    Tied,
    /// Some are NaN: nothing but the bounds of ids is promised.
    Nan,
    /// DEEPSEEK.md §3.6's micro-example.
    Worked,
}

fn case(rows: usize, experts: usize, settings: Settings, kind: Logits) -> Case {
    let Settings { top_k, scoring, groups, top_groups, group_score, normalise, scaling } = settings;
    let grouped = if groups > 1 { format!(", {top_groups} of {groups} groups by {group_score:?}") } else { String::new() };
    let name = format!("moe_route {rows} rows, top {top_k} of {experts} {scoring:?}{grouped}, normalise {normalise}, {kind:?} logits");
    Case::new(name, move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(61);
        let logits: Vec<f32> = match kind {
            Logits::Random => rng.numbers(rows * experts).iter().map(|v| v * 4.0).collect(),
            Logits::Tied => (0..rows * experts).map(|_| rng.below(3) as f32).collect(),
            Logits::Nan => (0..rows * experts).map(|_| if rng.below(3) == 0 { f32::NAN } else { rng.number() }).collect(),
            Logits::Worked => WORKED_LOGITS.repeat(rows),
        };
        let correction: Vec<f32> = match (kind, scoring) {
            (_, Scoring::Softmax) => vec![0.0; experts],
            (Logits::Worked, _) => WORKED_CORRECTION.to_vec(),
            (Logits::Tied, _) => vec![-0.25; experts],
            _ => rng.numbers(experts).iter().map(|v| v * 0.3).collect(),
        };
        let expected: Vec<(u32, f32)> = logits.chunks(experts).flat_map(|row| reference(row, &correction, &settings)).collect();
        let ids: Vec<u32> = expected.iter().map(|(id, _)| *id).collect();
        // NaN is no expectation: any number that is not the mark of an untouched one will do.
        let weights: Vec<f32> = expected.iter().map(|(_, weight)| if weight.is_nan() { 0.0 } else { *weight }).collect();
        let (logits, correction) = (stage.f32(&[rows, experts], &logits)?, stage.f32(&[experts], &correction)?);
        let (chosen, chosen_weights) = (stage.fresh_u32(&[rows + 1, top_k])?, stage.fresh(&[rows + 1, top_k])?);
        stage.run(MoeRoute {
            logits: &logits,
            correction: &correction,
            chosen: &chosen,
            weights: &chosen_weights,
            scoring,
            groups,
            top_groups,
            group_score,
            normalise,
            scaling,
            rows: &stage.rows(rows, rows)?,
        });
        let (ids_check, weights_check) = match kind {
            Logits::Nan => (Check::Below(experts as u32), Check::Untouched),
            _ => (Check::Exact, Check::Nmse(1e-11, "exp, and sums in f32")),
        };
        stage.expect_u32("chosen", &chosen, &ids, ids_check);
        stage.expect("weights", &chosen_weights, &weights, weights_check);
        stage.finish()
    })
}

const WORKED_LOGITS: [f32; 8] = [0.5, -1.0, 2.0, 0.0, 1.5, 1.4, -0.5, 1.0];
const WORKED_CORRECTION: [f32; 8] = [0.0, 0.3, -0.4, 0.0, 0.0, 0.0, 0.5, -0.1];
const GREEDY: Settings = Settings {
    top_k: 3,
    scoring: Scoring::Softmax,
    groups: 1,
    top_groups: 1,
    group_score: GroupScore::Best,
    normalise: false,
    scaling: 1.0,
};
const GROUP_LIMITED: Settings = Settings { groups: 4, top_groups: 2, scaling: 16.0, ..GREEDY };
const NOAUX_TC: Settings =
    Settings { scoring: Scoring::Sigmoid, group_score: GroupScore::BestTwo, normalise: true, scaling: 2.5, ..GROUP_LIMITED };

pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = [NOAUX_TC, GREEDY, GROUP_LIMITED].map(|settings| case(2, 8, settings, Logits::Worked)).into();
    // Experts, top k, groups, kept groups.
    let shapes = [
        (7, 1, 1, 1),
        (7, 7, 1, 1),
        (33, 5, 1, 1),
        (64, 6, 1, 1),
        (64, 8, 8, 3),
        (160, 6, 8, 3),
        (256, 8, 8, 4),
        (256, 16, 8, 1),
        (384, 8, 1, 1),
        (MAX_EXPERTS, 10, 2, 1),
    ];
    for (experts, top_k, groups, top_groups) in shapes {
        for scoring in [Scoring::Softmax, Scoring::Sigmoid] {
            for (group_score, normalise) in [(GroupScore::Best, false), (GroupScore::BestTwo, true), (GroupScore::BestTwo, false)] {
                let settings = Settings { top_k, scoring, groups, top_groups, group_score, normalise, scaling: 1.5 };
                all.extend(
                    (groups > 1 || group_score == GroupScore::Best || normalise).then(|| case(3, experts, settings, Logits::Random)),
                );
            }
        }
    }
    for kind in [Logits::Tied, Logits::Nan] {
        for settings in [GREEDY, GROUP_LIMITED, NOAUX_TC] {
            all.extend([8, 64, 160].map(|experts| case(5, experts, settings, kind)));
        }
    }
    all.push(case(128, 64, Settings { top_k: 6, ..GREEDY }, Logits::Random).bench());
    all.push(case(128, 256, Settings { top_k: 8, groups: 8, top_groups: 4, ..NOAUX_TC }, Logits::Random).bench());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_gives_the_worked_example() {
        let close = |settings: &Settings, correction: &[f32], expected: [(u32, f32); 3]| {
            let found = reference(&WORKED_LOGITS, correction, settings);
            assert_eq!(found.len(), 3);
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6 * expected.1.max(1.0), "{found:?} {expected:?}");
            }
        };
        close(&GREEDY, &[0.0; 8], [(2, 0.331834), (4, 0.201267), (5, 0.182114)]);
        close(&GROUP_LIMITED, &[0.0; 8], [(2, 5.309336), (4, 3.220275), (5, 2.913826)]);
        close(&NOAUX_TC, &WORKED_CORRECTION, [(4, 1.02335), (5, 1.004086), (6, 0.472564)]);
    }
}
