// zeta[row, head] = Σ_s softmax_s( scale * (x[row, head] · key_s) ) latent_s, where eight lanes share what they read
//
// As mla_attention, but here a lane owns columns of keys and latents and holds its columns of the queries: a tile's entries are
// read once, scored and summed. A score is the lanes' sum, and each lane keeps the softmax of one head.

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
    let q = load_queries(group.x * params.heads * params.query / 4u, heads, at.lane);

    var sums = Sums();
    var largest = HIDDEN;
    var total = 0.0;
    for (var tile = group.z * part; tile < end; tile += 2u) {
        let entry = entry_of(row.sequence, min(tile + at.lane % 2u, length - 1u));
        let a = load_entry(subgroupShuffle(entry, 0u), heads, at.lane);
        let b = load_entry(subgroupShuffle(entry, 1u), heads, at.lane);
        let scores = vec2<f32>(head_score(q, a, at.lane), head_score(q, b, at.lane));
        let score = select(vec2<f32>(HIDDEN), scores, vec2<u32>(tile, tile + 1u) < vec2<u32>(end));

        let tile_largest = max(largest, max(score.x, score.y));
        let shrink = exp(largest - tile_largest);
        let share = exp(score - tile_largest);
        total = total * shrink + (share.x + share.y);
        largest = tile_largest;
        sums_add(&sums, shrink, share, a, b);
    }
    let first = (group.x * SPLITS + group.z) * params.heads;
    let by = finish(shares_from(largest), shares_from(total), first, heads, at.lane);
    sums_put(sums, by, (first + heads.first) * params.latent, heads, at.lane);
}
