// h[slot] = silu(gate · x[row of slot]) * (up · x[row of slot]), for many rows
//
// As ffn_up_tiled, in cooperative matrices: a workgroup takes up to SLOTS slots of one expert and ROWS / 2 neurons, the tile's upper half
// their gates and its lower half their ups.

// 0: params  1: x [rows, cols / 4]  2: h [rows * slots, h_stride]

const NEURONS = ROWS / 2u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_up_coop(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let here = load_wide_tile(group.y);
    let expert = here.x - params.expert_begin;
    let is_here = here.z > 0u && expert < params.experts;
    let tile = Tile(select(0u, 2u * expert * params.width, is_here), params.width, group.x * NEURONS, NEURONS);
    let count = select(0u, here.z, is_here);
    for (var slot = lane; slot < SLOTS; slot += WORKGROUP_SIZE) {
        x_begins[slot] = tile_slot(here.y + min(slot, max(count, 1u) - 1u)) / params.slots * (params.cols / 4u);
    }
    // Dead tiles have no blocks.
    multiply_tile(tile, select(0u, params.cols / 32u, is_here), lane, subgroup);
    for (var i = lane; i < SLOTS * NEURONS / 4u; i += WORKGROUP_SIZE) {
        let slot = i / (NEURONS / 4u);
        let quad = i % (NEURONS / 4u) * 4u;
        if slot < count {
            let gate = sums_at(slot, quad);
            let values = gate / (1.0 + exp(-clamp(gate, vec4<f32>(-80.0), vec4<f32>(80.0)))) * sums_at(slot, NEURONS + quad);
            let neuron = tile.first + quad;
            h_put(tile_slot(here.y + slot) * params.h_stride + neuron, values, count_inside(neuron, params.width));
        }
    }
}
