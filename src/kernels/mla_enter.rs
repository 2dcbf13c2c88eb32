//! Brings rows into the latent space: queries absorbed and turned, latents normalised, keys turned and cached
//! (DEEPSEEK.md §3.2, §3.3, §4.1).

use super::case::{Case, F32_SUMS, Rng, Stage, UNTOUCHED, dot, rotary};
use super::latent_cache::{CacheFormat, LatentCache, with_append};
use super::weight::{BLOCK, PUT_BLOCK, bind_weight, every_format_of_parts, with_weight};
use super::{BatchRow, Lanes, PAGE, Rows, Weight, bind_batch, with_batch};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("mla_enter.wgsl");
const ABSORB_NONE: Part = wgsl!("parts/absorb_none.wgsl");
const ABSORB_WEIGHT: Part = wgsl!("parts/absorb_weight.wgsl");
const ABSORB_TILED: Part = wgsl!("parts/absorb_tiled.wgsl");
const ABSORB_BLOCK: Part = wgsl!("parts/absorb_block.wgsl");

/// The key half of kv_b, which brings queries into the latent space.
#[derive(Clone, Copy)]
pub struct Absorption<'a> {
    /// `[heads * nope, latent]`
    pub weight: &'a Weight,
    /// Numbers of x from head to head, a multiple of 4 of at least `nope`, zeros beyond.
    pub head_stride: usize,
}

pub struct MlaEnter<'a> {
    /// Queries as projected: `[rows, cols]`, heads' parts without rotation from 0 on
    pub x: &'a Tensor,
    /// Where in a row of x the heads' rotary parts begin, one after another.
    pub x_rope_begin: usize,
    pub absorption: Option<Absorption<'a>>,
    /// `[rows, cols]`: what `kv_a_proj_with_mqa` gave is `[latent ; keys]` from `u_begin` on
    pub u: &'a Tensor,
    pub u_begin: usize,
    /// `kv_a_layernorm`: `[latent]`
    pub gain: &'a Tensor,
    /// cos and sin: `[positions, rope]`
    pub rotary: &'a Tensor,
    /// `[MAX_ROWS]` of [`super::BatchRow`]
    pub batch: &'a Tensor,
    /// Queries beside cache entries: `[rows, heads, latent + rope]`, or without absorption `[rows, heads, rope]`
    pub y: &'a Tensor,
    /// `[pages * PAGE]` entries of the latent and the rotary keys: one, or one for each group of heads
    pub cache: &'a LatentCache,
    /// The latent's own width, without padding.
    pub latent_dim: usize,
    pub eps: f32,
    pub rows: &'a Rows,
}

params!(
    /// As `mla_enter.wgsl` has it.
    Params {
        nope: u32,
        cols: u32,
        rope: u32,
        keys: u32,
        query: u32,
        heads: u32,
        head_begin: u32,
        blocks: u32,
        x_stride: u32,
        x_head_stride: u32,
        x_rope_begin: u32,
        u_stride: u32,
        u_begin: u32,
        latent_dim: u32,
        positions: u32,
        turns: u32,
        entry_quads: u32,
        scale_begin: u32,
        eps: f32,
    }
);

fn program(lanes: Lanes, cache: CacheFormat, format: Option<WeightFormat>, few: bool) -> Program {
    let storage = lanes.storage();
    let program = Program::new("mla_enter", Params::FIELDS, [BODY, super::BOUND]);
    // Without a weight to bring it along.
    let program = if format.is_none() { program.with(BLOCK) } else { program };
    let program = program.quads("x", storage).quads("u", storage).quads("gain", storage).quads("rotary", storage);
    let program = with_batch(lanes.apply(with_append(program.puts("y", storage), cache, storage)));
    match format {
        None => program.with(ABSORB_NONE),
        Some(format) => {
            let absorb = if few { ABSORB_WEIGHT } else { ABSORB_TILED };
            with_weight(program.with(absorb).with(ABSORB_BLOCK).with(PUT_BLOCK), format, storage)
        }
    }
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for lanes in Lanes::ALL {
        all.extend(CacheFormat::ALL.map(|cache| program(lanes, cache, None, true)));
        for few in [true, false] {
            all.extend(every_format_of_parts().into_iter().map(|format| program(lanes, CacheFormat::F16, Some(format), few)));
        }
    }
    all
}

