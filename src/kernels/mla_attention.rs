//! Absorbed attention over the paged latent cache, for any mix of sequences and positions (DEEPSEEK.md §4.1).

use super::case::{Case, Check, Rng, Stage, dot};
use super::latent_cache::{CacheFormat, LatentCache, with_entries};
use super::linear::{Linear, STATS_BINDING};
use super::{BatchRow, Lanes, PAGE, Rows, bind_batch, with_batch};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("mla_attention.wgsl");
const SPLIT_WHOLE: Part = wgsl!("parts/split_whole.wgsl");
const SPLIT_PARTS: Part = wgsl!("parts/split_parts.wgsl");

pub struct MlaAttention<'a> {
    /// Queries beside cache entries, `[rows, heads, latent + rope]`; their latent half is unread when `has_nope` is false
    pub x: &'a Tensor,
    /// `[pages * PAGE]` entries of latent + rope
    pub cache: &'a LatentCache,
    /// `[sequences, max_pages]`
    pub page_table: &'a Tensor,
    /// `[MAX_ROWS]` of [`super::BatchRow`]
    pub batch: &'a Tensor,
    /// `[rows, heads, latent]`, or with `stats` `[rows, splits, heads, latent]`, each over a part of the past
    pub zeta: &'a Tensor,
    /// With several parts what weighs them: each one's largest score and total, `[rows, splits, heads, 2]`
    pub stats: Option<&'a Tensor>,
    /// The softmax scale, with YaRN's factor (DEEPSEEK.md §2.4).
    pub scale: f32,
    /// Whether queries have a part without rotation; without one only rotary keys score.
    pub has_nope: bool,
    pub rows: &'a Rows,
}

params!(
    /// As `mla_attention.wgsl` has it.
    Params { heads: u32, latent: u32, rope: u32, score_begin: u32, max_pages: u32, entry_quads: u32, scale_begin: u32, scale: f32 }
);

/// Quads of latent columns that a lane owns, and quads of heads that a workgroup takes.
#[derive(Clone, Copy)]
struct Tile {
    columns: usize,
    heads: usize,
    cache: CacheFormat,
}

impl Tile {
    fn of(lanes: Lanes, heads: usize, latent: usize, cache: CacheFormat) -> Self {
        let quads = cache.piece_quads();
        let columns = (latent / 4 / quads).div_ceil(lanes.workgroup as usize) * quads;
        // More sums a lane than these would not stay near its registers.
        Self { columns, heads: if heads > 4 && columns <= 8 { 2 } else { 1 }, cache }
    }

