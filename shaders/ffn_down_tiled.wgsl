// y[slot] = down[expert of slot] · h[slot], for many rows; moe_combine weighs and sums a row's slots.
//
// A workgroup takes one tile of eight slots of one expert; a lane owns four rows. Otherwise as matmul.

// 0: params  1: x [rows * slots, cols / 4], the hidden neurons  2: y [rows * slots, y_stride]

fn store(at: u32, end: u32, row: u32, dots: vec4<f32>) {
    if at < end {
        y_put(tile_slot(at) * params.y_stride + row, dots, count_inside(row, params.rows));
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_down_tiled(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let tile = load_tile(group.y);
    let expert = tile.x - params.expert_begin;
    let is_here = tile.z > 0u && expert < params.experts;
    let row = (group.x * WORKGROUP_SIZE + index) * 4u;
    let inside = rows_inside(row, params.rows) + select(0u, expert * params.rows, is_here);
    let end = select(0u, tile.y + tile.z, is_here);
    // Slots past the tile's end repeat its last and are not stored.
    let quads = params.cols / 4u;
    let first = vec4<u32>(tile.y) + vec4<u32>(0u, 1u, 2u, 3u);
    let low = min(first, vec4<u32>(max(end, 1u) - 1u));
    let high = min(first + 4u, vec4<u32>(max(end, 1u) - 1u));
    let x_low = vec4<u32>(tile_slot(low.x), tile_slot(low.y), tile_slot(low.z), tile_slot(low.w)) * quads;
    let x_high = vec4<u32>(tile_slot(high.x), tile_slot(high.y), tile_slot(high.z), tile_slot(high.w)) * quads;

    // Dead tiles have no blocks.
    let dots = tile_dots(four_rows(inside), select(0u, params.cols / 32u, is_here), x_low, x_high, index);
    store(tile.y, end, row, dots[0]);
    store(tile.y + 1u, end, row, dots[1]);
    store(tile.y + 2u, end, row, dots[2]);
    store(tile.y + 3u, end, row, dots[3]);
    store(tile.y + 4u, end, row, dots[4]);
    store(tile.y + 5u, end, row, dots[5]);
    store(tile.y + 6u, end, row, dots[6]);
    store(tile.y + 7u, end, row, dots[7]);
}
