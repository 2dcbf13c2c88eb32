// zeta[row, head] = Σ_s softmax_s( scale * (alpha[row, head] · latent_s + q_rope[row, head] · k_rope_s) ) latent_s
//
// Absorbed attention over the paged latent cache (DEEPSEEK.md §4.1) with an online softmax, for any mix of sequences and
// positions. A workgroup takes one row and 4 * HEAD_QUADS heads; it goes through the row's past in tiles of one position
// a lane: first every lane scores its position, then every lane sums its own latent columns over the tile.

struct Params {
    heads: u32,
    latent: u32,        // latent numbers as stored, a multiple of 32
    rope: u32,          // rotary numbers as stored, a multiple of 32
    q_stride: u32,      // from row to row of q, in vec4
    q_begin: u32,       // first head's rotary query in a row, in vec4
    max_pages: u32,     // pages of a sequence
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> alpha: array<vec4<f32>>;        // [rows, heads, latent / 4]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;            // [rows, q_stride]: the rotary queries
@group(0) @binding(3) var<storage, read> cache: array<vec4<f32>>;        // [pages, PAGE, (latent + rope) / 4]
@group(0) @binding(4) var<storage, read> page_table: array<u32>;         // [sequences, max_pages]
@group(0) @binding(5) var<storage, read> batch: array<vec4<u32>>;        // [rows]: token, position, sequence, token is sampled
@group(0) @binding(6) var<storage, read_write> zeta: array<vec4<f32>>;   // [rows, heads, latent / 4]
@group(0) @binding(7) var<uniform> step: vec4<u32>;                      // live rows first

const HIDDEN = -3e38;   // the score of a position that is not there

var<workgroup> shares: array<vec4<f32>, WORKGROUP_SIZE * HEAD_QUADS>;    // [HEAD_QUADS, positions of the tile]
var<workgroup> entries: array<u32, WORKGROUP_SIZE>;                      // where each position of the tile lies in the cache

fn load_key(at: u32) -> Block {
    return Block(cache[at], cache[at + 1u], cache[at + 2u], cache[at + 3u], cache[at + 4u], cache[at + 5u], cache[at + 6u], cache[at + 7u]);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn mla_attention(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    if group.x >= step.x {
        return;
    }
    let row = batch[group.x];
    let length = min(row.y + 1u, params.max_pages * PAGE);
    let first_head = group.y * 4u * HEAD_QUADS;
    let last_head = params.heads - 1u;
    let entry_quads = (params.latent + params.rope) / 4u;

    var sums = array<vec4<f32>, QUADS_A_LANE * 4u * HEAD_QUADS>();
    var largest = array<vec4<f32>, HEAD_QUADS>();
    var total = array<vec4<f32>, HEAD_QUADS>();
    for (var h = 0u; h < HEAD_QUADS; h += 1u) {
        largest[h] = vec4<f32>(HIDDEN);
    }

    for (var tile = 0u; tile < length; tile += WORKGROUP_SIZE) {
        let position = tile + at.lane;
        let here = position < length;
        let clamped = min(position, length - 1u);
        let page = page_table[row.z * params.max_pages + clamped / PAGE];
        let entry = (page * PAGE + clamped % PAGE) * entry_quads;

        for (var h = 0u; h < HEAD_QUADS; h += 1u) {
            let head = min(vec4<u32>(0u, 1u, 2u, 3u) + first_head + h * 4u, vec4<u32>(last_head));
            var scores = vec4<f32>(0.0);
            if HAS_NOPE == 1u {
                let begin = (group.x * params.heads + head) * (params.latent / 4u);
                for (var i = 0u; i < params.latent / 4u; i += 8u) {
                    let key = load_key(entry + i);
                    scores += block_dots(load_alpha(begin.x + i, at.lane), load_alpha(begin.y + i, at.lane), load_alpha(begin.z + i, at.lane), load_alpha(begin.w + i, at.lane), key);
                }
            }
            let begin = group.x * params.q_stride + params.q_begin + head * (params.rope / 4u);
            for (var i = 0u; i < params.rope / 4u; i += 8u) {
                let key = load_key(entry + params.latent / 4u + i);
                scores += block_dots(load_x(begin.x + i, at.lane), load_x(begin.y + i, at.lane), load_x(begin.z + i, at.lane), load_x(begin.w + i, at.lane), key);
            }
            scores = select(vec4<f32>(HIDDEN), scores * params.scale, here);

            let tile_largest = max(largest[h], columns_max4(scores, at));
            let share = select(vec4<f32>(0.0), exp(scores - tile_largest), here);
            let shrink = exp(largest[h] - tile_largest);
            total[h] = total[h] * shrink + columns_sum4(share, at);
            largest[h] = tile_largest;
            for (var i = 0u; i < QUADS_A_LANE; i += 1u) {
                let s = (i * HEAD_QUADS + h) * 4u;
                sums[s] *= shrink.x;
                sums[s + 1u] *= shrink.y;
                sums[s + 2u] *= shrink.z;
                sums[s + 3u] *= shrink.w;
            }
            // The barriers of the two reductions lie between the last tile's reads and this write.
            shares[h * WORKGROUP_SIZE + at.lane] = share;
        }
        entries[at.lane] = entry;
        workgroupBarrier();

        for (var p = 0u; p < min(WORKGROUP_SIZE, length - tile); p += 1u) {
            let begin = entries[p];
            for (var i = 0u; i < QUADS_A_LANE; i += 1u) {
                let latent = cache[begin + min(i * WORKGROUP_SIZE + at.lane, params.latent / 4u - 1u)];
                for (var h = 0u; h < HEAD_QUADS; h += 1u) {
                    let share = shares[h * WORKGROUP_SIZE + p];
                    let s = (i * HEAD_QUADS + h) * 4u;
                    sums[s] = fma(latent, vec4<f32>(share.x), sums[s]);
                    sums[s + 1u] = fma(latent, vec4<f32>(share.y), sums[s + 1u]);
                    sums[s + 2u] = fma(latent, vec4<f32>(share.z), sums[s + 2u]);
                    sums[s + 3u] = fma(latent, vec4<f32>(share.w), sums[s + 3u]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var i = 0u; i < QUADS_A_LANE; i += 1u) {
        let column = i * WORKGROUP_SIZE + at.lane;
        for (var h = 0u; h < HEAD_QUADS; h += 1u) {
            for (var k = 0u; k < 4u; k += 1u) {
                let head = first_head + h * 4u + k;
                if head < params.heads && column < params.latent / 4u {
                    zeta[(group.x * params.heads + head) * (params.latent / 4u) + column] = sums[(i * HEAD_QUADS + h) * 4u + k] / total[h][k];
                }
            }
        }
    }
}
