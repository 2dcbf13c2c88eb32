//! Absorbed attention over the paged latent cache, for any mix of sequences and positions (DEEPSEEK.md §4.1).

use super::case::{Case, Check, Rng, Stage, dot};
use super::{BatchRow, Lanes, PAGE, Rows, bind_batch, with_batch};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("mla_attention.wgsl");

pub struct MlaAttention<'a> {
    /// Queries beside cache entries, `[rows, heads, latent + rope]`; their latent half is unread when `has_nope` is false
    pub x: &'a Tensor,
    /// `[pages * PAGE, latent + rope]`
    pub cache: &'a Tensor,
    /// `[sequences, max_pages]`
    pub page_table: &'a Tensor,
    /// `[MAX_ROWS]` of [`super::BatchRow`]
    pub batch: &'a Tensor,
    /// `[rows, heads, latent]`
    pub zeta: &'a Tensor,
    /// The softmax scale, with YaRN's factor (DEEPSEEK.md §2.4).
    pub scale: f32,
    /// Whether queries have a part without rotation; without one only rotary keys score.
    pub has_nope: bool,
    pub rows: &'a Rows,
}

params!(
    /// As `mla_attention.wgsl` has it.
    Params { heads: u32, latent: u32, rope: u32, score_begin: u32, max_pages: u32, scale: f32 }
);

fn program(lanes: Lanes, quads_a_lane: u32) -> Program {
    let storage = lanes.storage();
    let program = Program::new("mla_attention", Params::FIELDS, [BODY, super::weight::BLOCK, super::BOUND]);
    let program = program.quads("x", storage).quads("cache", storage).puts("zeta", storage);
    let program = lanes.with_tile(lanes.with_x(lanes.apply(with_batch(program))));
    program.set("PAGE", PAGE as u32).set("QUADS_A_LANE", quads_a_lane)
}

pub(super) fn programs() -> Vec<Program> {
    let of = |lanes: Lanes| (if lanes.shares { [1, 8, 16] } else { [1, 2, 3] }).map(|quads| program(lanes, quads));
    Lanes::ALL.into_iter().flat_map(of).collect()
}

impl Kernel for MlaAttention<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let (heads, latent) = (self.zeta.dim(1), self.zeta.dim(2));
        let rope = self.cache.dim(1) - latent;
        assert!(rope.is_multiple_of(32) && latent.is_multiple_of(32) && self.x.dim(2) == latent + rope, "mla_attention: {:?}", self.x);
        let lanes = Lanes::of(gpu);
        let program = program(lanes, (latent / 4).div_ceil(lanes.workgroup));
        let score_begin = if self.has_nope { 0 } else { latent / 4 };
        let params = Params { heads, latent, rope, score_begin, max_pages: self.page_table.dim(1), scale: self.scale };
        let launch = Launch::new(program, params).read(self.x).read(self.cache).write(self.zeta).read(self.page_table);
        let launch = bind_batch(launch.uniform(&self.rows.step), self.batch);
        // How much of the cache is read depends on the positions; the least is one page a row.
        let count = self.rows.count as u64;
        let touched = 4 * count * PAGE as u64 * u64::from(self.cache.dim(1));
        let flops = 2 * count * PAGE as u64 * u64::from(heads) * u64::from(2 * latent + rope);
        let launch = launch.reads(touched + 4 * count * u64::from(heads * (latent + rope))).flops(flops);
        let launch = launch.writes(4 * count * u64::from(heads * latent));
        vec![launch.grid(self.rows.count, heads.div_ceil(4) as usize, 1)]
    }
}

/// One head of one row over entries of `[latent ; rope]`: the softmax of the scores, summing the latents.
pub fn reference(alpha: &[f32], q: &[f32], entries: &[&[f32]], scale: f32) -> Vec<f32> {
    let latent = entries.first().map_or(0, |entry| entry.len() - q.len());
    let scores: Vec<f64> = entries.iter().map(|e| f64::from(scale) * (dot(alpha, &e[..alpha.len()]) + dot(q, &e[latent..]))).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = shares.iter().sum();
    let column = |j: usize| shares.iter().zip(entries).map(|(share, entry)| share * f64::from(entry[j])).sum::<f64>() / total;
    (0..latent).map(|j| column(j) as f32).collect()
}

#[derive(Clone, Copy)]
struct Variant {
    heads: usize,
    latent: usize,
    rope: usize,
    has_nope: bool,
    /// Room for rows, some dead.
    count: usize,
    /// Past of each live row, itself included; each row is a sequence of its own unless `same`.
    lengths: &'static [usize],
    same: bool,
}

