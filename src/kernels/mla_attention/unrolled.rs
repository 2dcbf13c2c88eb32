//! The functions of attention that name every head and column. Loops over them would index arrays, which compilers that do not
//! unroll them (NIR leaves large ones) keep in memory, element by element.

use super::super::Lanes;
use super::super::latent_cache::CacheFormat;
use std::ops::Range;

const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];

/// What a workgroup's lanes own of heads, keys and latents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    /// Quads of latent columns that a lane sums.
    pub columns: usize,
    /// Quads of heads that a workgroup takes.
    pub heads: usize,
    /// The columns of keys that a lane scores; without any it scores positions.
    pub keys: Option<Keys>,
    pub cache: CacheFormat,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Keys {
    /// Pieces of an entry that a lane scores.
    pub pieces: usize,
    /// Half of the lanes have a piece more, so that two entries' last ones fit in one.
    pub half: bool,
    /// The latents are a key's first numbers, so that they are there already.
    pub hold_latents: bool,
}

impl Tile {
    /// For so many heads of a group.
    pub fn of(lanes: Lanes, heads: usize, query: usize, latent: usize, hold_latents: bool, cache: CacheFormat) -> Self {
        let quads = cache.piece_quads();
        let pieces = |numbers: usize| (numbers / 4 / quads).div_ceil(lanes.workgroup as usize);
        let columns = pieces(latent) * quads;
        let keys = lanes.shares.then(|| {
            let (all, workgroup) = (query / 4 / quads, lanes.workgroup as usize);
            let whole = all / workgroup;
            let half = whole > 0 && all % workgroup == workgroup / 2 && !(hold_latents && pieces(latent) > whole);
            Keys { pieces: if half { whole } else { pieces(query) }, half, hold_latents }
        });
        // More sums a lane than these would not stay near its registers; in the end each lane tells of one head.
        let is_roomy = columns <= 8 && lanes.workgroup >= 8;
        Self { columns, heads: if heads > 4 && is_roomy { 2 } else { 1 }, keys, cache }
    }

    pub fn wgsl(self) -> String {
        let scores = match self.keys {
            Some(keys) => self.queries(keys) + &self.entry(keys) + &self.heads_by_lane() + &self.pair(keys) + &self.entries_added(keys),
            None => self.positions_scored() + &self.tile_added(),
        };
        self.shares() + &scores + &self.sums()
    }

    /// A number of every head, each the same way.
    fn each(self, of: impl Fn(usize) -> String) -> String {
        (0..self.heads).map(of).collect::<Vec<_>>().join(", ")
    }

    /// A head's place among the quads of `Shares`.
    fn head(head: usize) -> String {
        format!("h{}.{}", head / 4, COMPONENTS[head % 4])
    }

