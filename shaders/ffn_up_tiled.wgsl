// h[slot] = silu(gate · x[row of slot]) * (up · x[row of slot]), for many rows
//
// A workgroup takes one tile of eight slots of one expert; a lane owns four neurons, gate and up one after the other.
// Otherwise as matmul.

// 0: params  1: x [rows, cols / 4]  2: h [rows * slots, h_stride]

fn store(at: u32, end: u32, neuron: u32, gate: vec4<f32>, up: vec4<f32>) {
    if at >= end {
        return;
    }
    let values = gate / (1.0 + exp(-clamp(gate, vec4<f32>(-80.0), vec4<f32>(80.0)))) * up;
    h_put(tile_slot(at) * params.h_stride + neuron, values, count_inside(neuron, params.width));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_up_tiled(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let tile = load_tile(group.y);
    let expert = tile.x - params.expert_begin;
    let is_here = tile.z > 0u && expert < params.experts;
    let neuron = (group.x * WORKGROUP_SIZE + index) * 4u;
    let inside = rows_inside(neuron, params.width) + select(0u, 2u * expert * params.width, is_here);
    let end = select(0u, tile.y + tile.z, is_here);
    // Slots past the tile's end repeat its last and are not stored.
    let quads = params.cols / 4u;
    let first = vec4<u32>(tile.y) + vec4<u32>(0u, 1u, 2u, 3u);
    let low = min(first, vec4<u32>(max(end, 1u) - 1u));
    let high = min(first + 4u, vec4<u32>(max(end, 1u) - 1u));
    let x_low = vec4<u32>(tile_slot(low.x), tile_slot(low.y), tile_slot(low.z), tile_slot(low.w)) / params.slots * quads;
    let x_high = vec4<u32>(tile_slot(high.x), tile_slot(high.y), tile_slot(high.z), tile_slot(high.w)) / params.slots * quads;

    // Dead tiles have no blocks.
    let blocks = select(0u, params.cols / 32u, is_here);
    let gates = tile_dots(four_rows(inside), blocks, x_low, x_high, index);
    let ups = tile_dots(four_rows(inside + params.width), blocks, x_low, x_high, index);
    store(tile.y, end, neuron, gates[0], ups[0]);
    store(tile.y + 1u, end, neuron, gates[1], ups[1]);
    store(tile.y + 2u, end, neuron, gates[2], ups[2]);
    store(tile.y + 3u, end, neuron, gates[3], ups[3]);
    store(tile.y + 4u, end, neuron, gates[4], ups[4]);
    store(tile.y + 5u, end, neuron, gates[5], ups[5]);
    store(tile.y + 6u, end, neuron, gates[6], ups[6]);
    store(tile.y + 7u, end, neuron, gates[7], ups[7]);
}
