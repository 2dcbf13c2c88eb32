// What the bodies of attention share: their arguments, where the past of a row lies, and which heads of it a workgroup takes.

struct Params {
    heads: u32,
    group_heads: u32,   // heads that score and sum the same numbers of an entry
    query: u32,         // numbers of a query, a multiple of 32
    latent: u32,        // latent numbers that a head sums, a multiple of 32
    key_begin: u32,     // where in an entry the first group's keys begin, in blocks of 32
    key_stride: u32,    // from group to group, in the same
    max_pages: u32,     // pages of a sequence
    entry_quads: u32,   // from cache entry to cache entry, in quads of words
    scale_begin: u32,   // where in one its scales begin, in the same
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [rows, heads, query]  2: cache [pages, PAGE], as the `entry_*` part keeps them  3: zeta [rows, SPLITS, heads, latent]
@group(0) @binding(4) var<storage, read> page_table: array<u32>;         // [sequences, max_pages]
@group(0) @binding(5) var<uniform> step: vec4<u32>;                      // live rows first

const HIDDEN = -3e38;   // the score of a position that is not there

// The heads of a workgroup, and what they read of an entry.
struct HeadTile {
    first: u32,
    end: u32,       // of their group
    key: u32,       // first block of their keys
    latent: u32,    // first block of their latent numbers
}

// Where a position of a sequence begins in the cache.
fn entry_of(sequence: u32, position: u32) -> u32 {
    return (page_table[sequence * params.max_pages + position / PAGE] * PAGE + position % PAGE) * params.entry_quads;
}

fn head_tile(index: u32) -> HeadTile {
    let tiles = (params.group_heads + HEADS - 1u) / HEADS;
    let kv_group = index / tiles;
    let begin = kv_group * params.group_heads;
    return HeadTile(begin + index % tiles * HEADS, begin + params.group_heads, params.key_begin + kv_group * params.key_stride,
                    kv_group * (params.latent / 32u));
}