fn case(variant: Variant) -> Case {
    let Variant { heads, latent, rope, has_nope, count, lengths, same } = variant;
    let sequences_word = if same { "one sequence" } else { "sequences" };
    let nope = if has_nope { "" } else { " without nope" };
    Case::new(
        format!("mla_attention {heads} heads, {latent} + {rope}{nope}, {sequences_word} of {lengths:?} in {count} rows"),
        move |gpu| {
            let mut stage = Stage::new(gpu);
            let mut rng = Rng(51);
            let entry = latent + rope;
            let sequences = if same { 1 } else { lengths.len() };
            let longest = lengths.iter().copied().max().unwrap_or(1);
            let max_pages = longest.div_ceil(PAGE);
            let pages = rng.shuffled(sequences * max_pages + 1);
            let cache = rng.numbers(pages.len() * PAGE * entry);
            // Scores about as far apart as a trained model's.
            let x: Vec<f32> = rng.numbers(count * heads * entry).iter().map(|v| v * 2.0).collect();
            let scale = 3.0 / (entry as f32).sqrt();
            let mut batch = vec![BatchRow { token: 1, position: 0, sequence: 0, entry: 0 }; count];
            let mut expected = vec![];
            for (row, &length) in lengths.iter().enumerate() {
                let sequence = if same { 0 } else { row };
                batch[row] = BatchRow { position: length as u32 - 1, sequence: sequence as u32, ..batch[row] };
                let slot = |at: usize| pages[sequence * max_pages + at / PAGE] as usize * PAGE + at % PAGE;
                let entries: Vec<&[f32]> = (0..length).map(|at| &cache[slot(at) * entry..][..entry]).collect();
                for query in x[row * heads * entry..][..heads * entry].chunks(entry) {
                    let alpha = if has_nope { &query[..latent] } else { &[] };
                    expected.extend(reference(alpha, &query[latent..], &entries, scale));
                }
            }
            let x = stage.quads(&[count, heads, entry], &x)?;
            let (cache, batch) = (stage.quads(&[pages.len() * PAGE, entry], &cache)?, stage.batch(&batch)?);
            let page_table = stage.u32(&[sequences, max_pages], &pages[..sequences * max_pages])?;
            let zeta = stage.fresh_quads(&[count + 1, heads, latent])?;
            stage.run(MlaAttention {
                x: &x,
                cache: &cache,
                page_table: &page_table,
                batch: &batch,
                zeta: &zeta,
                scale,
                has_nope,
                rows: &stage.rows(count, lengths.len())?,
            });
            stage.expect("zeta", &zeta, &expected, Check::Nmse(1e-10, "f32 scores go through exp"));
            stage.finish()
        },
    )
}

pub(super) fn cases() -> Vec<Case> {
    let few = Variant { heads: 3, latent: 64, rope: 32, has_nope: true, count: 3, lengths: &[7, 65], same: false };
    let mut all = vec![few];
    all.extend([1, 7, 63, 64, 65, 200, 1000].map(|length| {
        let lengths: &[usize] = match length {
            1 => &[1],
            7 => &[7],
            63 => &[63],
            64 => &[64],
            65 => &[65],
            200 => &[200],
            _ => &[1000],
        };
        Variant { heads: 5, latent: 32, lengths, count: 1, ..few }
    }));
    all.extend([1, 5, 6, 9, 16].map(|heads| Variant { heads, ..few }));
    all.extend([1, 6].map(|heads| Variant { heads, has_nope: false, ..few }));
    for latent in [32, 96, 256, 288, 512, 768] {
        all.extend([2, 5].map(|heads| Variant { heads, latent, ..few }));
    }
    // 576: what llama's identity latents can grow to.
    all.extend([1, 9].map(|heads| Variant { heads, latent: 576, rope: 64, has_nope: false, ..few }));
    all.push(Variant { lengths: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], same: true, count: 16, ..few });
    all.push(Variant { lengths: &[130, 1, 64, 33, 129, 2, 65], count: 8, heads: 6, ..few });
    let timed = Variant { heads: 16, latent: 512, rope: 64, count: 1, lengths: &[1024], ..few };
    let timed = [timed, Variant { heads: 9, latent: 192, has_nope: false, ..timed }, Variant { lengths: &[8192], ..timed }];
    all.into_iter().map(case).chain(timed.map(|variant| case(variant).bench())).collect()
}
