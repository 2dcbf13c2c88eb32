// y[token, head, row] = base[token, head, row] + bias[row] + weight[head, row] · x[token, head]
//
// As matmul, in cooperative matrices: a workgroup takes ROWS rows and SLOTS tokens.

struct Params {
    rows: u32,          // rows of a head
    cols: u32,          // columns as stored, a multiple of 32
    row_begin: u32,     // first row of this slab among all heads' rows
    head_begin: u32,    // first head of this slab
    x_stride: u32,      // from token to token, in vec4
    x_head_stride: u32, // from head to head, in vec4
    x_split: u32,       // matvec's, as what follows y_stride is
    y_stride: u32,      // from token to token
    norm_dim: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [tokens, x_stride]  2: y [tokens, y_stride]
@group(0) @binding(3) var<uniform> step: vec4<u32>;                      // live tokens first

struct Tile {
    head_row: u32,      // where the head's rows begin in the slab
    row: u32,           // first row within the head
}

fn tile_row(tile: Tile, i: u32) -> u32 {
    return tile.head_row + min(tile.row + i, params.rows - 1u);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_coop(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let token = group.y * SLOTS;
    let head = group.z;
    let tile = Tile(head * params.rows, group.x * ROWS);
    let head_begin = (params.head_begin + head) * params.x_head_stride;
    for (var slot = lane; slot < SLOTS; slot += WORKGROUP_SIZE) {
        x_begins[slot] = min(token + slot, max(step.x, 1u) - 1u) * params.x_stride + head_begin;
    }
    // Dead tiles have no blocks.
    multiply_tile(tile, select(0u, params.cols / 32u, token < step.x), lane, subgroup);
    for (var i = lane; i < SLOTS * ROWS / 4u; i += WORKGROUP_SIZE) {
        let slot = i / (ROWS / 4u);
        let quad = i % (ROWS / 4u) * 4u;
        let row = tile.row + quad;
        let count = select(0u, count_inside(row, params.rows), token + slot < step.x);
        let out_row = params.row_begin + tile.head_row + row;
        let to = (token + slot) * params.y_stride + y_column(select(0u, out_row, count > 0u));
        y_put(to, load_base(to, count) + sums_at(slot, quad) + load_bias(out_row, count), count);
    }
}
