// cache[page of position] = [ norm(u[0..latent]) ; rope(u[latent..]) ]   (DEEPSEEK.md §3.2, §4.1)
//
// One workgroup per row; dead rows write nothing.

struct Params {
    latent: u32,        // latent numbers as stored, a multiple of 32
    latent_dim: u32,    // the latent's own width
    rope: u32,          // rotary numbers as stored, a multiple of 32
    pairs: u32,         // rotated pairs
    max_pages: u32,     // pages of a sequence
    positions: u32,     // rows of the rotary table
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> u: array<vec2<f32>>;            // [rows, (latent + rope) / 2]
@group(0) @binding(2) var<storage, read> weight: array<vec2<f32>>;       // [latent / 2]
@group(0) @binding(3) var<storage, read> batch: array<vec4<u32>>;        // [rows]: token, position, sequence, token is sampled
@group(0) @binding(4) var<storage, read> page_table: array<u32>;         // [sequences, max_pages]
@group(0) @binding(5) var<storage, read> rotary: array<vec2<f32>>;       // [positions, pairs]: cos, sin
@group(0) @binding(6) var<storage, read_write> cache: array<vec2<f32>>;  // [pages, PAGE, (latent + rope) / 2]
@group(0) @binding(7) var<uniform> step: vec4<u32>;                      // live rows first

@compute @workgroup_size(WORKGROUP_SIZE)
fn latent_append(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let entry_pairs = (params.latent + params.rope) / 2u;
    let begin = group.x * entry_pairs;
    var squares = 0.0;
    for (var i = at.lane; i < params.latent / 2u; i += WORKGROUP_SIZE) {
        squares += dot(u[begin + i], u[begin + i]);
    }
    let mean_square = columns_sum4(vec4<f32>(squares, 0.0, 0.0, 0.0), at).x / f32(params.latent_dim);
    let scale = inverseSqrt(mean_square + params.eps);
    if group.x >= step.x {
        return;
    }
    let row = batch[group.x];
    let position = min(row.y, params.max_pages * PAGE - 1u);
    let to = (page_table[row.z * params.max_pages + position / PAGE] * PAGE + position % PAGE) * entry_pairs;
    for (var i = at.lane; i < params.latent / 2u; i += WORKGROUP_SIZE) {
        cache[to + i] = u[begin + i] * scale * weight[i];
    }
    for (var i = at.lane; i < params.rope / 2u; i += WORKGROUP_SIZE) {
        let pair = u[begin + params.latent / 2u + i];
        let turn = rotary[min(position, params.positions - 1u) * params.pairs + min(i, params.pairs - 1u)];
        cache[to + params.latent / 2u + i] = vec2<f32>(pair.x * turn.x - pair.y * turn.y, pair.y * turn.x + pair.x * turn.y);
    }
}
