//! The likeliest next tokens and their probabilities: p = softmax(logits) at temperature 1 over the ids that the tokenizer knows.

use super::case::{Case, Check, Rng, Stage, UNTOUCHED};
use super::sample::SAMPLING;
use super::{BatchRow, Lanes, Rows, SAMPLING_WORDS, bind_batch, with_batch};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::sampler::{Sampling, order_key};
use crate::{params, wgsl};
use bytemuck::Zeroable;

const BODY: Part = wgsl!("top_candidates.wgsl");

/// Candidates of an output.
pub const CANDIDATES: usize = 5;

/// The id in a place that no candidate took: there are fewer tokens, or their logits are NaN.
pub const NO_CANDIDATE: u32 = u32::MAX;

pub struct TopCandidates<'a> {
    /// `[outputs, vocab]`
    pub logits: &'a Tensor,
    /// `[sequences, SAMPLING_WORDS]`
    pub sampling: &'a Tensor,
    /// Row of the step of each output, `[outputs]`
    pub listed: &'a Tensor,
    /// `[MAX_ROWS]` of [`BatchRow`]
    pub batch: &'a Tensor,
    /// `[sequences]`
    pub sampled: &'a Tensor,
    /// Best first, `[outputs, CANDIDATES]`
    pub ids: &'a Tensor,
    /// Probability of the sampled token, then of each candidate, `[outputs, 1 + CANDIDATES]`
    pub shares: &'a Tensor,
    pub outputs: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `top_candidates.wgsl` has it.
    Params { stride: u32 }
);

fn program(lanes: Lanes) -> Program {
    let program = Program::new("top_candidates", Params::FIELDS, [BODY, SAMPLING]).set("CANDIDATES", CANDIDATES as u32);
    with_batch(lanes.apply(program))
}

pub(super) fn programs() -> Vec<Program> {
    Lanes::WHOLE.map(program).to_vec()
}

impl Kernel for TopCandidates<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let launch = Launch::new(program(Lanes::whole(gpu)), Params { stride: self.logits.dim(1) });
        let launch = launch.read(self.logits).read(self.sampling).read(self.listed).read(self.sampled).write(self.ids).write(self.shares);
        let outputs = self.outputs as u64;
        vec![
            bind_batch(launch.uniform(&self.rows.step), self.batch)
                .grid(self.outputs, 1, 1)
                .reads(4 * outputs * u64::from(self.logits.dim(1)))
                .writes(4 * outputs * (1 + 2 * CANDIDATES as u64)),
        ]
    }
}

/// Candidates of one output, and the probabilities of `sampled` and of them; NaN is no candidate.
pub fn reference(logits: &[f32], sampled: usize) -> ([u32; CANDIDATES], [f32; 1 + CANDIDATES]) {
    let mut ranked: Vec<usize> = (0..logits.len()).filter(|&i| !logits[i].is_nan()).collect();
    ranked.sort_by_key(|&i| std::cmp::Reverse(order_key(logits[i])));
    let (mut ids, mut shares) = ([NO_CANDIDATE; CANDIDATES], [0.0; 1 + CANDIDATES]);
    let Some(&first) = ranked.first() else { return (ids, shares) };
    let weight = |i: usize| match logits[i] {
        logit if logit.is_nan() => 0.0,
        logit if logit == logits[first] => 1.0,
        logit => (f64::from(logit) - f64::from(logits[first])).exp(),
    };
    let total: f64 = (0..logits.len()).map(weight).sum();
    let share = |i: usize| (weight(i) / total) as f32;
    shares[0] = share(sampled);
    for (rank, &i) in ranked.iter().take(CANDIDATES).enumerate() {
        ids[rank] = i as u32;
        shares[1 + rank] = share(i);
    }
    (ids, shares)
}

fn case(name: &'static str, outputs: usize, tokens: usize, logits_of: fn(&mut Rng, usize) -> f32) -> Case {
    Case::new(format!("top_candidates {name}, {outputs} outputs of {tokens}"), move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(83);
        let stride = tokens.next_multiple_of(32) + 32;
        // Beyond the known tokens lie the largest numbers, which are no candidates.
        let logits: Vec<f32> =
            (0..outputs * stride).map(|i| if i % stride < tokens { logits_of(&mut rng, i % stride) } else { 1e9 }).collect();
        // Output i is row 2i + 1 of the step and sequence (i + 1) % n; the last one is dead.
        let live = outputs.max(2) - 1;
        let mut batch = vec![BatchRow::zeroed(); 2 * outputs + 1];
        let mut sampled = vec![UNTOUCHED; outputs];
        let (mut ids, mut shares) = (vec![], vec![]);
        for i in 0..outputs {
            let (sequence, token) = ((i + 1) % outputs, rng.below(tokens));
            batch[2 * i + 1] = BatchRow { sequence: sequence as u32, ..BatchRow::zeroed() };
            sampled[sequence] = token as u32;
            if i < live {
                let expected = reference(&logits[i * stride..][..tokens], token);
                ids.extend(expected.0);
                shares.extend(expected.1);
            }
        }
        let listed: Vec<u32> = (0..outputs as u32).map(|i| 2 * i + 1).collect();
        let settings = Sampling { temperature: 0.3, top_k: 2, ..Sampling::default() }.gpu_row(tokens).repeat(outputs);
        let logits = stage.f32(&[outputs, stride], &logits)?;
        let sampling = stage.u32(&[outputs, SAMPLING_WORDS], &settings)?;
        let (listed, batch) = (stage.u32(&[outputs], &listed)?, stage.batch(&batch)?);
        let sampled = stage.u32(&[outputs], &sampled)?;
        let id_tensor = stage.fresh_u32(&[outputs + 1, CANDIDATES])?;
        let share_tensor = stage.fresh(&[outputs + 1, 1 + CANDIDATES])?;
        stage.run(TopCandidates {
            logits: &logits,
            sampling: &sampling,
            listed: &listed,
            batch: &batch,
            sampled: &sampled,
            ids: &id_tensor,
            shares: &share_tensor,
            outputs,
            rows: &stage.rows(outputs, live)?,
        });
        // An id of no candidate is the mark of untouched numbers: a written one would not differ from it.
        stage.expect_u32("ids", &id_tensor, &ids, Check::Exact);
        stage.expect("shares", &share_tensor, &shares, Check::Nmse(1e-10, "exp and its sums in f32"));
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    let smooth = |rng: &mut Rng, _: usize| 6.0 * rng.number();
    let tied = |rng: &mut Rng, _: usize| rng.below(4) as f32;
    vec![
        case("a few", 3, 33, smooth),
        case("one token", 1, 1, smooth),
        case("fewer tokens than candidates", 2, 3, smooth),
        case("many", 3, 4096, smooth),
        case("a vocabulary", 1, 49_152, smooth),
        case("ties", 3, 200, tied),
        case("equals", 2, 1000, |_, _| -3.0),
        case("a peak", 2, 500, |rng, i| if i == 77 { 40.0 } else { rng.number() }),
        case("beside NaN", 2, 130, |rng, i| if i % 3 == 0 { f32::NAN } else { -1.0 - rng.number() }),
        case("two numbers beside NaN and −∞", 2, 130, |_, i| match i {
            0..=100 => f32::NAN,
            101..=127 => f32::NEG_INFINITY,
            i => i as f32 / 100.0,
        }),
        case("only NaN", 2, 70, |_, _| f32::NAN),
        case("one output", 1, 102_400, smooth).bench(),
    ]
}
