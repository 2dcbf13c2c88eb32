// y[slot] = down[expert of slot] · h[slot], for many rows; moe_combine weighs and sums a row's slots.
//
// As ffn_down_tiled, in cooperative matrices: a workgroup takes up to SLOTS slots of one expert and ROWS rows.

// 0: params  1: x [rows * slots, cols / 4], the hidden neurons  2: y [rows * slots, y_stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_down_coop(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let here = load_wide_tile(group.y);
    let expert = here.x - params.expert_begin;
    let is_here = here.z > 0u && expert < params.experts;
    let tile = Tile(select(0u, expert * params.rows, is_here), params.rows, group.x * ROWS, ROWS);
    let count = select(0u, here.z, is_here);
    for (var slot = lane; slot < SLOTS; slot += WORKGROUP_SIZE) {
        x_begins[slot] = tile_slot(here.y + min(slot, max(count, 1u) - 1u)) * (params.cols / 4u);
    }
    // Dead tiles have no blocks.
    multiply_tile(tile, select(0u, params.cols / 32u, is_here), lane, subgroup);
    for (var i = lane; i < SLOTS * ROWS / 4u; i += WORKGROUP_SIZE) {
        let slot = i / (ROWS / 4u);
        let quad = i % (ROWS / 4u) * 4u;
        if slot < count {
            let row = tile.first + quad;
            y_put(tile_slot(here.y + slot) * params.y_stride + row, sums_at(slot, quad), count_inside(row, params.rows));
        }
    }
}
