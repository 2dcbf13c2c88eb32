//! Absorbed attention over the paged latent cache, for any mix of sequences and positions (DEEPSEEK.md §4.1).

use super::case::{Case, Check, Rng, Stage, dot};
use super::{Lanes, PAGE, Rows, XSource};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("mla_attention.wgsl");

pub struct MlaAttention<'a> {
    /// The queries seen from the latent, `[rows, heads, latent]`; unread when `has_nope` is false
    pub alpha: &'a Tensor,
    /// `[rows, cols]`; head h's rotary query begins at `q_begin + h * rope`
    pub q: &'a Tensor,
    pub q_begin: usize,
    /// `[pages * PAGE, latent + rope]`
    pub cache: &'a Tensor,
    /// `[sequences, max_pages]`
    pub page_table: &'a Tensor,
    /// `[rows, 4]`: token, position, sequence, whether the token is the sequence's last sampled one
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
    Params { heads: u32, latent: u32, rope: u32, q_stride: u32, q_begin: u32, max_pages: u32, scale: f32 }
);

fn program(lanes: Lanes, x: XSource, head_quads: u32, quads_a_lane: u32, has_nope: bool) -> Program {
    let program = lanes.apply(Program::new("mla_attention", Params::FIELDS, [BODY, super::weight::BLOCK]));
    let program = x.with_alpha(x.with_x(program)).set("PAGE", PAGE as u32).set("HEAD_QUADS", head_quads);
    program.set("QUADS_A_LANE", quads_a_lane).set("HAS_NOPE", u32::from(has_nope))
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for (lanes, x) in [(Lanes::WHOLE[0], XSource::Direct), (Lanes::WHOLE[1], XSource::Direct), (Lanes::WHOLE[1], XSource::Broadcast)] {
        for head_quads in [1, 2] {
            for quads_a_lane in [1, 2, 3] {
                all.extend([false, true].map(|has_nope| program(lanes, x, head_quads, quads_a_lane, has_nope)));
            }
        }
    }
    all
}

impl Kernel for MlaAttention<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let (heads, latent) = (self.zeta.dim(1), self.zeta.dim(2));
        let rope = self.cache.dim(1) - latent;
        assert!(rope.is_multiple_of(32) && self.q_begin.is_multiple_of(4), "mla_attention: rope {rope}, q_begin {}", self.q_begin);
        let lanes = Lanes::whole(gpu);
        let head_quads = if heads > 4 { 2 } else { 1 };
        let program = program(lanes, XSource::of(gpu), head_quads, (latent / 4).div_ceil(lanes.workgroup), self.has_nope);
        let params = Params {
            heads,
            latent,
            rope,
            q_stride: self.q.dim(1) / 4,
            q_begin: self.q_begin as u32 / 4,
            max_pages: self.page_table.dim(1),
            scale: self.scale,
        };
        let launch = Launch::new(program, params).read(self.alpha).read(self.q).read(self.cache).read(self.page_table).read(self.batch);
        let launch = launch.write(self.zeta).uniform(&self.rows.step);
        // How much of the cache is read depends on the positions; the least is one page a row.
        let touched = 4 * (self.rows.count * PAGE) as u64 * u64::from(self.cache.dim(1));
        let flops = 2 * (self.rows.count * PAGE) as u64 * u64::from(heads) * u64::from(2 * latent + rope);
        let launch = launch.reads(touched + self.alpha.size_bytes() + self.q.size_bytes()).flops(flops);
        vec![launch.grid(self.rows.count, heads.div_ceil(4 * head_quads) as usize, 1)]
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
            let stride = 32 + heads * rope;
            // Scores about as far apart as a trained model's.
            let alpha: Vec<f32> = rng.numbers(count * heads * latent).iter().map(|v| v * 2.0).collect();
            let q: Vec<f32> = rng.numbers(count * stride).iter().map(|v| v * 2.0).collect();
            let scale = 3.0 / (entry as f32).sqrt();
            let mut batch = vec![[0u32; 4]; count];
            let mut expected = vec![];
            for (row, &length) in lengths.iter().enumerate() {
                let sequence = if same { 0 } else { row };
                batch[row] = [1, length as u32 - 1, sequence as u32, 0];
                let slot = |at: usize| pages[sequence * max_pages + at / PAGE] as usize * PAGE + at % PAGE;
                let entries: Vec<&[f32]> = (0..length).map(|at| &cache[slot(at) * entry..][..entry]).collect();
                for head in 0..heads {
                    let alpha = if has_nope { &alpha[(row * heads + head) * latent..][..latent] } else { &[] };
                    expected.extend(reference(alpha, &q[row * stride + 32 + head * rope..][..rope], &entries, scale));
                }
            }
            let (alpha, q) = (stage.f32(&[count, heads, latent], &alpha)?, stage.f32(&[count, stride], &q)?);
            let (cache, batch) = (stage.f32(&[pages.len() * PAGE, entry], &cache)?, stage.batch(&batch)?);
            let page_table = stage.u32(&[sequences, max_pages], &pages[..sequences * max_pages])?;
            let zeta = stage.fresh(&[count + 1, heads, latent])?;
            stage.run(MlaAttention {
                alpha: &alpha,
                q: &q,
                q_begin: 32,
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