impl Kernel for MlaEnter<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let lanes = Lanes::of(gpu);
        let (heads, query, cols, entry) = (self.y.shape[1], self.y.shape[2], self.gain.len(), self.cache.numbers);
        let rope = query - if self.absorption.is_some() { cols } else { 0 };
        let keys = entry - cols;
        assert!(keys.is_multiple_of(rope), "mla_enter: rotary keys of {keys} numbers for queries of {rope}");
        let shape = [self.x.shape[1], self.x_rope_begin, self.u.shape[1], self.u_begin, cols, rope];
        assert!(shape.iter().all(|size| size.is_multiple_of(4)), "mla_enter: {shape:?} are not made of quads");
        assert!(self.x.shape[1] >= self.x_rope_begin + heads * rope && self.u.shape[1] >= self.u_begin + entry, "mla_enter: {shape:?}");
        assert_eq!(self.rotary.shape[1], rope, "mla_enter: rotary");
        let launch = |slab: Option<&super::Slab>| {
            let (rows, begin, nope, stride) = match (slab, self.absorption) {
                (Some(slab), Some(Absorption { weight, head_stride })) => (slab.rows, slab.row_begin, weight.rows / heads, head_stride / 4),
                _ => (0, 0, 1, 0),
            };
            let blocks = rows / nope * (cols / 32);
            let turns = if begin == 0 { 2 } else { 0 };
            let params = Params {
                nope: nope as u32,
                cols: cols as u32,
                rope: rope as u32,
                keys: keys as u32,
                query: query as u32,
                heads: heads as u32,
                head_begin: (begin / nope) as u32,
                blocks: blocks as u32,
                x_stride: self.x.dim(1) / 4,
                x_head_stride: stride as u32,
                x_rope_begin: self.x_rope_begin as u32 / 4,
                u_stride: self.u.dim(1) / 4,
                u_begin: self.u_begin as u32 / 4,
                latent_dim: self.latent_dim as u32,
                positions: self.rotary.dim(0),
                turns: turns as u32,
                entry_quads: self.cache.entry_quads(),
                scale_begin: self.cache.scale_begin(),
                eps: self.eps,
            };
            let program = program(lanes, self.cache.format, self.absorption.map(|absorption| absorption.weight.format), self.rows.few);
            let launch = Launch::new(program, params).read(self.x).read(self.u).read(self.gain).read(self.rotary);
            let launch = bind_batch(self.cache.write(launch.write(self.y)).uniform(&self.rows.step), self.batch);
            let launch = slab.iter().fold(launch, |launch, slab| bind_weight(launch, slab));
            let count = self.rows.count as u64;
            let weight_bytes = self.absorption.map_or(0, |absorption| rows as u64 * absorption.weight.row_bytes());
            let queries = 4 * count * (heads * query) as u64;
            let launch = launch.flops(2 * count * (rows * cols) as u64).reads(weight_bytes + queries + 4 * count * entry as u64);
            let launch = launch.writes(queries + self.cache.bytes(count));
            launch.grid(turns + blocks.div_ceil(lanes.workgroup as usize), self.rows.count, 1)
        };
        match self.absorption {
            None => vec![launch(None)],
            Some(absorption) => absorption.weight.slabs.iter().map(|slab| launch(Some(slab))).collect(),
        }
    }
}

/// Pairs of neighbours turned by (cos, sin).
fn turned(pairs: &[f32], turns: &[f32]) -> Vec<f32> {
    let turn = |(pair, turn): (&[f32], &[f32])| {
        let [a, b, cos, sin] = [pair[0], pair[1], turn[0], turn[1]].map(f64::from);
        [(a * cos - b * sin) as f32, (b * cos + a * sin) as f32]
    };
    pairs.chunks_exact(2).zip(turns.chunks_exact(2)).flat_map(turn).collect()
}

