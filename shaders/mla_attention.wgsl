// zeta[row, head] = Σ_s softmax_s( scale * (x[row, head] · key_s) ) latent_s
//
// Absorbed attention over the paged latent cache (DEEPSEEK.md §4.1) with an online softmax, for any mix of sequences and
// positions. Groups of heads may have numbers of an entry of their own. A workgroup takes one row, up to four or eight heads of a
// group and one of SPLITS parts of the row's past, which it goes through in tiles of two positions a lane: first every lane
// scores its positions, then every lane sums its own latent columns over the tile, four positions at a time. What is unrolled by
// heads and columns is `mla_attention.rs`'s business.

// What each lane knows of its position.
var<workgroup> tile_shares: array<Shares, WORKGROUP_SIZE>;
var<workgroup> tile_entries: array<u32, WORKGROUP_SIZE>;

// What the lanes know of positions from `begin` on, one a lane, goes into the sums.
fn sums_add_tile(sums: ptr<function, Sums>, share: Shares, entry: u32, begin: u32, end: u32, latent: u32, lane: u32) {
    let count = min(WORKGROUP_SIZE, max(begin, end) - begin);
    tile_shares[lane] = share;
    tile_entries[lane] = entry;
    workgroupBarrier();
    // Positions past the last have no share, and an entry that is there.
    for (var p = 0u; p < count; p += 4u) {
        let entries = vec4<u32>(tile_entries[p], tile_entries[p + 1u], tile_entries[p + 2u], tile_entries[p + 3u]);
        sums_add(sums, tile_shares[p], tile_shares[p + 1u], tile_shares[p + 2u], tile_shares[p + 3u], entries, latent, lane);
    }
    workgroupBarrier();
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
    let heads = head_tile(group.y);
    let query_quads = bound(params.query / 4u, group.x);
    let query = group.x * params.heads * query_quads;

    var sums = Sums();
    var largest = shares_of(HIDDEN);
    var total = shares_of(0.0);
    for (var tile = group.z * part; tile < end; tile += 2u * WORKGROUP_SIZE) {
        let a = tile + at.lane;
        let b = a + WORKGROUP_SIZE;
        let entry_a = entry_of(row.sequence, min(a, length - 1u));
        let entry_b = entry_of(row.sequence, min(b, length - 1u));
        let scores = tile_scores(query, heads, query_quads, entry_a, entry_b, at.lane);
        let score_a = hidden_unless(scores.a, a < end);
        let score_b = hidden_unless(scores.b, b < end);

        let tile_largest = shares_max(largest, shares_pair_max(score_a, score_b), at);
        let share_a = shares_exp(score_a, tile_largest, a < end);
        let share_b = shares_exp(score_b, tile_largest, b < end);
        let shrink = shares_exp(largest, tile_largest, true);
        total = shares_total(total, shrink, share_a, share_b, at);
        largest = tile_largest;
        sums_scale(&sums, shrink);

        sums_add_tile(&sums, share_a, entry_a, tile, end, heads.latent, at.lane);
        sums_add_tile(&sums, share_b, entry_b, tile + WORKGROUP_SIZE, end, heads.latent, at.lane);
    }
    let first = (group.x * SPLITS + group.z) * params.heads;
    sums_put(sums, finish(largest, total, first, heads, at.lane), (first + heads.first) * params.latent, heads, at.lane);
}
