// y[row] = base[row] + Σ_slot weight[row, slot] * (down · h[row, slot]), for a few rows
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
// 1: x [rows, slots, cols / 4], the hidden neurons  2: y [rows, y_stride]
@group(0) @binding(3) var<storage, read> weights: array<f32>;            // [rows, slots]

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_down(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let row = (group.x * (WORKGROUP_SIZE / COL_LANES) + at.lane / COL_LANES) * 4u;
    let inside = rows_inside(row, params.rows);
    let blocks = bound(params.cols / 32u, group.x);

    var sum = vec4<f32>(0.0);
    for (var k = 0u; k < bound(params.slots, group.x); k += 1u) {
        let slot = group.y * params.slots + k;
        let expert = slot_expert(slot) - params.expert_begin;
        let is_here = expert < params.experts;
        let rows = four_rows(inside + select(0u, expert * params.rows, is_here));
        var dots = vec4<f32>(0.0);
        // An expert of another slab has no blocks here.
        for (var first = 0u; first < select(0u, blocks, is_here); first += COL_LANES * SPAN) {
            let span = first + at.lane % COL_LANES * SPAN;
            let scales = four_scales(rows, min(span, blocks - 1u));
            for (var i = 0u; i < SPAN; i += 1u) {
                let block = min(span + i, blocks - 1u);
                let d = four_dots(rows, scales, block, load_x((slot * blocks + block) * 8u, at.lane));
                dots += select(vec4<f32>(0.0), d, span + i < blocks);
            }
        }
        sum = fma(dots, vec4<f32>(weights[slot]), sum);
    }
    sum = columns_sum4(sum, at);

    let count = select(0u, count_inside(row, params.rows), at.lane % COL_LANES == 0u);
    let to = group.y * params.y_stride + row;
    y_put(to, load_base(to, count) + sum, count);
}
