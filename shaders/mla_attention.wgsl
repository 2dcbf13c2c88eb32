// zeta[row, head] = Σ_s softmax_s( scale * (x[row, head] · cache_s) ) latent_s
//
// Absorbed attention over the paged latent cache (DEEPSEEK.md §4.1) with an online softmax, for any mix of sequences and
// positions. A workgroup takes one row and four heads; it goes through the row's past in tiles of one position
// a lane: first every lane scores its position, then every lane sums its own latent columns over the tile.

struct Params {
    heads: u32,
    latent: u32,        // latent numbers as stored, a multiple of 32
    rope: u32,          // rotary numbers as stored, a multiple of 32
    score_begin: u32,   // where queries begin, in vec4: past the latent where they have nothing there
    max_pages: u32,     // pages of a sequence
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [rows, heads, latent + rope], the queries  2: cache [pages, PAGE, latent + rope]  3: zeta [rows, heads, latent]
@group(0) @binding(4) var<storage, read> page_table: array<u32>;         // [sequences, max_pages]
@group(0) @binding(5) var<uniform> step: vec4<u32>;                      // live rows first

const HIDDEN = -3e38;   // the score of a position that is not there

fn load_key(at: u32) -> Block {
    return Block(cache_at(at), cache_at(at + 1u), cache_at(at + 2u), cache_at(at + 3u),
                 cache_at(at + 4u), cache_at(at + 5u), cache_at(at + 6u), cache_at(at + 7u));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn mla_attention(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    if group.x >= step.x {
        return;
    }
    let row = batch[group.x];
    let length = min(row.position + 1u, params.max_pages * PAGE);
    let first_head = group.y * 4u;
    let entry_quads = bound((params.latent + params.rope) / 4u, group.x);
    let heads = min(vec4<u32>(0u, 1u, 2u, 3u) + first_head, vec4<u32>(params.heads - 1u));
    let query = (group.x * params.heads + heads) * entry_quads;

    var sums = array<vec4<f32>, QUADS_A_LANE * 4u>();
    var largest = vec4<f32>(HIDDEN);
    var total = vec4<f32>(0.0);

    for (var tile = 0u; tile < length; tile += WORKGROUP_SIZE) {
        let position = min(tile + at.lane, length - 1u);
        let here = tile + at.lane < length;
        let entry = (page_table[row.sequence * params.max_pages + position / PAGE] * PAGE + position % PAGE) * entry_quads;

        var scores = vec4<f32>(0.0);
        for (var i = params.score_begin; i < entry_quads; i += 8u) {
            let key = load_key(entry + i);
            scores.x += block_dot(load_x(query.x + i, at.lane), key);
            scores.y += block_dot(load_x(query.y + i, at.lane), key);
            scores.z += block_dot(load_x(query.z + i, at.lane), key);
            scores.w += block_dot(load_x(query.w + i, at.lane), key);
        }
        scores = select(vec4<f32>(HIDDEN), scores * params.scale, here);

        let tile_largest = max(largest, lanes_max4(scores, at));
        let share = select(vec4<f32>(0.0), exp(scores - tile_largest), here);
        let shrink = exp(largest - tile_largest);
        total = total * shrink + lanes_sum4(share, at);
        largest = tile_largest;
        for (var i = 0u; i < QUADS_A_LANE; i += 1u) {
            sums[i * 4u] *= shrink.x;
            sums[i * 4u + 1u] *= shrink.y;
            sums[i * 4u + 2u] *= shrink.z;
            sums[i * 4u + 3u] *= shrink.w;
        }
        tile_write(share, entry, at.lane);

        for (var p = 0u; p < min(WORKGROUP_SIZE, length - tile); p += 1u) {
            let mine = tile_share(share, p);
            let begin = tile_entry(entry, p);
            for (var i = 0u; i < QUADS_A_LANE; i += 1u) {
                let latent = cache_at(begin + min(i * WORKGROUP_SIZE + at.lane, params.latent / 4u - 1u));
                sums[i * 4u] = fma(latent, vec4<f32>(mine.x), sums[i * 4u]);
                sums[i * 4u + 1u] = fma(latent, vec4<f32>(mine.y), sums[i * 4u + 1u]);
                sums[i * 4u + 2u] = fma(latent, vec4<f32>(mine.z), sums[i * 4u + 2u]);
                sums[i * 4u + 3u] = fma(latent, vec4<f32>(mine.w), sums[i * 4u + 3u]);
            }
        }
        tile_read();
    }

    for (var i = 0u; i < QUADS_A_LANE; i += 1u) {
        let column = i * WORKGROUP_SIZE + at.lane;
        let is_column = column < params.latent / 4u;
        let to = (group.x * params.heads + first_head) * params.latent + column * 4u;
        for (var k = 0u; k < 4u; k += 1u) {
            zeta_put(to + k * params.latent, sums[i * 4u + k] / total[k], select(0u, 4u, is_column && first_head + k < params.heads));
        }
    }
}
