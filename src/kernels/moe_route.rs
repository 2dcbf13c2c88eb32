//! The router: from rows or their logits to chosen experts and their weights, in every variant (DEEPSEEK.md §3.6).

use super::case::{Case, Check, Rng, Stage, dot};
use super::weight::{bind_weight, every_format_of_parts, with_weight};
use super::{Lanes, Norm, Rows, Weight, rms_norm};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Storage, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("moe_route.wgsl");
const LOGITS_GIVEN: Part = wgsl!("parts/logits_given.wgsl");
const LOGITS_GATE: Part = wgsl!("parts/logits_gate.wgsl");

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

/// How a router chooses, beside how many (DEEPSEEK.md §3.6).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RouterSettings {
    pub scoring: Scoring,
    pub groups: usize,
    pub top_groups: usize,
    pub group_score: GroupScore,
    /// Weights are divided by their sum.
    pub normalise: bool,
    pub scaling: f32,
}

/// Where the router's logits come from.
#[derive(Clone, Copy)]
pub enum RouterInput<'a> {
    /// `[rows, experts]`
    Logits(&'a Tensor),
    /// The rows, `[rows, cols]`, normalised, times the router's weight, `[experts, cols]`, in one slab
    Gate { x: &'a Tensor, norm: Norm<'a>, weight: &'a Weight },
}

pub struct MoeRoute<'a> {
    pub input: RouterInput<'a>,
    /// Added to scores for the choice alone, `[experts]`
    pub correction: &'a Tensor,
    /// Expert ids in ascending order, then those of the experts that every row takes: `[rows, top_k + shared_experts]`
    pub chosen: &'a Tensor,
    /// Of the same shape.
    pub weights: &'a Tensor,
    /// Experts with ids after the routed ones, which every row takes with weight 1.
    pub shared_experts: usize,
    pub settings: RouterSettings,
    pub rows: &'a Rows,
}

params!(
    /// As `moe_route.wgsl` has it.
    Params {
        experts: u32,
        top_k: u32,
        groups: u32,
        top_groups: u32,
        is_sigmoid: u32,
        group_by_two: u32,
        normalise: u32,
        shared_experts: u32,
        scaling: f32,
        cols: u32,
        norm_dim: u32,
        eps: f32,
    }
);

fn start(lanes: Lanes) -> Program {
    lanes.apply(Program::new("moe_route", Params::FIELDS, [BODY, super::BOUND])).set("MAX_EXPERTS", MAX_EXPERTS as u32)
}

fn given(lanes: Lanes) -> Program {
    start(lanes).with(LOGITS_GIVEN).words("x", Storage::Buffer)
}

fn gated(lanes: Lanes, format: WeightFormat) -> Program {
    let program = start(lanes).with(LOGITS_GATE).quads("x", lanes.storage());
    with_weight(lanes.with_input(program, Some(lanes.storage())), format, lanes.storage())
}

pub(super) fn programs() -> Vec<Program> {
    let gates = Lanes::ALL.iter().flat_map(|&lanes| every_format_of_parts().into_iter().map(move |format| gated(lanes, format)));
    Lanes::ALL.map(given).into_iter().chain(gates).collect()
}

