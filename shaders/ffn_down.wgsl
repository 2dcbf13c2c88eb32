// y[row] += Σ_slot weight[row, slot] * (down · h[row, slot]), for a few rows
//
// Slots in ascending order, so that a row's sum never depends on the rows beside it. Lanes as in matvec.

struct Params {
    cols: u32,          // columns as stored, a multiple of 32
    rows: u32,          // rows of an expert
    y_stride: u32,      // from row to row
    slots: u32,         // slots of a row
    expert_begin: u32,  // experts of this slab
    experts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;            // [rows, slots, cols / 4]: the hidden neurons
@group(0) @binding(2) var<storage, read> weights: array<f32>;            // [rows, slots]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;            // [rows, y_stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_down(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let row = (group.x * (WORKGROUP_SIZE / COL_LANES) + at.lane / COL_LANES) * 4u;
    let inside = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(params.rows - 1u));
    let blocks = params.cols / 32u;

    var sum = vec4<f32>(0.0);
    for (var k = 0u; k < params.slots; k += 1u) {
        let slot = group.y * params.slots + k;
        let expert = slot_expert(slot) - params.expert_begin;
        let down = inside + expert * params.rows;
        var dots = vec4<f32>(0.0);
        // An expert of another slab has no blocks here.
        for (var first = 0u; first < select(0u, blocks, expert < params.experts); first += COL_LANES) {
            let block = min(first + at.lane % COL_LANES, blocks - 1u);
            let xs = load_x((slot * blocks + block) * 8u, at.lane);
            let d = block_dots(load_block(down.x, block), load_block(down.y, block), load_block(down.z, block), load_block(down.w, block), xs);
            dots += select(vec4<f32>(0.0), d, first + at.lane % COL_LANES < blocks);
        }
        sum = fma(dots, vec4<f32>(weights[slot]), sum);
    }
    sum = columns_sum4(sum, at);

    // Bounds, not branches, keep lanes out of loops: llvmpipe runs a loop that no lane has entered to its iteration limit.
    let stored = select(0u, min(4u, max(params.rows, row) - row), at.lane % COL_LANES == 0u);
    for (var i = 0u; i < stored; i += 1u) {
        y[group.y * params.y_stride + row + i] += sum[i];
    }
}
