// h[row, slot] = silu(gate · norm(x[row])) * (up · norm(x[row])), for a few rows (DEEPSEEK.md §3.4)
//
// The expert of a slot is the `slot_*` part's business; its rows are [gate ; up], `width` each. Lanes as in matvec.

// 0: params  1: x [rows, cols / 4]  2: h [rows, slots, h_stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn ffn_up(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let slot = group.z * params.slots + group.y;
    let expert = slot_expert(slot) - params.expert_begin;
    // Wraps to a large number below the slab's first expert.
    let is_here = expert < params.experts;
    let row = (group.x * (WORKGROUP_SIZE / COL_LANES) + at.lane / COL_LANES) * 4u;
    let inside = rows_inside(row, params.width) + select(0u, 2u * expert * params.width, is_here);
    let gate_rows = four_rows(inside);
    let up_rows = four_rows(inside + params.width);
    let x_begin = group.z * (params.cols / 4u);

    var gates = vec4<f32>(0.0);
    var ups = vec4<f32>(0.0);
    var squares = 0.0;
    let blocks = bound(params.cols / 32u, group.x);
    for (var first = 0u; first < select(0u, blocks, is_here); first += COL_LANES * SPAN) {
        let span = first + at.lane % COL_LANES * SPAN;
        let gate_scales = four_scales(gate_rows, min(span, blocks - 1u));
        let up_scales = four_scales(up_rows, min(span, blocks - 1u));
        for (var i = 0u; i < SPAN; i += 1u) {
            let block = min(span + i, blocks - 1u);
            let here = span + i < blocks;
            let input = load_input(x_begin + block * 8u, block, at.lane);
            gates += select(vec4<f32>(0.0), four_dots(gate_rows, gate_scales, block, input.block), here);
            ups += select(vec4<f32>(0.0), four_dots(up_rows, up_scales, block, input.block), here);
            squares += select(0.0, input.squares, here);
        }
    }
    let scale = norm_scale(squares, at);
    gates = columns_sum4(gates, at) * scale;
    ups = columns_sum4(ups, at) * scale;

    let values = gates / (1.0 + exp(-clamp(gates, vec4<f32>(-80.0), vec4<f32>(80.0)))) * ups;
    h_put(slot * params.h_stride + row, values, select(0u, count_inside(row, params.width), is_here && at.lane % COL_LANES == 0u));
}