    /// The functions that name every head and column: loops over them would index arrays, which compilers that do not unroll
    /// them (NIR leaves large ones) keep in memory, element by element.
    fn wgsl(self, lanes: Lanes) -> String {
        let quads: Vec<String> = (0..self.heads).map(|h| format!("h{h}")).collect();
        let each = |of: &dyn Fn(&str) -> String| quads.iter().map(|h| of(h)).collect::<Vec<_>>().join(", ");
        let lane_of = ["x", "y", "z", "w"];
        let heads = 4 * self.heads;
        let sum_names = |column: usize| (0..heads).map(move |head| format!("c{column}h{head}"));
        let mut text = format!("struct Shares {{ {} }}\n", each(&|h| format!("{h}: vec4<f32>")));
        let mut function = |head: &str, value: String| text += &format!("fn {head} -> Shares {{ return Shares({value}); }}\n");
        function("shares_of(v: f32)", each(&|_| "vec4<f32>(v)".into()));
        function("shares_inverse(s: Shares)", each(&|h| format!("1.0 / s.{h}")));
        function("hidden_unless(s: Shares, here: bool)", each(&|h| format!("select(vec4<f32>(HIDDEN), s.{h} * params.scale, here)")));
        if lanes.shares {
            function("shares_from(s: Shares, lane: u32)", each(&|h| format!("subgroupShuffle(s.{h}, lane)")));
        }
        function(
            "shares_exp(s: Shares, top: Shares, here: bool)",
            each(&|h| format!("select(vec4<f32>(0.0), exp(s.{h} - top.{h}), here)")),
        );
        let pair = "fn shares_pair_max(s: Shares, t: Shares) -> Shares";
        text += &format!("{pair} {{ return Shares({}); }}\n", each(&|h| format!("max(s.{h}, t.{h})")));
        text += &format!(
            "fn shares_max(s: Shares, t: Shares, at: Invocation) -> Shares {{ return Shares({}); }}\n",
            each(&|h| format!("max(s.{h}, lanes_max4(t.{h}, at))"))
        );
        text += &format!(
            "fn shares_total(s: Shares, shrink: Shares, a: Shares, b: Shares, at: Invocation) -> Shares {{ return Shares({}); }}\n",
            each(&|h| format!("s.{h} * shrink.{h} + lanes_sum4(a.{h} + b.{h}, at)"))
        );
        let picks: String = (0..heads).map(|head| format!("if i == {head}u {{ v = s.h{}.{}; }} ", head / 4, lane_of[head % 4])).collect();
        text += &format!("fn shares_pick(s: Shares, i: u32) -> f32 {{ var v = 0.0; {picks}return v; }}\n");

        text += "struct Scores { a: Shares, b: Shares }\n";
        text += "fn tile_scores(query: u32, first_head: u32, query_quads: u32, entry_a: u32, entry_b: u32, lane: u32) -> Scores {\n";
        text += "    var s = Scores();\n    for (var i = params.score_begin; i < query_quads; i += 8u) {\n";
        text += "        let a = load_key(entry_a, i / 8u);\n        let b = load_key(entry_b, i / 8u);\n";
        for head in 0..heads {
            let (h, l) = (head / 4, lane_of[head % 4]);
            text += &format!(
                "        {{ let q = load_x(query + min(first_head + {head}u, params.heads - 1u) * query_quads + i, lane); \
                 s.a.h{h}.{l} += block_dot(q, a); s.b.h{h}.{l} += block_dot(q, b); }}\n"
            );
        }
        text += "    }\n    return s;\n}\n";

        let fields: Vec<String> = (0..self.columns).flat_map(sum_names).map(|name| format!("{name}: vec4<f32>")).collect();
        text += &format!("struct Sums {{ {} }}\n", fields.join(", "));
        text += "fn sums_scale(s: ptr<function, Sums>, by: Shares) {\n";
        for column in 0..self.columns {
            for (head, name) in sum_names(column).enumerate() {
                text += &format!("    (*s).{name} *= by.h{}.{};\n", head / 4, lane_of[head % 4]);
            }
        }
        text += "}\nfn sums_add(s: ptr<function, Sums>, share: Shares, entry: u32, lane: u32) {\n";
        let quads = self.cache.piece_quads();
        for column in 0..self.columns {
            let piece = column / quads;
            if column % quads == 0 {
                let last = format!("params.latent / {}u - 1u", 4 * quads);
                text += &format!("    let p{piece} = load_piece(entry, min({piece}u * WORKGROUP_SIZE + lane, {last}));\n");
            }
            let value = format!("p{piece}.{}", ["a", "b", "c", "d"][column % quads]);
            for (head, name) in sum_names(column).enumerate() {
                text += &format!("    (*s).{name} = fma({value}, vec4<f32>(share.h{}.{}), (*s).{name});\n", head / 4, lane_of[head % 4]);
            }
        }
        text += "}\nfn sums_put(s: Sums, by: Shares, to: u32, first_head: u32, lane: u32) {\n";
        for column in 0..self.columns {
            let (piece, quad) = (column / quads, column % quads);
            text += &format!("    let c{column} = ({piece}u * WORKGROUP_SIZE + lane) * {quads}u + {quad}u;\n");
            for (head, name) in sum_names(column).enumerate() {
                text += &format!(
                    "    zeta_put(to + {head}u * params.latent + c{column} * 4u, s.{name} * by.h{}.{}, \
                     select(0u, 4u, c{column} < params.latent / 4u && first_head + {head}u < params.heads));\n",
                    head / 4,
                    lane_of[head % 4]
                );
            }
        }
        text + "}\n"
    }
}