impl Kernel for MoeRoute<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let experts = self.correction.dim(0);
        assert!(experts as usize <= MAX_EXPERTS, "moe_route: {experts} experts");
        let (cols, norm) = match self.input {
            RouterInput::Logits(_) => (0, None),
            RouterInput::Gate { norm, weight, .. } => (weight.cols as u32, Some(norm)),
        };
        let (norm_dim, eps) = Norm::params(norm);
        let RouterSettings { scoring, groups, top_groups, group_score, normalise, scaling } = self.settings;
        let params = Params {
            experts,
            top_k: self.chosen.dim(1) - self.shared_experts as u32,
            groups: groups as u32,
            top_groups: top_groups as u32,
            is_sigmoid: u32::from(scoring == Scoring::Sigmoid),
            group_by_two: u32::from(group_score == GroupScore::BestTwo),
            normalise: u32::from(normalise),
            shared_experts: self.shared_experts as u32,
            scaling,
            cols,
            norm_dim,
            eps,
        };
        let lanes = Lanes::of(gpu);
        let count = self.rows.count as u64;
        let finish = |launch: Launch| launch.read(self.correction).write(self.chosen).write(self.weights);
        let flops = count * u64::from(experts) * u64::from(params.top_k + 8);
        let written = 8 * count * u64::from(self.chosen.dim(1));
        let launch = match self.input {
            RouterInput::Logits(logits) => {
                assert!(logits.dim(1) == experts && logits.storage == Storage::Buffer, "moe_route: logits {logits:?}");
                let read = 4 * count * u64::from(experts);
                finish(Launch::new(given(lanes), params).read(logits)).flops(flops).reads(read)
            }
            RouterInput::Gate { x, weight, .. } => {
                let [slab] = weight.slabs.as_slice() else { panic!("moe_route: the router's weight lies in one slab") };
                assert!(weight.rows == experts as usize && x.shape[1] == weight.cols, "moe_route: x {x:?}");
                let launch = finish(Launch::new(gated(lanes, weight.format), params).read(x));
                let read = weight.size_bytes() + 4 * (count + 1) * u64::from(cols);
                let launch = bind_weight(Norm::bind(norm, launch), slab).reads(read);
                launch.flops(flops + 2 * count * u64::from(experts) * u64::from(cols))
            }
        };
        vec![launch.writes(written).grid(self.rows.count, 1, 1)]
    }
}

/// Indices of the `count` largest, the lower index first among equals.
fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

