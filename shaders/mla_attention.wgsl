// zeta[row, head] = Σ_s softmax_s( scale * (x[row, head] · cache_s) ) latent_s
//
// Absorbed attention over the paged latent cache (DEEPSEEK.md §4.1) with an online softmax, for any mix of sequences and
// positions. A workgroup takes one row, four or eight heads and one of SPLITS parts of the row's past, which it goes through in
// tiles of two positions a lane: first every lane scores its positions, then every lane sums its own latent columns over
// the tile. What is unrolled by heads and columns is `mla_attention.rs`'s business.

struct Params {
    heads: u32,
    latent: u32,        // latent numbers as stored, a multiple of 32
    rope: u32,          // rotary numbers as stored, a multiple of 32
    score_begin: u32,   // where queries begin, in vec4: past the latent where they have nothing there
    max_pages: u32,     // pages of a sequence
    entry_quads: u32,   // from cache entry to cache entry, in quads of words
    scale_begin: u32,   // where in one its scales begin, in the same
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [rows, heads, latent + rope], the queries  2: cache [pages, PAGE], as the `entry_*` part keeps them  3: zeta [rows, SPLITS, heads, latent]
@group(0) @binding(4) var<storage, read> page_table: array<u32>;         // [sequences, max_pages]
@group(0) @binding(5) var<uniform> step: vec4<u32>;                      // live rows first

const HIDDEN = -3e38;   // the score of a position that is not there

// Where a position of a sequence begins in the cache.
fn entry_of(sequence: u32, position: u32) -> u32 {
    return (page_table[sequence * params.max_pages + position / PAGE] * PAGE + position % PAGE) * params.entry_quads;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn mla_attention(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    if group.x >= step.x {
        return;
    }
    let row = batch[group.x];
    let length = min(row.position + 1u, params.max_pages * PAGE);
    let part = (length + SPLITS - 1u) / SPLITS;
    let end = min((group.z + 1u) * part, length);
    let first_head = group.y * HEADS;
    let query_quads = bound((params.latent + params.rope) / 4u, group.x);
    let query = group.x * params.heads * query_quads;

    var sums = Sums();
    var largest = shares_of(HIDDEN);
    var total = shares_of(0.0);
    for (var tile = group.z * part; tile < end; tile += 2u * WORKGROUP_SIZE) {
        let a = tile + at.lane;
        let b = a + WORKGROUP_SIZE;
        let entry_a = entry_of(row.sequence, min(a, length - 1u));
        let entry_b = entry_of(row.sequence, min(b, length - 1u));
        let scores = tile_scores(query, first_head, query_quads, entry_a, entry_b, at.lane);
        let score_a = hidden_unless(scores.a, a < end);
        let score_b = hidden_unless(scores.b, b < end);

        let tile_largest = shares_max(largest, shares_pair_max(score_a, score_b), at);
        let share_a = shares_exp(score_a, tile_largest, a < end);
        let share_b = shares_exp(score_b, tile_largest, b < end);
        let shrink = shares_exp(largest, tile_largest, true);
        total = shares_total(total, shrink, share_a, share_b, at);
        largest = tile_largest;
        sums_scale(&sums, shrink);

        tile_write(share_a, entry_a, at.lane);
        for (var p = 0u; p < min(WORKGROUP_SIZE, end - tile); p += 1u) {
            sums_add(&sums, tile_share(share_a, p), tile_entry(entry_a, p), at.lane);
        }
        tile_read();
        tile_write(share_b, entry_b, at.lane);
        for (var p = 0u; p < min(WORKGROUP_SIZE, max(end, tile + WORKGROUP_SIZE) - tile - WORKGROUP_SIZE); p += 1u) {
            sums_add(&sums, tile_share(share_b, p), tile_entry(entry_b, p), at.lane);
        }
        tile_read();
    }
    let to = ((group.x * SPLITS + group.z) * params.heads + first_head) * params.latent;
    sums_put(sums, finish(largest, total, (group.x * SPLITS + group.z) * params.heads, first_head, at.lane), to, first_head, at.lane);
}