/// One head's query: `[latent]` from its rows of the weight, then the rotary part turned.
pub fn reference_query(q: &[f32], weight: &[f32], cols: usize, q_rope: &[f32], turns: &[f32]) -> Vec<f32> {
    let column = |j: usize| q.iter().zip(weight.chunks(cols)).map(|(&q, row)| f64::from(q) * f64::from(row[j])).sum::<f64>() as f32;
    (0..cols).map(column).chain(turned(q_rope, turns)).collect()
}

/// One cache entry: the latent normalised, every key turned; `u` is `[latent + keys]` as stored.
pub fn reference_entry(u: &[f32], gain: &[f32], latent_dim: usize, turns: &[f32], eps: f32) -> Vec<f32> {
    let (latent, keys) = u.split_at(gain.len());
    let scale = 1.0 / (dot(latent, latent) / latent_dim as f64 + f64::from(eps)).sqrt();
    let latent = latent.iter().zip(gain).map(|(&u, &gain)| (f64::from(u) * scale * f64::from(gain)) as f32);
    latent.chain(keys.chunks(turns.len()).flat_map(|key| turned(key, turns))).collect()
}

#[derive(Clone, Copy)]
struct Variant {
    format: Option<WeightFormat>,
    count: usize,
    live: usize,
    heads: usize,
    nope: usize,
    latent_dim: usize,
    pairs: usize,
    /// Keys of an entry.
    keys: usize,
    slab_heads: usize,
    cache: CacheFormat,
}

