// zeta[row, head] = Σ_s softmax_s( scale * (x[row, head] · key_s) ) latent_s, where eight lanes share what they read
//
// As mla_attention, but here a lane owns columns of keys and latents and holds its columns of the queries: four positions' entries
// are read once, scored and summed. A score is the lanes' sum, and each lane keeps the softmax of one head.

const HALF = WORKGROUP_SIZE / 2u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn mla_attention(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    if group.x >= step.x {
        return;
    }
    let row = batch[group.x];
    let length = min(row.position + 1u, params.max_pages * PAGE);
    // So many fours of positions, as pages are: only the last four may be fewer.
    let part = (length + 4u * SPLITS - 1u) / (4u * SPLITS) * 4u;
    let end = min((group.z + 1u) * part, length);
    let heads = head_tile(group.y);
    let q = load_queries(group.x * params.heads * params.query / 4u, heads, at.lane);

    var sums = Sums();
    var largest = HIDDEN;
    var total = 0.0;
    for (var begin = group.z * part; begin < end; begin = (begin / PAGE + 1u) * PAGE) {
        let page = entry_of(row.sequence, begin / PAGE * PAGE);
        let page_end = min((begin / PAGE + 1u) * PAGE, end);
        for (var tile = begin; tile < page_end; tile += 4u) {
            let stride = params.entry_quads;
            let entry = page + tile % PAGE * stride;
            let front = load_pair(entry, entry + stride, heads, at.lane);
            let back = load_pair(entry + 2u * stride, entry + 3u * stride, heads, at.lane);
            let scores = vec4<f32>(pair_scores(q, front, at.lane), pair_scores(q, back, at.lane));
            let score = select(vec4<f32>(HIDDEN), scores, tile + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(page_end));

            let tile_largest = max(largest, max(max(score.x, score.y), max(score.z, score.w)));
            let shrink = exp(largest - tile_largest);
            let share = exp(score - tile_largest);
            total = total * shrink + ((share.x + share.y) + (share.z + share.w));
            largest = tile_largest;
            sums_add(&sums, shrink, share, front, back);
        }
    }
    let first = (group.x * SPLITS + group.z) * params.heads;
    let by = finish(shares_from(largest), shares_from(total), first, heads, at.lane);
    sums_put(sums, by, (first + heads.first) * params.latent, heads, at.lane);
}
