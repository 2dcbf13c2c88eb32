// y[slot] = down[expert of slot] · h[slot], for many rows; moe_combine weighs and sums a row's slots.
//
// As ffn_down_tiled, in cooperative matrices: a workgroup takes up to SLOTS slots of one expert and ROWS rows.

struct Params {
    cols: u32,          // columns as stored, a multiple of 32
    rows: u32,          // rows of an expert
    y_stride: u32,      // from slot to slot
    expert_begin: u32,  // experts of this slab
    experts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [rows * slots, cols / 4], the hidden neurons  2: y [rows * slots, y_stride]

struct Tile {
    expert_row: u32,    // where the expert's rows begin in the slab
    row: u32,           // first row within the expert
}

fn tile_row(tile: Tile, i: u32) -> u32 {
    return tile.expert_row + min(tile.row + i, params.rows - 1u);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_down_coop(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let here = load_wide_tile(group.y);
    let expert = here.x - params.expert_begin;
    let is_here = here.z > 0u && expert < params.experts;
    let tile = Tile(select(0u, expert * params.rows, is_here), group.x * ROWS);
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
            let row = tile.row + quad;
            y_put(tile_slot(here.y + slot) * params.y_stride + row, sums_at(slot, quad), count_inside(row, params.rows));
        }
    }
}
