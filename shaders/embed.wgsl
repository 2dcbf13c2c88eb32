// x[row] = table[token of row]; a token sampled on the device a step ago is taken from `sampled`.
//
// One workgroup per row. Rows of the table outside this slab are another launch's.

struct Params {
    cols: u32,          // columns as stored, a multiple of 32
    row_begin: u32,     // first token of this slab
    rows: u32,          // tokens of this slab
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> batch: array<vec4<u32>>;        // [rows]: token, position, sequence, token is sampled
@group(0) @binding(2) var<storage, read> sampled: array<u32>;            // [sequences]
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;      // [rows, cols / 4]

@compute @workgroup_size(WORKGROUP_SIZE)
fn embed(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = batch[group.x];
    var token = row.x;
    if row.w == 1u {
        token = sampled[row.z];
    }
    if token < params.row_begin || token >= params.row_begin + params.rows {
        return;
    }
    for (var block = lane; block < params.cols / 32u; block += WORKGROUP_SIZE) {
        let w = load_block(token - params.row_begin, block);
        let at = group.x * (params.cols / 4u) + block * 8u;
        x[at] = w.a;
        x[at + 1u] = w.b;
        x[at + 2u] = w.c;
        x[at + 3u] = w.d;
        x[at + 4u] = w.e;
        x[at + 5u] = w.f;
        x[at + 6u] = w.g;
        x[at + 7u] = w.h;
    }
}
