//! Absorbed attention over the paged latent cache, for any mix of sequences and positions (DEEPSEEK.md §4.1).

use super::case::{Case, Check, Rng, Stage, dot};
use super::latent_cache::{CacheFormat, LatentCache, with_entries};
use super::linear::{Linear, STATS_BINDING};
use super::{BLOCK_COLS, BatchRow, Job, Lanes, PAGE, Rows, bind_batch, with_batch};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

mod unrolled;

use unrolled::Tile;

const POSITIONS: Part = wgsl!("mla_attention.wgsl");
const COLUMNS: Part = wgsl!("mla_attention_shared.wgsl", Subgroups);
const PAST: Part = wgsl!("parts/past.wgsl");
const SPLIT_WHOLE: Part = wgsl!("parts/split_whole.wgsl");
const SPLIT_PARTS: Part = wgsl!("parts/split_parts.wgsl");

pub struct MlaAttention<'a> {
    /// Queries, `[rows, heads, query]`
    pub x: &'a Tensor,
    /// `[pages * PAGE]` entries: groups' latents come first in one, their keys, as wide as a query, last. In MLA a key is the latent and
    /// the rotary key, so all of the entry; only the latter where queries have no part without rotation.
    pub cache: &'a LatentCache,
    /// `[sequences, max_pages]`
    pub page_table: &'a Tensor,
    /// `[MAX_ROWS]` of [`super::BatchRow`]
    pub batch: &'a Tensor,
    /// `[rows, heads, latent]`, or with `stats` `[rows, splits, heads, latent]`, each over a part of the past
    pub zeta: &'a Tensor,
    /// With several parts what weighs them: each one's largest score and total, `[rows, splits, heads, 4]`
    pub stats: Option<&'a Tensor>,
    /// The softmax scale, with YaRN's factor (DEEPSEEK.md §2.4).
    pub scale: f32,
    /// Groups of heads with a latent and a key of their own; 1 in MLA.
    pub groups: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `parts/past.wgsl` has it.
    Params {
        heads: u32,
        group_heads: u32,
        query: u32,
        latent: u32,
        key_begin: u32,
        key_stride: u32,
        max_pages: u32,
        entry_quads: u32,
        scale_begin: u32,
        scale: f32,
    }
);

fn program(lanes: Lanes, tile: Tile, splits: usize) -> Program {
    let storage = lanes.storage();
    let program = match tile.keys {
        None => lanes.with_x(Program::new("mla_attention", Params::FIELDS, [POSITIONS, super::BOUND])),
        Some(_) => Program::new("mla_attention", Params::FIELDS, [COLUMNS]),
    };
    let program = program.with(PAST).with(super::weight::BLOCK);
    let program = match splits {
        1 => program.with(SPLIT_WHOLE),
        _ => program.with(SPLIT_PARTS).puts_at(STATS_BINDING, "stats", storage),
    };
    let program = with_entries(program.quads("x", storage), tile.cache, storage).puts("zeta", storage);
    let program = lanes.apply(with_batch(program)).generated(tile.wgsl());
    let program = program.set("PAGE", PAGE as u32).set("HEADS", 4 * tile.heads as u32).set("COLUMNS", tile.columns as u32);
    let program = program.set("SPLITS", splits as u32);
    match tile.keys {
        None => program,
        Some(keys) => program
            .set("KEY_PIECES", keys.pieces as u32)
            .set("KEYS_HALVED", u32::from(keys.half))
            .set("KEYS_HOLD_LATENTS", u32::from(keys.hold_latents)),
    }
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for lanes in Lanes::ATTENTION {
        for splits in [1, lanes.splits()] {
            for cache in CacheFormat::ALL {
                // A grouped model's heads, a small one's, and DeepSeek's.
                let sizes = [(3, 64, 64, false), (8, 160, 128, true), (16, 576, 512, true)];
                let held = sizes.into_iter().filter(|(_, _, latent, _)| lanes.hold(*latent));
                let mut tiles: Vec<Tile> =
                    held.map(|(heads, query, latent, all)| Tile::of(lanes, heads, query, latent, all, cache)).collect();
                tiles.dedup();
                all.extend(tiles.into_iter().map(|tile| program(lanes, tile, splits)));
            }
        }
    }
    all
}

