// h[row, slot] = silu(gate · x[row]) * (up · x[row]), for a few rows (DEEPSEEK.md §3.4)
//
// The expert of a slot is the `slot_*` part's business; its rows are [gate ; up], `width` each. Lanes as in matvec.

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
@group(0) @binding(2) var<storage, read_write> h: array<f32>;            // [rows, slots, h_stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_up(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let slot = group.z * params.slots + group.y;
    let expert = slot_expert(slot) - params.expert_begin;
    // Wraps to a large number below the slab's first expert.
    let is_here = expert < params.experts;
    let row = (group.x * (WORKGROUP_SIZE / COL_LANES) + at.lane / COL_LANES) * 4u;
    let gate = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(params.width - 1u)) + 2u * expert * params.width;
    let up = gate + params.width;
    let x_begin = group.z * (params.cols / 4u);

    var gates = vec4<f32>(0.0);
    var ups = vec4<f32>(0.0);
    let blocks = params.cols / 32u;
    for (var first = 0u; first < select(0u, blocks, is_here); first += COL_LANES) {
        let block = min(first + at.lane % COL_LANES, blocks - 1u);
        let here = first + at.lane % COL_LANES < blocks;
        let xs = load_x(x_begin + block * 8u, at.lane);
        let g = block_dots(load_block(gate.x, block), load_block(gate.y, block), load_block(gate.z, block), load_block(gate.w, block), xs);
        let u = block_dots(load_block(up.x, block), load_block(up.y, block), load_block(up.z, block), load_block(up.w, block), xs);
        gates += select(vec4<f32>(0.0), g, here);
        ups += select(vec4<f32>(0.0), u, here);
    }
    gates = columns_sum4(gates, at);
    ups = columns_sum4(ups, at);

    // Bounds, not branches, keep lanes out of loops: llvmpipe runs a loop that no lane has entered to its iteration limit.
    let values = gates / (1.0 + exp(-clamp(gates, vec4<f32>(-80.0), vec4<f32>(80.0)))) * ups;
    let stored = select(0u, min(4u, max(params.width, row) - row), is_here && at.lane % COL_LANES == 0u);
    for (var i = 0u; i < stored; i += 1u) {
        h[slot * params.h_stride + row + i] = values[i];
    }
}