fn program(lanes: Lanes, tile: Tile, splits: usize) -> Program {
    let storage = lanes.storage();
    let split = if splits > 1 { SPLIT_PARTS } else { SPLIT_WHOLE };
    let program = Program::new("mla_attention", Params::FIELDS, [BODY, super::BOUND, super::weight::BLOCK, split]);
    let program = with_entries(program.quads("x", storage), tile.cache, storage).puts("zeta", storage);
    let program = lanes.with_tile(lanes.with_x(lanes.apply(with_batch(program)))).generated(tile.wgsl(lanes));
    program.set("PAGE", PAGE as u32).set("HEADS", 4 * tile.heads as u32).set("COLUMNS", tile.columns as u32).set("SPLITS", splits as u32)
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for lanes in Lanes::ALL {
        for splits in [1, lanes.splits()] {
            let sizes = if lanes.shares { [(1, 1), (4, 2), (16, 1)] } else { [(1, 2), (2, 2), (3, 1)] };
            for cache in CacheFormat::ALL {
                let columns = |columns: usize| columns.next_multiple_of(cache.piece_quads());
                let mut tiles = sizes.map(|(quads, heads)| (columns(quads), heads)).to_vec();
                tiles.dedup();
                all.extend(tiles.into_iter().map(|(columns, heads)| program(lanes, Tile { columns, heads, cache }, splits)));
            }
        }
    }
    all
}

impl Kernel for MlaAttention<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let splits = self.stats.map_or(1, |_| self.zeta.shape[1]);
        let [.., heads, latent] = self.zeta.shape[..] else { panic!("mla_attention: zeta {:?}", self.zeta) };
        let (heads, latent) = (heads as u32, latent as u32);
        let rope = self.cache.numbers as u32 - latent;
        assert!(rope.is_multiple_of(32) && latent.is_multiple_of(32) && self.x.dim(2) == latent + rope, "mla_attention: {:?}", self.x);
        let lanes = Lanes::of(gpu);
        let tile = Tile::of(lanes, heads as usize, latent as usize, self.cache.format);
        let program = program(lanes, tile, splits);
        let score_begin = if self.has_nope { 0 } else { latent / 4 };
        let (max_pages, scale) = (self.page_table.dim(1), self.scale);
        let (entry_quads, scale_begin) = (self.cache.entry_quads(), self.cache.scale_begin());
        let params = Params { heads, latent, rope, score_begin, max_pages, entry_quads, scale_begin, scale };
        let launch = Launch::new(program, params).read(self.x).read(&self.cache.entries).write(self.zeta).read(self.page_table);
        let launch = bind_batch(launch.uniform(&self.rows.step), self.batch);
        let launch = self.stats.iter().fold(launch, |launch, stats| launch.write_at(STATS_BINDING, stats));
        // How much of the cache is read depends on the positions; the least is one page a row.
        let count = self.rows.count as u64;
        let touched = self.cache.bytes(count * PAGE as u64);
        let flops = 2 * count * PAGE as u64 * u64::from(heads) * u64::from(2 * latent + rope);
        let launch = launch.reads(touched + 4 * count * u64::from(heads * (latent + rope))).flops(flops);
        let launch = launch.writes(4 * count * splits as u64 * u64::from(heads * latent));
        vec![launch.grid(self.rows.count, (heads as usize).div_ceil(4 * tile.heads), splits)]
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
    /// In parts, which a linear map merges.
    split: bool,
    cache: CacheFormat,
}