impl Kernel for MlaAttention<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let splits = self.stats.map_or(1, |_| self.zeta.shape[1]);
        let [.., heads, latent] = self.zeta.shape[..] else { panic!("mla_attention: zeta {:?}", self.zeta) };
        let (query, groups) = (self.x.shape[2], self.groups);
        let keys = groups * query;
        assert!(heads.is_multiple_of(groups) && query.is_multiple_of(32) && latent.is_multiple_of(32), "mla_attention: {:?}", self.x);
        assert!(keys.max(groups * latent) <= self.cache.numbers && self.x.shape[1] == heads, "mla_attention: {:?}", self.x);
        let group_heads = heads / groups;
        let lanes = Lanes::of_attention(gpu, latent);
        let hold_latents = keys == self.cache.numbers && groups == 1;
        let tile = Tile::of(lanes, group_heads, query, latent, hold_latents, self.cache.format);
        let params = Params {
            heads: heads as u32,
            group_heads: group_heads as u32,
            query: query as u32,
            latent: latent as u32,
            key_begin: ((self.cache.numbers - keys) / BLOCK_COLS) as u32,
            key_stride: (query / BLOCK_COLS) as u32,
            max_pages: self.page_table.dim(1),
            entry_quads: self.cache.entry_quads(),
            scale_begin: self.cache.scale_begin(),
            scale: self.scale,
        };
        let launch = Launch::new(program(lanes, tile, splits), params).read(self.x).read(&self.cache.entries).write(self.zeta);
        let launch = bind_batch(launch.read(self.page_table).uniform(&self.rows.step), self.batch);
        let launch = self.stats.iter().fold(launch, |launch, stats| launch.write_at(STATS_BINDING, stats));
        // How much of the cache is read depends on the positions; the least is one page a row.
        let count = self.rows.count as u64;
        let touched = self.cache.bytes(count * PAGE as u64);
        let flops = 2 * count * (PAGE * heads * (query + latent)) as u64;
        let launch = launch.reads(touched + 4 * count * (heads * query) as u64).flops(flops);
        let launch = launch.writes(4 * count * (splits * heads * latent) as u64);
        vec![launch.grid(self.rows.count, groups * group_heads.div_ceil(4 * tile.heads), splits)]
    }
}

/// One head of one row: the softmax of its scores over `keys`, summing `latents`, a slice a position each.
pub fn reference(q: &[f32], keys: &[&[f32]], latents: &[&[f32]], scale: f32) -> Vec<f32> {
    let scores: Vec<f64> = keys.iter().map(|key| f64::from(scale) * dot(q, key)).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = shares.iter().sum();
    let column = |j: usize| shares.iter().zip(latents).map(|(share, latent)| share * f64::from(latent[j])).sum::<f64>() / total;
    (0..latents.first().map_or(0, |latent| latent.len())).map(|j| column(j) as f32).collect()
}

#[derive(Clone, Copy)]
struct Variant {
    heads: usize,
    /// Groups of heads.
    groups: usize,
    latent: usize,
    /// Numbers of a query: the latent's and rotary ones, or these alone.
    query: usize,
    /// Numbers of an entry.
    entry: usize,
    /// Room for rows, some dead.
    count: usize,
    /// Past of each live row, itself included; each row is a sequence of its own unless `same`.
    lengths: &'static [usize],
    same: bool,
    /// In parts, which a linear map merges.
    split: bool,
    cache: CacheFormat,
}

