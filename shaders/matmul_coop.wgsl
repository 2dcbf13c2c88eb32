// y[token, head, row] = base[token, head, row] + bias[row] + weight[head, row] · x[token, head]
//
// As matmul, in cooperative matrices: a workgroup takes ROWS rows and SLOTS tokens.

// 0: params  1: x [tokens, x_stride]  2: y [tokens, y_stride]
@group(0) @binding(3) var<uniform> step: vec4<u32>;                      // live tokens first

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_coop(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let token = group.y * SLOTS;
    let head = group.z;
    let tile = Tile(head * params.rows, params.rows, group.x * ROWS, ROWS);
    let head_begin = (params.head_begin + head) * params.x_head_stride;
    for (var slot = lane; slot < SLOTS; slot += WORKGROUP_SIZE) {
        x_begins[slot] = min(token + slot, max(step.x, 1u) - 1u) * params.x_stride + head_begin;
    }
    // Dead tiles have no blocks.
    multiply_tile(tile, select(0u, params.cols / 32u, token < step.x), lane, subgroup);
    for (var i = lane; i < SLOTS * ROWS / 4u; i += WORKGROUP_SIZE) {
        let slot = i / (ROWS / 4u);
        let quad = i % (ROWS / 4u) * 4u;
        let row = tile.first + quad;
        let count = select(0u, count_inside(row, params.rows), token + slot < step.x);
        let out_row = params.row_begin + tile.begin + row;
        let to = (token + slot) * params.y_stride + y_column(select(0u, out_row, count > 0u));
        y_put(to, load_base(to, count) + sums_at(slot, quad) + load_bias(out_row, count), count);
    }
}
