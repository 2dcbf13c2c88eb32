// h[slot] = silu(gate · x[row of slot]) * (up · x[row of slot]), for many rows
//
// A workgroup takes one tile of eight slots of one expert; a lane owns two neurons, so its four rows are two of the gate
// and two of up. Otherwise as matmul.

struct Params {
    cols: u32,          // columns as stored, a multiple of 32
    width: u32,         // neurons of an expert
    h_stride: u32,      // from slot to slot
    slots: u32,         // slots of a row
    expert_begin: u32,  // experts of this slab
    experts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;            // [rows, cols / 4]
@group(0) @binding(2) var<storage, read_write> h: array<f32>;            // [rows * slots, h_stride]

fn store(at: u32, end: u32, neuron: u32, dots: vec4<f32>) {
    if at >= end {
        return;
    }
    let gate = dots.xy;
    let values = gate / (1.0 + exp(-clamp(gate, vec2<f32>(-80.0), vec2<f32>(80.0)))) * dots.zw;
    let to = tile_slot(at) * params.h_stride + neuron;
    if neuron < params.width {
        h[to] = values.x;
    }
    if neuron + 1u < params.width {
        h[to + 1u] = values.y;
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_up_tiled(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let tile = load_tile(group.y);
    let expert = tile.x - params.expert_begin;
    let is_here = tile.z > 0u && expert < params.experts;
    let neuron = (group.x * WORKGROUP_SIZE + index) * 2u;
    let inside = min(vec2<u32>(neuron, neuron + 1u), vec2<u32>(params.width - 1u)) + 2u * expert * params.width;
    let rows = vec4<u32>(inside, inside + params.width);
    let end = select(0u, tile.y + tile.z, is_here);
    // Slots past the tile's end repeat its last and are not stored.
    let quads = params.cols / 4u;
    let first = vec4<u32>(tile.y) + vec4<u32>(0u, 1u, 2u, 3u);
    let low = min(first, vec4<u32>(max(end, 1u) - 1u));
    let high = min(first + 4u, vec4<u32>(max(end, 1u) - 1u));
    let x_low = vec4<u32>(tile_slot(low.x), tile_slot(low.y), tile_slot(low.z), tile_slot(low.w)) / params.slots * quads;
    let x_high = vec4<u32>(tile_slot(high.x), tile_slot(high.y), tile_slot(high.z), tile_slot(high.w)) / params.slots * quads;

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
    store(tile.y, end, neuron, dots[0]);
    store(tile.y + 1u, end, neuron, dots[1]);
    store(tile.y + 2u, end, neuron, dots[2]);
    store(tile.y + 3u, end, neuron, dots[3]);
    store(tile.y + 4u, end, neuron, dots[4]);
    store(tile.y + 5u, end, neuron, dots[5]);
    store(tile.y + 6u, end, neuron, dots[6]);
    store(tile.y + 7u, end, neuron, dots[7]);
}