fn case(variant: Variant) -> Case {
    let Variant { heads, groups, latent, query, entry, count, lengths, same, split, cache: format } = variant;
    let sequences_word = if same { "one sequence" } else { "sequences" };
    let groups_word = if groups > 1 { format!(" in {groups} groups") } else { String::new() };
    let split_word = if split { ", split" } else { "" };
    Case::new(
        format!(
            "mla_attention {heads} heads{groups_word}, {query} to score, {latent} to sum, {sequences_word} of {lengths:?} in {count} rows{split_word}, cache {format}"
        ),
        move |gpu| {
            let mut stage = Stage::new(gpu);
            let mut rng = Rng(51);
            let sequences = if same { 1 } else { lengths.len() };
            let longest = lengths.iter().copied().max().unwrap_or(1);
            let max_pages = longest.div_ceil(PAGE);
            let pages = rng.shuffled(sequences * max_pages + 1);
            let kept = |entry: &[f32]| format.decode(&format.encode(entry), entry.len());
            let cache: Vec<f32> = rng.numbers(pages.len() * PAGE * entry).chunks(entry).flat_map(kept).collect();
            // Scores about as far apart as a trained model's.
            let x: Vec<f32> = rng.numbers(count * heads * query).iter().map(|v| v * 2.0).collect();
            let scale = 3.0 / (query as f32).sqrt();
            let mut batch = vec![BatchRow { token: 1, position: 0, sequence: 0, entry: 0 }; count];
            let mut expected = vec![];
            for (row, &length) in lengths.iter().enumerate() {
                let sequence = if same { 0 } else { row };
                batch[row] = BatchRow { position: length as u32 - 1, sequence: sequence as u32, ..batch[row] };
                let slot = |at: usize| pages[sequence * max_pages + at / PAGE] as usize * PAGE + at % PAGE;
                let entries: Vec<&[f32]> = (0..length).map(|at| &cache[slot(at) * entry..][..entry]).collect();
                for (head, q) in x[row * heads * query..][..heads * query].chunks(query).enumerate() {
                    let group = head / (heads / groups);
                    let part = |begin: usize, width: usize| entries.iter().map(|entry| &entry[begin..][..width]).collect::<Vec<_>>();
                    let (keys, latents) = (part(entry - (groups - group) * query, query), part(group * latent, latent));
                    expected.extend(reference(q, &keys, &latents, scale));
                }
            }
            let x = stage.quads(&[count, heads, query], &x)?;
            let (cache, batch) = (LatentCache::of(gpu, format, entry, &cache)?, stage.batch(&batch)?);
            let page_table = stage.u32(&[sequences, max_pages], &pages[..sequences * max_pages])?;
            let rows = stage.rows(count, lengths.len())?;
            let check = Check::Nmse(1e-10, "f32 scores go through exp");
            if !split {
                let zeta = stage.fresh_quads(&[count + 1, heads, latent])?;
                let (x, cache, page_table, batch, zeta_out, rows) = (&x, &cache, &page_table, &batch, &zeta, &rows);
                stage.run(MlaAttention { x, cache, page_table, batch, zeta: zeta_out, stats: None, scale, groups, rows });
                stage.expect("zeta", &zeta, &expected, check);
                return stage.finish();
            }
            // Parts mean something only to what merges them: a product a head, or one of all heads side by side.
            const OUT: usize = 8;
            let splits = Lanes::of(gpu).splits();
            let of = if groups > 1 { 1 } else { heads };
            let cols = heads / of * latent;
            let (weight, numbers) = rng.weight(gpu, WeightFormat::F32, [of * OUT, cols])?;
            let merged: Vec<f32> =
                expected.chunks(heads * latent).flat_map(|zeta| super::linear::reference(zeta, &numbers, cols, of)).collect();
            let (zeta, stats) = (stage.fresh_quads(&[count, splits, heads, latent])?, stage.fresh_quads(&[count, splits, heads, 4])?);
            let y = stage.fresh_quads(&[count + 1, of * OUT])?;
            let (parts, weighs) = (&zeta, Some(&stats));
            stage.run(MlaAttention {
                x: &x,
                cache: &cache,
                page_table: &page_table,
                batch: &batch,
                zeta: parts,
                stats: weighs,
                scale,
                groups,
                rows: &rows,
            });
            stage.run(Linear { merge: weighs, heads: of, ..Linear::plain(parts, &weight, &y, &rows) });
            stage.expect("y", &y, &merged, check);
            stage.finish()
        },
    )
}

