//! The next token of each output row: greedy, or drawn after temperature, top-k, top-p and min-p (DEEPSEEK.md §9.3).

use super::case::{Case, Check, Rng, Stage, UNTOUCHED};
use super::{BatchRow, Lanes, Rows, bind_batch, with_batch};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::sampler::Sampling;
use crate::{params, wgsl};
use bytemuck::Zeroable;

const BODY: Part = wgsl!("sample.wgsl");
/// The settings, and how logits are ordered.
pub(super) const SAMPLING: Part = wgsl!("parts/sampling.wgsl");

/// Words of one sequence's settings, laid out as `struct Sampling` in `parts/sampling.wgsl`.
pub const SAMPLING_WORDS: usize = 8;

pub struct Sample<'a> {
    /// `[outputs, vocab]`
    pub logits: &'a Tensor,
    /// `[sequences, SAMPLING_WORDS]`
    pub sampling: &'a Tensor,
    /// Row of the step of each output, `[outputs]`
    pub listed: &'a Tensor,
    /// `[MAX_ROWS]` of [`super::BatchRow`]
    pub batch: &'a Tensor,
    /// `[sequences]`
    pub sampled: &'a Tensor,
    pub outputs: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `sample.wgsl` has it.
    Params { stride: u32 }
);

fn program(lanes: Lanes) -> Program {
    with_batch(lanes.apply(Program::new("sample", Params::FIELDS, [BODY, SAMPLING])))
}

pub(super) fn programs() -> Vec<Program> {
    Lanes::WHOLE.map(program).to_vec()
}

impl Kernel for Sample<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let launch = Launch::new(program(Lanes::whole(gpu)), Params { stride: self.logits.dim(1) });
        let launch = launch.read(self.logits).read(self.sampling).read(self.listed).write(self.sampled);
        vec![
            bind_batch(launch.uniform(&self.rows.step), self.batch)
                .grid(self.outputs, 1, 1)
                .reads(4 * self.outputs as u64 * u64::from(self.logits.dim(1)))
                .writes(4 * self.outputs as u64),
        ]
    }
}

/// The draw of the CPU.
pub use crate::sampler::sample as reference;

/// A position from `from` on where the draw is not so close to a border that f32 and f64 sums may fall on its two sides.
fn clear_position(logits: &[f32], sampling: &Sampling, tokens: usize, from: u32) -> (u32, u32) {
    let margin = 3e-5f32;
    for position in from..from + 1000 {
        let id = reference(logits, sampling, position, tokens);
        let holds = [-margin, margin].iter().all(|&lean| {
            // Tokens before the chosen one a little more likely, those after it a little less, or the other way round.
            let step = lean * sampling.temperature;
            let side = |i: usize| (i as i64 - i64::from(id)).signum() as f32;
            let leaning: Vec<f32> = logits.iter().enumerate().map(|(i, &logit)| logit - step * side(i)).collect();
            let top_p = if sampling.top_p < 1.0 { (sampling.top_p * (1.0 + lean)).min(0.999_999) } else { 1.0 };
            let same = |logits: &[f32], top_p| reference(logits, &Sampling { top_p, ..*sampling }, position, tokens) == id;
            // Ties would be torn apart by leaning.
            same(logits, top_p) && (sampling.top_k > 0 || same(&leaning, sampling.top_p))
        });
        if holds {
            return (position, id);
        }
    }
    (from, reference(logits, sampling, from, tokens))
}