    /// A field of `Piece`.
    fn quad(quad: usize) -> &'static str {
        ["a", "b", "c", "d"][quad]
    }

    /// A field of `Sums`.
    fn sum(column: usize, head: usize) -> String {
        format!("c{column}h{head}")
    }

    fn sum_names(self, column: usize) -> impl Iterator<Item = String> {
        (0..4 * self.heads).map(move |head| Self::sum(column, head))
    }

    /// A number for every head of the workgroup.
    fn shares(self) -> String {
        let mut text = format!("struct Shares {{ {} }}\n", self.each(|h| format!("h{h}: vec4<f32>")));
        let mut function = |head: &str, value: String| text += &format!("fn {head} -> Shares {{ return Shares({value}); }}\n");
        function("shares_of(v: f32)", self.each(|_| "vec4<f32>(v)".into()));
        function("shares_inverse(s: Shares)", self.each(|h| format!("1.0 / s.h{h}")));
        let picks: String = (0..4 * self.heads).map(|head| format!("if i == {head}u {{ v = s.{}; }} ", Self::head(head))).collect();
        text + &format!("fn shares_pick(s: Shares, i: u32) -> f32 {{ var v = 0.0; {picks}return v; }}\n")
    }

    /// A lane scores two positions for every head.
    fn positions_scored(self) -> String {
        let mut text = String::new();
        let mut function = |head: &str, value: String| text += &format!("fn {head} -> Shares {{ return Shares({value}); }}\n");
        function("hidden_unless(s: Shares, here: bool)", self.each(|h| format!("select(vec4<f32>(HIDDEN), s.h{h} * params.scale, here)")));
        function(
            "shares_exp(s: Shares, top: Shares, here: bool)",
            self.each(|h| format!("select(vec4<f32>(0.0), exp(s.h{h} - top.h{h}), here)")),
        );
        function("shares_pair_max(s: Shares, t: Shares)", self.each(|h| format!("max(s.h{h}, t.h{h})")));
        function("shares_max(s: Shares, t: Shares, at: Invocation)", self.each(|h| format!("max(s.h{h}, lanes_max4(t.h{h}, at))")));
        function(
            "shares_total(s: Shares, shrink: Shares, a: Shares, b: Shares, at: Invocation)",
            self.each(|h| format!("s.h{h} * shrink.h{h} + lanes_sum4(a.h{h} + b.h{h}, at)")),
        );
        text += "struct Scores { a: Shares, b: Shares }\n";
        text += "fn tile_scores(query: u32, heads: HeadTile, query_quads: u32, entry_a: u32, entry_b: u32, lane: u32) -> Scores {\n";
        text += "    var s = Scores();\n    for (var i = 0u; i < query_quads; i += 8u) {\n";
        text += "        let a = load_key(entry_a, heads.key + i / 8u);\n        let b = load_key(entry_b, heads.key + i / 8u);\n";
        for head in 0..4 * self.heads {
            let of = Self::head(head);
            text += &format!(
                "        {{ let q = load_x(query + min(heads.first + {head}u, heads.end - 1u) * query_quads + i, lane); \
                 s.a.{of} += block_dot(q, a); s.b.{of} += block_dot(q, b); }}\n"
            );
        }
        text + "    }\n    return s;\n}\n"
    }

    /// The sums of four positions, of which all lanes know the shares. Four at once: sums that do not fit in registers are read and
    /// written a fourth as often.
    fn tile_added(self) -> String {
        let mut text = "fn sums_scale(s: ptr<function, Sums>, by: Shares) {\n".to_string();
        for column in 0..self.columns {
            for (head, name) in self.sum_names(column).enumerate() {
                text += &format!("    (*s).{name} *= by.{};\n", Self::head(head));
            }
        }
        text += "}\nfn sums_add(s: ptr<function, Sums>, s0: Shares, s1: Shares, s2: Shares, s3: Shares, entries: vec4<u32>, latent: u32, \
                 lane: u32) {\n";
        let quads = self.cache.piece_quads();
        for column in 0..self.columns {
            let piece = column / quads;
            if column % quads == 0 {
                let last = format!("params.latent / {}u - 1u", 4 * quads);
                text += &format!("    let at{piece} = latent * {}u + min({piece}u * WORKGROUP_SIZE + lane, {last});\n", 8 / quads);
                for (position, of) in COMPONENTS.iter().enumerate() {
                    text += &format!("    let p{piece}_{position} = load_piece(entries.{of}, at{piece});\n");
                }
            }
            for (head, name) in self.sum_names(column).enumerate() {
                let sum = (0..4).fold(format!("(*s).{name}"), |sum, position| {
                    format!("fma(p{piece}_{position}.{}, vec4<f32>(s{position}.{}), {sum})", Self::quad(column % quads), Self::head(head))
                });
                text += &format!("    (*s).{name} = {sum};\n");
            }
        }
        text + "}\n"
    }

    /// A lane's columns of the queries, scaled.
    fn queries(self, keys: Keys) -> String {
        let quads = self.cache.piece_quads();
        let pieces = keys.pieces + usize::from(keys.half);
        let all = (0..pieces).flat_map(|piece| (0..quads).map(move |quad| (piece, quad)));
        let all = all.flat_map(|(piece, quad)| (0..4 * self.heads).map(move |head| (piece, quad, head)));
        let fields: Vec<String> = all.clone().map(|(piece, quad, head)| format!("{}: vec4<f32>", Self::query(piece, quad, head))).collect();
        let mut text = format!("struct Queries {{ {} }}\n", fields.join(", "));
        text += "fn load_queries(query: u32, heads: HeadTile, lane: u32) -> Queries {\n    var q: Queries;\n    let quads = params.query / 4u;\n";
        for (piece, quad, head) in all {
            let lane = if piece == keys.pieces { "lane % HALF" } else { "lane" };
            text += &format!(
                "    {{ let i = ({piece}u * WORKGROUP_SIZE + {lane}) * {quads}u + {quad}u; \
                 let v = x_at(query + min(heads.first + {head}u, heads.end - 1u) * quads + min(i, quads - 1u)); \
                 q.{} = v * select(0.0, params.scale, i < quads); }}\n",
                Self::query(piece, quad, head)
            );
        }
        text + "    return q;\n}\n"
    }

    /// A field of `Queries`.
    fn query(piece: usize, quad: usize, head: usize) -> String {
        format!("k{piece}{}h{head}", Self::quad(quad))
    }

    /// A lane's columns of an entry, and what they add to the scores of all heads.
    fn entry(self, keys: Keys) -> String {
        let quads = self.cache.piece_quads();
        let latents = if keys.hold_latents { 0 } else { self.columns / quads };
        let pieces = (0..keys.pieces).map(|piece| ("k", piece, "key", "query"));
        let pieces: Vec<_> = pieces.chain((0..latents).map(|piece| ("l", piece, "latent", "latent"))).collect();
        let fields: Vec<String> = pieces.iter().map(|(name, piece, ..)| format!("{name}{piece}: Piece")).collect();
        let load = |&(_, piece, begin, width): &(&str, usize, &str, &str)| {
            let at = format!("min({piece}u * WORKGROUP_SIZE + lane, params.{width} / {}u - 1u)", 4 * quads);
            format!("load_piece(entry, heads.{begin} * {}u + {at})", 8 / quads)
        };
        let loads: Vec<String> = pieces.iter().map(load).collect();
        format!(
            "struct Entry {{ {} }}\nfn load_entry(entry: u32, heads: HeadTile, lane: u32) -> Entry {{\n    return Entry({});\n}}\n",
            fields.join(", "),
            loads.join(",\n                 ")
        ) + &self.columns_scored("entry_scores", "Entry", 0..keys.pieces)
    }

    /// Two entries, and their scores: each lane's are of one head.
    fn pair(self, keys: Keys) -> String {
        let Keys { pieces, half, .. } = keys;
        if !half {
            return "struct Pair { a: Entry, b: Entry }\n\
                    fn load_pair(a: u32, b: u32, heads: HeadTile, lane: u32) -> Pair {\n    \
                    return Pair(load_entry(a, heads, lane), load_entry(b, heads, lane));\n}\n\
                    fn pair_scores(q: Queries, pair: Pair, lane: u32) -> vec2<f32> {\n    \
                    return vec2<f32>(head_score(entry_scores(q, pair.a), lane), head_score(entry_scores(q, pair.b), lane));\n}\n"
                .into();
        }
        // The first half of the lanes has the rest of one entry, the second half that of the other.
        let sum = |entry: &str, is_its: &str| {
            let sums = self.each(|h| format!("{entry}.h{h} + select(vec4<f32>(0.0), rest.h{h}, {is_its})"));
            format!("head_score(Shares({sums}), lane)")
        };
        format!(
            "struct Rest {{ k{pieces}: Piece }}\nstruct Pair {{ a: Entry, b: Entry, rest: Rest }}\n\
             fn load_pair(a: u32, b: u32, heads: HeadTile, lane: u32) -> Pair {{\n    \
             let rest = load_piece(select(b, a, lane < HALF), heads.key * {}u + {pieces}u * WORKGROUP_SIZE + lane % HALF);\n    \
             return Pair(load_entry(a, heads, lane), load_entry(b, heads, lane), Rest(rest));\n}}\n",
            8 / self.cache.piece_quads()
        ) + &self.columns_scored("rest_scores", "Rest", pieces..pieces + 1)
            + &format!(
                "fn pair_scores(q: Queries, pair: Pair, lane: u32) -> vec2<f32> {{\n    let a = entry_scores(q, pair.a);\n    \
                 let b = entry_scores(q, pair.b);\n    let rest = rest_scores(q, pair.rest);\n    \
                 return vec2<f32>({}, {});\n}}\n",
                sum("a", "lane < HALF"),
                sum("b", "lane >= HALF")
            )
    }

    /// What a lane's columns add to the scores of all heads. Column by column, so that a number of the entry is at hand for all of
    /// them, and so are their sums.
    fn columns_scored(self, function: &str, of: &str, pieces: Range<usize>) -> String {
        let quads = self.cache.piece_quads();
        let mut text = format!("fn {function}(q: Queries, e: {of}) -> Shares {{\n");
        let columns = pieces.flat_map(|piece| (0..quads).flat_map(move |quad| COMPONENTS.map(|component| (piece, quad, component))));
        for (i, (piece, quad, component)) in columns.enumerate() {
            text += &format!("    let e{i} = e.k{piece}.{}.{component};\n", Self::quad(quad));
            for head in 0..4 * self.heads {
                let q = format!("q.{}.{component}", Self::query(piece, quad, head));
                text += &match i {
                    0 => format!("    var s{head} = {q} * e0;\n"),
                    _ => format!("    s{head} = fma({q}, e{i}, s{head});\n"),
                };
            }
        }
        let all = self.each(|h| format!("vec4<f32>(s{}, s{}, s{}, s{})", 4 * h, 4 * h + 1, 4 * h + 2, 4 * h + 3));
        text + &format!("    return Shares({all});\n}}\n")
    }

    /// From lanes that each hold a part of every head to lanes that each hold one head, and back. Of eight lanes each keeps half of
    /// its heads and gives the other half to the lane that keeps those; with four heads, lanes four apart hold the same.
    fn heads_by_lane(self) -> String {
        let halves = match self.heads {
            2 => {
                "    let high = (lane & 4u) != 0u;\n    \
                 let four = select(s.h0, s.h1, high) + subgroupShuffleXor(select(s.h1, s.h0, high), 4u);\n"
            }
            _ => "    let four = s.h0 + subgroupShuffleXor(s.h0, 4u);\n",
        };
        let of = |head: usize| format!("subgroupShuffle(v, {head}u)");
        let all = self.each(|h| format!("vec4<f32>({}, {}, {}, {})", of(4 * h), of(4 * h + 1), of(4 * h + 2), of(4 * h + 3)));
        format!(
            "fn head_score(s: Shares, lane: u32) -> f32 {{\n{halves}    \
             let back = (lane & 2u) != 0u;\n    \
             let two = select(four.xy, four.zw, back) + subgroupShuffleXor(select(four.zw, four.xy, back), 2u);\n    \
             let odd = (lane & 1u) != 0u;\n    \
             return select(two.x, two.y, odd) + subgroupShuffleXor(select(two.y, two.x, odd), 1u);\n}}\n\
             fn shares_from(v: f32) -> Shares {{ return Shares({all}); }}\n"
        )
    }

    /// The sums of four positions, of which each lane knows one head's shares.
    fn entries_added(self, keys: Keys) -> String {
        let mut text = "fn sums_add(s: ptr<function, Sums>, shrink: f32, share: vec4<f32>, front: Pair, back: Pair) {\n".to_string();
        let quads = self.cache.piece_quads();
        // Head by head, so that what weighs its sums is at hand for all columns.
        for head in 0..4 * self.heads {
            text += &format!("    {{ let by = subgroupShuffle(shrink, {head}u);\n    let w = subgroupShuffle(share, {head}u);\n");
            for column in 0..self.columns {
                let of = format!("{}{}.{}", if keys.hold_latents { "k" } else { "l" }, column / quads, Self::quad(column % quads));
                let name = Self::sum(column, head);
                let entries = ["front.a", "front.b", "back.a", "back.b"].iter().zip(COMPONENTS);
                let sum = entries.fold(format!("(*s).{name} * by"), |sum, (entry, position)| {
                    format!("fma({entry}.{of}, vec4<f32>(w.{position}), {sum})")
                });
                text += &format!("    (*s).{name} = {sum};\n");
            }
            text += "    }\n";
        }
        text + "}\n"
    }

    /// What a lane sums, and where it goes.
    fn sums(self) -> String {
        let fields: Vec<String> =
            (0..self.columns).flat_map(|column| self.sum_names(column)).map(|name| format!("{name}: vec4<f32>")).collect();
        let mut text = format!("struct Sums {{ {} }}\n", fields.join(", "));
        text += "fn sums_put(s: Sums, by: Shares, to: u32, heads: HeadTile, lane: u32) {\n";
        let quads = self.cache.piece_quads();
        for column in 0..self.columns {
            let (piece, quad) = (column / quads, column % quads);
            text += &format!("    let c{column} = ({piece}u * WORKGROUP_SIZE + lane) * {quads}u + {quad}u;\n");
            for (head, name) in self.sum_names(column).enumerate() {
                text += &format!(
                    "    zeta_put(to + {head}u * params.latent + c{column} * 4u, s.{name} * by.{}, \
                     select(0u, 4u, c{column} < params.latent / 4u && heads.first + {head}u < heads.end));\n",
                    Self::head(head)
                );
            }
        }
        text + "}\n"
    }
}