impl Variant {
    /// Two sequences in MLA.
    fn mla(heads: usize, latent: usize, rope: usize) -> Self {
        let (query, count, lengths) = (latent + rope, 3, &[7, 65]);
        Self { heads, groups: 1, latent, query, entry: query, count, lengths, same: false, split: false, cache: CacheFormat::F32 }
    }

    /// Only rotary numbers score.
    fn without_nope(self) -> Self {
        Self { query: self.entry - self.latent, ..self }
    }

    /// Groups with keys and values of their own, and a block of an entry that none reads.
    fn grouped(heads: usize, groups: usize, dim: usize) -> Self {
        Self { groups, query: dim, entry: 2 * groups * dim + BLOCK_COLS, ..Self::mla(heads, dim, 0) }
    }
}

pub(super) fn cases() -> Vec<Case> {
    let few = |heads: usize| Variant::mla(heads, 64, 32);
    let mut all = vec![few(3)];
    let lengths: [&[usize]; 9] = [&[1], &[3], &[6], &[7], &[63], &[64], &[65], &[200], &[1000]];
    all.extend(lengths.map(|lengths| Variant { lengths, count: 1, ..Variant::mla(5, 32, 32) }));
    all.extend([1, 5, 6, 9, 16].map(few));
    all.extend([1, 6].map(|heads| few(heads).without_nope()));
    for latent in [32, 96, 256, 288, 512, 768] {
        all.extend([2, 5].map(|heads| Variant::mla(heads, latent, 32)));
    }
    all.extend([1, 9].map(|heads| Variant::mla(heads, 576, 64).without_nope()));
    all.extend([1, 3, 5, 9].map(|heads| Variant { lengths: &[1, 65], count: 2, split: true, ..few(heads) }));
    let split = |variant: Variant| Variant { lengths: &[130, 2, 9], split: true, ..variant };
    all.extend([32, 256, 512].map(|latent| split(Variant::mla(6, latent, 32))));
    all.push(Variant { lengths: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], same: true, count: 16, ..few(3) });
    all.push(Variant { lengths: &[130, 1, 64, 33, 129, 2, 65], count: 8, ..few(6) });
    let grouped =
        [(9, 3, 64), (2, 2, 32), (10, 2, 96), (24, 2, 128), (8, 8, 256)].map(|(heads, groups, dim)| Variant::grouped(heads, groups, dim));
    all.extend(grouped);
    all.extend(grouped.map(split));
    all.push(Variant { lengths: &[130, 1, 64, 33, 129, 2, 65], count: 8, ..grouped[0] });
    for cache in [CacheFormat::F16, CacheFormat::Q8] {
        all.extend([32, 96, 224, 512, 576].map(|latent| Variant { cache, ..split(Variant::mla(6, latent, 32)) }));
        all.extend([1, 9].map(|heads| Variant { cache, ..Variant::mla(heads, 224, 32).without_nope() }));
        all.extend(grouped.map(|variant| Variant { cache, ..variant }));
    }
    let timed = |variant: Variant| Variant { cache: CacheFormat::F16, count: 1, lengths: &[1024], split: true, ..variant };
    let lite = timed(Variant::mla(16, 512, 64));
    let timed = [
        lite,
        Variant { cache: CacheFormat::F32, ..lite },
        Variant { cache: CacheFormat::Q8, ..lite },
        Variant { lengths: &[2048], ..timed(Variant::mla(8, 128, 32)) },
        timed(Variant::grouped(9, 3, 64)),
        Variant { lengths: &[8192], ..lite },
    ];
    let tuned = case(Variant { heads: 32, ..lite }).bench().tunes(Job::Attention, "mla_attention");
    all.into_iter().map(case).chain(timed.map(|variant| case(variant).bench())).chain([tuned]).collect()
}
