// Brings a row into the latent space (DEEPSEEK.md §3.2, §3.3, §4.1):
//   y[row, head] = [ Σ_i weight[head, i] x[row, head, i] ; rope(x[row, head]'s rotary part) ]
//   cache[entry of row] = [ norm(u's latent) ; rope(u's rotary keys) ]
// so that a score is one product of a query and a part of a cache entry. Without a weight y holds the rotary part alone.
//
// Of a row's workgroups the first turns queries and the second appends to the cache, both in this slab's launch if
// it is the first; the rest absorb: each lane owns a block of 32 latent columns of one head.

struct Params {
    nope: u32,          // a head's rows in the weight; 0: there is none
    cols: u32,          // latent columns as stored, a multiple of 32: the weight's, too
    rope: u32,          // rotary columns of a query as stored, a multiple of 32
    keys: u32,          // of an entry: one key of these, or one for each group of heads
    query: u32,         // a head's numbers in y
    heads: u32,
    head_begin: u32,    // first head of this slab
    blocks: u32,        // blocks of 32 columns in all heads of this slab
    x_stride: u32,      // from row to row, in vec4
    x_head_stride: u32, // from head to head of the part without rotation, in vec4
    x_rope_begin: u32,  // first head's rotary part in a row, in vec4
    u_stride: u32,      // from row to row, in vec4
    u_begin: u32,       // the latent in a row, in vec4
    latent_dim: u32,    // the latent's own width
    positions: u32,     // rows of the rotary table
    turns: u32,         // workgroups before those that absorb: 2, or 0
    entry_quads: u32,   // from cache entry to cache entry, in quads of words
    scale_begin: u32,   // where in one its scales begin, in the same
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [rows, x_stride]  2: u [rows, u_stride]  3: gain [cols]  4: rotary [positions, rope], pairs of cos, sin
// 5: y [rows, heads, query]  6: cache [entries], as the `append_*` part keeps them
@group(0) @binding(7) var<uniform> step: vec4<u32>;                      // live rows first

// Pairs (a, b), (c, d) turned by (cos, sin) each.
fn turned(pairs: vec4<f32>, turn: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(pairs.x * turn.x - pairs.y * turn.y, pairs.y * turn.x + pairs.x * turn.y,
                     pairs.z * turn.z - pairs.w * turn.w, pairs.w * turn.z + pairs.z * turn.w);
}

// A quad of a cache entry: of the latent, or of a key.
fn entry_quad(from_u: u32, i: u32, scale: f32, turn: u32) -> vec4<f32> {
    let u = u_at(from_u + i);
    let latent_quads = params.cols / 4u;
    if i < latent_quads {
        return u * scale * gain_at(i);
    }
    return turned(u, rotary_at(turn + (i - latent_quads) % (params.rope / 4u)));
}

fn entry_block(from_u: u32, block: u32, scale: f32, turn: u32) -> Block {
    let i = block * 8u;
    return Block(entry_quad(from_u, i, scale, turn), entry_quad(from_u, i + 1u, scale, turn),
                 entry_quad(from_u, i + 2u, scale, turn), entry_quad(from_u, i + 3u, scale, turn),
                 entry_quad(from_u, i + 4u, scale, turn), entry_quad(from_u, i + 5u, scale, turn),
                 entry_quad(from_u, i + 6u, scale, turn), entry_quad(from_u, i + 7u, scale, turn));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn mla_enter(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let row = batch[group.y];
    let rope_quads = params.rope / 4u;
    let entry = params.cols + params.keys;
    let turn = min(row.position, params.positions - 1u) * rope_quads;
    let from_u = group.y * params.u_stride + params.u_begin;

    // 0 turns queries, 1 appends, the others absorb.
    let role = group.x + 2u - params.turns;
    if role == 0u {
        for (var i = at.lane; i < params.heads * rope_quads; i += WORKGROUP_SIZE) {
            let pairs = x_at(group.y * params.x_stride + params.x_rope_begin + i);
            let to = (group.y * params.heads + i / rope_quads) * params.query + params.query - params.rope + i % rope_quads * 4u;
            y_put(to, turned(pairs, rotary_at(turn + i % rope_quads)), 4u);
        }
    } else if role == 1u {
        var squares = 0.0;
        for (var i = at.lane; i < params.cols / 4u; i += WORKGROUP_SIZE) {
            let quad = u_at(from_u + i);
            squares += dot(quad, quad);
        }
        let scale = inverseSqrt(lanes_sum4(vec4<f32>(squares), at).x / f32(params.latent_dim) + params.eps);
        if group.y < step.x {
            let to = row.entry * params.entry_quads;
            for (var block = at.lane; block < entry / 32u; block += WORKGROUP_SIZE) {
                append(to, block, entry_block(from_u, block, scale, turn));
            }
            append_end(to, entry / 32u, at.lane);
        }
    } else {
        absorb((role - 2u) * WORKGROUP_SIZE + at.lane, group.y);
    }
}