fn case(name: &'static str, settings: Vec<Sampling>, tokens: usize, logits_of: fn(&mut Rng, usize) -> f32) -> Case {
    Case::new(format!("sample {name}, {} outputs of {tokens}", settings.len()), move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(71);
        let (outputs, stride) = (settings.len(), tokens.next_multiple_of(32) + 32);
        // Beyond the known tokens lie the largest numbers, which must never be sampled.
        let logits: Vec<f32> =
            (0..outputs * stride).map(|i| if i % stride < tokens { logits_of(&mut rng, i % stride) } else { 1e9 }).collect();
        // Output i is row 2i + 1 of the step and sequence (i + 1) % n.
        let mut batch = vec![BatchRow::zeroed(); 2 * outputs + 1];
        let mut rows = vec![[0; SAMPLING_WORDS]; outputs + 1];
        let mut expected = vec![UNTOUCHED; outputs + 1];
        for (i, sampling) in settings.iter().enumerate() {
            let (position, id) = clear_position(&logits[i * stride..][..tokens], sampling, tokens, 100 * i as u32);
            let sequence = (i + 1) % outputs;
            batch[2 * i + 1] = BatchRow { position, sequence: sequence as u32, ..BatchRow::zeroed() };
            rows[sequence] = sampling.gpu_row(tokens);
            // The last output is dead.
            expected[sequence] = if i + 1 < outputs || outputs == 1 { id } else { UNTOUCHED };
        }
        let listed: Vec<u32> = (0..outputs as u32).map(|i| 2 * i + 1).collect();
        let live = if outputs == 1 { 1 } else { outputs - 1 };
        let logits = stage.f32(&[outputs, stride], &logits)?;
        let sampling = stage.u32(&[outputs + 1, SAMPLING_WORDS], rows.as_flattened())?;
        let (listed, batch) = (stage.u32(&[outputs], &listed)?, stage.batch(&batch)?);
        let sampled = stage.fresh_u32(&[outputs + 1])?;
        stage.run(Sample {
            logits: &logits,
            sampling: &sampling,
            listed: &listed,
            batch: &batch,
            sampled: &sampled,
            outputs,
            rows: &stage.rows(outputs, live)?,
        });
        stage.expect_u32("sampled", &sampled, &expected, Check::Exact);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    let greedy = Sampling::default();
    let draw = |seed: u64| Sampling { temperature: 0.8, seed, ..greedy };
    let smooth = |rng: &mut Rng, _: usize| 6.0 * rng.number();
    let tied = |rng: &mut Rng, _: usize| rng.below(4) as f32;
    let mixed = vec![
        greedy,
        draw(1),
        Sampling { top_k: 5, ..draw(2) },
        Sampling { top_p: 0.9, ..draw(u64::MAX) },
        Sampling { min_p: 0.1, ..draw(4) },
        Sampling { top_k: 40, top_p: 0.95, min_p: 0.02, temperature: 1.3, ..draw(5 << 33) },
        greedy,
    ];
    let of = |make: &dyn Fn(u64) -> Sampling| (0..8).map(make).collect::<Vec<_>>();
    vec![
        case("every setting", mixed.clone(), 300, smooth),
        case("every setting", mixed.clone(), 4096, smooth),
        case("every setting", mixed, 49_152, smooth),
        case("greedy with ties", vec![greedy; 3], 200, tied),
        case("greedy among equals", vec![greedy; 2], 1000, |_, _| -3.0),
        case("greedy beside NaN", vec![greedy; 2], 130, |rng, i| if i % 3 == 0 { f32::NAN } else { -1.0 - rng.number() }),
        case("draws beside NaN and −∞", of(&draw), 130, |rng, i| match i % 3 {
            0 => f32::NAN,
            1 => f32::NEG_INFINITY,
            _ => rng.number(),
        }),
        case("one token", vec![draw(3)], 1, smooth),
        case("plain draws", of(&draw), 33, smooth),
        case("top-k with ties", of(&|seed| Sampling { top_k: 3, ..draw(seed) }), 100, tied),
        case("top-k of one", of(&|seed| Sampling { top_k: 1, ..draw(seed) }), 65, smooth),
        case("top-p", of(&|seed| Sampling { top_p: 0.1 + 0.1 * seed as f32, ..draw(seed) }), 700, smooth),
        case("min-p", of(&|seed| Sampling { min_p: 0.03 + 0.1 * seed as f32, ..draw(seed) }), 700, smooth),
        case("all cuts", of(&|seed| Sampling { top_k: 9, top_p: 0.6, min_p: 0.2, ..draw(seed) }), 700, smooth),
        case("greedy", vec![greedy], 102_400, smooth).bench(),
        case("top-p", vec![Sampling { top_p: 0.95, ..draw(1) }], 102_400, smooth).bench(),
    ]
}
