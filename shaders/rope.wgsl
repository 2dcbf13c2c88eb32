// Rotates pairs (2i, 2i + 1) of every head's rotary query in place, by its row's position (DEEPSEEK.md §3.3).

struct Params {
    heads: u32,
    pairs: u32,         // rotated pairs of a head
    head_stride: u32,   // from head to head, in pairs
    row_stride: u32,    // from row to row, in pairs
    begin: u32,         // first head's first pair in a row
    positions: u32,     // rows of the table
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> batch: array<vec4<u32>>;        // [rows]: token, position, sequence, token is sampled
@group(0) @binding(2) var<storage, read> rotary: array<vec2<f32>>;       // [positions, pairs]: cos, sin
@group(0) @binding(3) var<storage, read_write> q: array<vec2<f32>>;      // [rows, row_stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn rope(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let position = min(batch[group.y].y, params.positions - 1u);
    let i = group.x * WORKGROUP_SIZE + lane;
    if i >= params.heads * params.pairs {
        return;
    }
    let at = group.y * params.row_stride + params.begin + (i / params.pairs) * params.head_stride + i % params.pairs;
    let turn = rotary[position * params.pairs + i % params.pairs];
    let pair = q[at];
    q[at] = vec2<f32>(pair.x * turn.x - pair.y * turn.y, pair.y * turn.x + pair.x * turn.y);
}