fn case(variant: Variant) -> Case {
    let Variant { heads, latent, rope, has_nope, count, lengths, same, split, cache: format } = variant;
    let sequences_word = if same { "one sequence" } else { "sequences" };
    let nope = if has_nope { "" } else { " without nope" };
    let split_word = if split { ", split" } else { "" };
    Case::new(
        format!(
            "mla_attention {heads} heads, {latent} + {rope}{nope}, {sequences_word} of {lengths:?} in {count} rows{split_word}, cache {format}"
        ),
        move |gpu| {
            let mut stage = Stage::new(gpu);
            let mut rng = Rng(51);
            let entry = latent + rope;
            let sequences = if same { 1 } else { lengths.len() };
            let longest = lengths.iter().copied().max().unwrap_or(1);
            let max_pages = longest.div_ceil(PAGE);
            let pages = rng.shuffled(sequences * max_pages + 1);
            let kept = |entry: &[f32]| format.decode(&format.encode(entry), entry.len());
            let cache: Vec<f32> = rng.numbers(pages.len() * PAGE * entry).chunks(entry).flat_map(kept).collect();
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
            let (cache, batch) = (LatentCache::of(gpu, format, entry, &cache)?, stage.batch(&batch)?);
            let page_table = stage.u32(&[sequences, max_pages], &pages[..sequences * max_pages])?;
            let rows = stage.rows(count, lengths.len())?;
            let check = Check::Nmse(1e-10, "f32 scores go through exp");
            if !split {
                let zeta = stage.fresh_quads(&[count + 1, heads, latent])?;
                let (x, cache, page_table, batch, zeta_out, rows) = (&x, &cache, &page_table, &batch, &zeta, &rows);
                stage.run(MlaAttention { x, cache, page_table, batch, zeta: zeta_out, stats: None, scale, has_nope, rows });
                stage.expect("zeta", &zeta, &expected, check);
                return stage.finish();
            }
            // Parts mean something only to what merges them.
            const OUT: usize = 8;
            let splits = Lanes::of(gpu).splits();
            let (weight, numbers) = rng.weight(gpu, WeightFormat::F32, [heads * OUT, latent])?;
            let merged: Vec<f32> =
                expected.chunks(heads * latent).flat_map(|zeta| super::linear::reference(zeta, &numbers, latent, heads)).collect();
            let (zeta, stats) = (stage.fresh_quads(&[count, splits, heads, latent])?, stage.fresh(&[count, splits, heads, 2])?);
            let y = stage.fresh_quads(&[count + 1, heads * OUT])?;
            let (parts, weighs) = (&zeta, Some(&stats));
            stage.run(MlaAttention {
                x: &x,
                cache: &cache,
                page_table: &page_table,
                batch: &batch,
                zeta: parts,
                stats: weighs,
                scale,
                has_nope,
                rows: &rows,
            });
            let (x, weight, y_out, rows) = (parts, &weight, &y, &rows);
            let linear = Linear { x, merge: weighs, norm: None, weight, bias: None, columns: None, base: None, y: y_out, heads, rows };
            stage.run(linear);
            stage.expect("y", &y, &merged, check);
            stage.finish()
        },
    )
}

pub(super) fn cases() -> Vec<Case> {
    let few = Variant {
        heads: 3,
        latent: 64,
        rope: 32,
        has_nope: true,
        count: 3,
        lengths: &[7, 65],
        same: false,
        split: false,
        cache: CacheFormat::F32,
    };
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
    all.extend([1, 3, 5, 9].map(|heads| Variant { heads, lengths: &[1, 65], count: 2, split: true, ..few }));
    all.extend([32, 256, 512].map(|latent| Variant { heads: 6, latent, lengths: &[130, 2, 9], split: true, ..few }));
    all.push(Variant { lengths: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], same: true, count: 16, ..few });
    all.push(Variant { lengths: &[130, 1, 64, 33, 129, 2, 65], count: 8, heads: 6, ..few });
    for cache in [CacheFormat::F16, CacheFormat::Q8] {
        all.extend([32, 96, 224, 512, 576].map(|latent| Variant { heads: 6, latent, lengths: &[130, 2, 9], split: true, cache, ..few }));
        all.extend([1, 9].map(|heads| Variant { heads, latent: 224, has_nope: false, cache, ..few }));
    }
    let timed = Variant { cache: CacheFormat::F16, heads: 16, latent: 512, rope: 64, count: 1, lengths: &[1024], split: true, ..few };
    let small = Variant { heads: 8, latent: 128, lengths: &[2048], ..timed };
    let timed = [
        timed,
        Variant { cache: CacheFormat::F32, ..timed },
        Variant { cache: CacheFormat::Q8, ..timed },
        small,
        Variant { heads: 9, latent: 192, has_nope: false, ..timed },
        Variant { lengths: &[8192], ..timed },
    ];
    all.into_iter().map(case).chain(timed.map(|variant| case(variant).bench())).collect()
}