/// One row: chosen experts in ascending order, and their weights.
pub fn reference(logits: &[f32], correction: &[f32], top_k: usize, settings: &RouterSettings) -> Vec<(u32, f32)> {
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
    let mut chosen = largest(&choices, top_k);
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

fn case(rows: usize, experts: usize, top_k: usize, settings: RouterSettings, kind: Logits) -> Case {
    let RouterSettings { scoring, groups, top_groups, group_score, normalise, .. } = settings;
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
        let expected: Vec<(u32, f32)> = logits.chunks(experts).flat_map(|row| reference(row, &correction, top_k, &settings)).collect();
        let ids: Vec<u32> = expected.iter().map(|(id, _)| *id).collect();
        // NaN is no expectation: any number that is not the mark of an untouched one will do.
        let weights: Vec<f32> = expected.iter().map(|(_, weight)| if weight.is_nan() { 0.0 } else { *weight }).collect();
        let (logits, correction) = (stage.f32(&[rows, experts], &logits)?, stage.f32(&[experts], &correction)?);
        let (chosen, chosen_weights) = (stage.fresh_u32(&[rows + 1, top_k])?, stage.fresh(&[rows + 1, top_k])?);
        stage.run(MoeRoute {
            input: RouterInput::Logits(&logits),
            correction: &correction,
            chosen: &chosen,
            weights: &chosen_weights,
            shared_experts: 0,
            settings,
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

/// From rows, so many chosen and so many that every row takes.
fn gate_case(format: WeightFormat, rows: usize, experts: usize, dim: usize, chosen: [usize; 2], settings: RouterSettings) -> Case {
    let ([top_k, shared_experts], scoring) = (chosen, settings.scoring);
    let name = format!("moe_route {rows} rows of {dim}, top {top_k} of {experts} and {shared_experts} {scoring:?} {format}");
    Case::new(name, move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(62);
        let (weight, numbers) = rng.weight(gpu, format, [experts, dim])?;
        let (cols, eps) = (weight.cols, 1e-3);
        let (x, gain) = (rng.padded(rows, dim, cols), rng.padded(1, dim, cols));
        let correction = if scoring == Scoring::Sigmoid { rng.numbers(experts) } else { vec![0.0; experts] };
        let mut expected = vec![];
        for x in x.chunks(cols) {
            let x = rms_norm::reference(x, &gain, dim, eps);
            let logits: Vec<f32> = numbers.chunks(cols).map(|row| dot(row, &x) as f32).collect();
            expected.extend(reference(&logits, &correction, top_k, &settings));
            expected.extend((0..shared_experts).map(|k| ((experts + k) as u32, 1.0)));
        }
        let (ids, factors): (Vec<u32>, Vec<f32>) = expected.into_iter().unzip();
        let (x, gain, correction) = (stage.quads(&[rows, cols], &x)?, stage.quads(&[cols], &gain)?, stage.f32(&[experts], &correction)?);
        let slots = top_k + shared_experts;
        let (chosen, weights) = (stage.fresh_u32(&[rows + 1, slots])?, stage.fresh(&[rows + 1, slots])?);
        stage.run(MoeRoute {
            input: RouterInput::Gate { x: &x, norm: Norm { gain: &gain, dim, eps }, weight: &weight },
            correction: &correction,
            chosen: &chosen,
            weights: &weights,
            shared_experts,
            settings,
            rows: &stage.rows(rows, rows)?,
        });
        stage.expect_u32("chosen", &chosen, &ids, Check::Exact);
        stage.expect("weights", &weights, &factors, Check::Nmse(1e-10, "f32 sums, exp"));
        stage.finish()
    })
}

const WORKED_LOGITS: [f32; 8] = [0.5, -1.0, 2.0, 0.0, 1.5, 1.4, -0.5, 1.0];
const WORKED_CORRECTION: [f32; 8] = [0.0, 0.3, -0.4, 0.0, 0.0, 0.0, 0.5, -0.1];
const GREEDY: RouterSettings =
    RouterSettings { scoring: Scoring::Softmax, groups: 1, top_groups: 1, group_score: GroupScore::Best, normalise: false, scaling: 1.0 };
const GROUP_LIMITED: RouterSettings = RouterSettings { groups: 4, top_groups: 2, scaling: 16.0, ..GREEDY };
const NOAUX_TC: RouterSettings =
    RouterSettings { scoring: Scoring::Sigmoid, group_score: GroupScore::BestTwo, normalise: true, scaling: 2.5, ..GROUP_LIMITED };

pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = [NOAUX_TC, GREEDY, GROUP_LIMITED].map(|settings| case(2, 8, 3, settings, Logits::Worked)).into();
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
                let settings = RouterSettings { scoring, groups, top_groups, group_score, normalise, scaling: 1.5 };
                all.extend(
                    (groups > 1 || group_score == GroupScore::Best || normalise).then(|| case(3, experts, top_k, settings, Logits::Random)),
                );
            }
        }
    }
    for kind in [Logits::Tied, Logits::Nan] {
        for settings in [GREEDY, GROUP_LIMITED, NOAUX_TC] {
            all.extend([8, 64, 160].map(|experts| case(5, experts, 3, settings, kind)));
        }
    }
    for format in every_format_of_parts() {
        all.push(gate_case(format, 2, 33, 160, [4, 1], GREEDY));
    }
    all.push(gate_case(WeightFormat::F32, 3, 7, 100, [7, 0], GREEDY));
    all.push(gate_case(WeightFormat::Bf16, 8, 64, 512, [6, 2], RouterSettings { groups: 8, top_groups: 3, ..NOAUX_TC }));
    all.push(gate_case(WeightFormat::Bf16, 1, 64, 2048, [6, 2], GREEDY).bench());
    all.push(case(128, 64, 6, GREEDY, Logits::Random).bench());
    all.push(case(128, 256, 8, RouterSettings { groups: 8, top_groups: 4, ..NOAUX_TC }, Logits::Random).bench());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_gives_the_worked_example() {
        let close = |settings: &RouterSettings, correction: &[f32], expected: [(u32, f32); 3]| {
            let found = reference(&WORKED_LOGITS, correction, 3, settings);
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
