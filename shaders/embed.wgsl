// y[row] = table[token of row]; a token sampled on the device a step ago is taken from `sampled`.
//
// One workgroup per row. Rows of the table outside this slab are another launch's.

struct Params {
    cols: u32,          // columns as stored, a multiple of 32
    row_begin: u32,     // first token of this slab
    rows: u32,          // tokens of this slab
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: y [rows, cols]
@group(0) @binding(2) var<storage, read> sampled: array<u32>;            // [sequences]

@compute @workgroup_size(WORKGROUP_SIZE)
fn embed(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = batch[group.x];
    var token = row.token;
    if token == SAMPLED {
        token = sampled[row.sequence];
    }
    if token < params.row_begin || token >= params.row_begin + params.rows {
        return;
    }
    let weight = weight_row(token - params.row_begin);
    for (var block = lane; block < params.cols / 32u; block += WORKGROUP_SIZE) {
        put_block(group.x * params.cols + block * 32u, load_block(weight, block));
    }
}
