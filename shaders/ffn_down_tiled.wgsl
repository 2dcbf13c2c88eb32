// y[slot] = down[expert of slot] · h[slot], for many rows; moe_combine weighs and sums a row's slots.
//
// A workgroup takes one tile of eight slots of one expert; a lane owns four rows. Otherwise as matmul.

struct Params {
    cols: u32,          // columns as stored, a multiple of 32
    rows: u32,          // rows of an expert
    y_stride: u32,      // from slot to slot
    expert_begin: u32,  // experts of this slab
    experts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;            // [rows * slots, cols / 4]: the hidden neurons
@group(0) @binding(2) var<storage, read_write> y: array<f32>;            // [rows * slots, y_stride]

fn store(at: u32, end: u32, row: u32, dots: vec4<f32>) {
    let stored = select(0u, min(4u, max(params.rows, row) - row), at < end);
    for (var i = 0u; i < stored; i += 1u) {
        y[tile_slot(at) * params.y_stride + row + i] = dots[i];
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_down_tiled(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let tile = load_tile(group.y);
    let expert = tile.x - params.expert_begin;
    let is_here = tile.z > 0u && expert < params.experts;
    let row = (group.x * WORKGROUP_SIZE + index) * 4u;
    let rows = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(params.rows - 1u)) + expert * params.rows;
    let end = select(0u, tile.y + tile.z, is_here);
    // Slots past the tile's end repeat its last and are not stored.
    let quads = params.cols / 4u;
    let first = vec4<u32>(tile.y) + vec4<u32>(0u, 1u, 2u, 3u);
    let low = min(first, vec4<u32>(max(end, 1u) - 1u));
    let high = min(first + 4u, vec4<u32>(max(end, 1u) - 1u));
    let x_low = vec4<u32>(tile_slot(low.x), tile_slot(low.y), tile_slot(low.z), tile_slot(low.w)) * quads;
    let x_high = vec4<u32>(tile_slot(high.x), tile_slot(high.y), tile_slot(high.z), tile_slot(high.w)) * quads;

    var dots = array<vec4<f32>, 8>();
    // Dead tiles have no blocks: a bound, not a branch, since llvmpipe runs a loop that no lane has entered to its limit.
    for (var block = 0u; block < select(0u, params.cols / 32u, is_here); block += 1u) {
        let w0 = load_block(rows.x, block);
        let w1 = load_block(rows.y, block);
        let w2 = load_block(rows.z, block);
        let w3 = load_block(rows.w, block);
        dots[0] += block_dots(w0, w1, w2, w3, load_x(x_low.x + block * 8u, index));
        dots[1] += block_dots(w0, w1, w2, w3, load_x(x_low.y + block * 8u, index));
        dots[2] += block_dots(w0, w1, w2, w3, load_x(x_low.z + block * 8u, index));
        dots[3] += block_dots(w0, w1, w2, w3, load_x(x_low.w + block * 8u, index));
        dots[4] += block_dots(w0, w1, w2, w3, load_x(x_high.x + block * 8u, index));
        dots[5] += block_dots(w0, w1, w2, w3, load_x(x_high.y + block * 8u, index));
        dots[6] += block_dots(w0, w1, w2, w3, load_x(x_high.z + block * 8u, index));
        dots[7] += block_dots(w0, w1, w2, w3, load_x(x_high.w + block * 8u, index));
    }
    store(tile.y, end, row, dots[0]);
    store(tile.y + 1u, end, row, dots[1]);
    store(tile.y + 2u, end, row, dots[2]);
    store(tile.y + 3u, end, row, dots[3]);
    store(tile.y + 4u, end, row, dots[4]);
    store(tile.y + 5u, end, row, dots[5]);
    store(tile.y + 6u, end, row, dots[6]);
    store(tile.y + 7u, end, row, dots[7]);
}