fn case(variant: Variant) -> Case {
    let Variant { format, count, live, heads, nope, latent_dim, pairs, keys, slab_heads, cache: cache_format } = variant;
    let weight_word = format.map_or("no weight".to_string(), |format| format.to_string());
    let name = format!(
        "mla_enter {live} of {count} rows, {heads} heads {nope}×{latent_dim} + {}, {keys} keys, {slab_heads} a slab, {weight_word}, cache {cache_format}",
        2 * pairs
    );
    Case::new(name, move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(41);
        let stored = |dim: usize| dim.next_multiple_of(super::BLOCK_COLS);
        let (cols, rope, nope_stride) = (stored(latent_dim), stored(2 * pairs), stored(nope) * usize::from(format.is_some()));
        let (entry, latent_query) = (cols + keys * rope, if format.is_some() { cols } else { 0 });
        let query = latent_query + rope;
        let weight =
            format.map(|format| rng.weight_in_slabs(gpu, format, [heads * nope, latent_dim], nope, slab_heads * nope)).transpose()?;
        let (x_rope_begin, u_begin) = (heads * nope_stride, 8);
        let (x_stride, u_stride) = (x_rope_begin + heads * rope + 4, u_begin + entry);
        // Zeros pad every part.
        let mut x = vec![0.0; count * x_stride];
        let mut u = vec![0.0; count * u_stride];
        for (x, u) in x.chunks_mut(x_stride).zip(u.chunks_mut(u_stride)) {
            for head in 0..heads {
                if format.is_some() {
                    x[head * nope_stride..][..nope].copy_from_slice(&rng.numbers(nope));
                }
                x[x_rope_begin + head * rope..][..2 * pairs].copy_from_slice(&rng.numbers(2 * pairs));
            }
            u[u_begin..][..latent_dim].copy_from_slice(&rng.numbers(latent_dim));
            u[u_begin + cols..][..keys * rope].chunks_mut(rope).for_each(|key| key[..2 * pairs].copy_from_slice(&rng.numbers(2 * pairs)));
        }
        let gain = rng.padded(1, latent_dim, cols);
        let (positions, entries, eps) = (3 * PAGE, 2 * PAGE, 1e-3);
        let mut turns = vec![0.0; positions * rope];
        for (turns, own) in turns.chunks_mut(rope).zip(rotary(positions, pairs).chunks(2 * pairs)) {
            turns[..2 * pairs].copy_from_slice(own);
        }
        let places = rng.shuffled(entries);
        let row = |row: usize| BatchRow { token: 1, position: (PAGE - 3 + row) as u32, sequence: 0, entry: places[row] };
        let batch: Vec<BatchRow> = (0..count).map(row).collect();
        let mut queries = vec![f32::from_bits(UNTOUCHED); count * heads * query];
        let mut expected = vec![f32::from_bits(UNTOUCHED); entries * entry];
        for (i, row) in batch.iter().enumerate() {
            let turns = &turns[row.position as usize * rope..][..rope];
            for head in 0..heads {
                let q_rope = &x[i * x_stride + x_rope_begin + head * rope..][..rope];
                let to = &mut queries[(i * heads + head) * query..][..query];
                match &weight {
                    // Many rows are absorbed by fours, those past the last live one's not.
                    Some(_) if count > super::FEW_ROWS && i >= live.next_multiple_of(4) => {
                        to[cols..].copy_from_slice(&turned(q_rope, turns));
                    }
                    Some((_, numbers)) => {
                        let q = &x[i * x_stride + head * nope_stride..][..nope];
                        to.copy_from_slice(&reference_query(q, &numbers[head * nope * cols..][..nope * cols], cols, q_rope, turns));
                    }
                    None => to.copy_from_slice(&turned(q_rope, turns)),
                }
            }
            if i < live {
                let numbers = reference_entry(&u[i * u_stride + u_begin..][..entry], &gain, latent_dim, turns, eps);
                expected[row.entry as usize * entry..][..entry].copy_from_slice(&numbers);
            }
        }
        let (x, u, gain) = (stage.quads(&[count, x_stride], &x)?, stage.quads(&[count, u_stride], &u)?, stage.quads(&[cols], &gain)?);
        let (rotary, batch) = (stage.quads(&[positions, rope], &turns)?, stage.batch(&batch)?);
        let (y, cache) = (stage.fresh_quads(&[count + 1, heads, query])?, stage.fresh_cache(cache_format, entries, entry)?);
        let absorption = weight.as_ref().map(|(weight, _)| Absorption { weight, head_stride: nope_stride });
        stage.run(MlaEnter {
            x: &x,
            x_rope_begin,
            absorption,
            u: &u,
            u_begin,
            gain: &gain,
            rotary: &rotary,
            batch: &batch,
            y: &y,
            cache: &cache,
            latent_dim,
            eps,
            rows: &stage.rows(count, live)?,
        });
        stage.expect("y", &y, &queries, F32_SUMS);
        stage.expect_entries("cache", &cache, &expected);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    let of = |format, [count, live]: [usize; 2], [heads, nope, latent_dim, pairs]: [usize; 4], slab_heads| Variant {
        format,
        count,
        live,
        heads,
        nope,
        latent_dim,
        pairs,
        keys: 1,
        slab_heads,
        cache: CacheFormat::F32,
    };
    let bf16 = Some(WeightFormat::Bf16);
    let mut all = vec![of(bf16, [2, 2], [3, 12, 64, 8], 3)];
    all.extend(every_format_of_parts().into_iter().map(|format| of(Some(format), [1, 1], [2, 5, 160, 16], 2)));
    all.extend([[1, 1, 32, 1], [5, 7, 96, 7]].map(|shape| of(Some(WeightFormat::F32), [3, 3], shape, 2)));
    all.push(of(Some(WeightFormat::Fp8), [16, 13], [3, 8, 64, 16], 1));
    all.extend([[5, 3], [16, 13]].map(|rows| of(None, rows, [3, 1, 40, 48], 3)));
    all.extend([[1, 1], [16, 13]].map(|rows| Variant { keys: 3, ..of(None, rows, [9, 1, 193, 32], 9) }));
    for cache in [CacheFormat::F16, CacheFormat::Q8] {
        all.extend([[1, 1], [5, 3], [16, 13]].map(|rows| Variant { cache, ..of(bf16, rows, [3, 8, 160, 16], 3) }));
        all.push(Variant { cache, keys: 2, ..of(None, [2, 2], [4, 1, 40, 48], 4) });
    }
    let timed = [of(bf16, [1, 1], [16, 128, 512, 32], 16), of(bf16, [128, 128], [16, 128, 512, 32], 16)];
    all.into_iter().map(case).chain(timed.map(|variant| case(variant).bench())).collect()
}
