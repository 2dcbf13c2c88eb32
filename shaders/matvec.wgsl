// y[token, head, row] = base[token, head, row] + bias[row] + weight[head, row] · norm(x[token, head])
//
// For a few tokens. Each lane works on four rows and every COL_LANES-th block of 32 columns; a plain matrix
// has one head, and SPAN blocks share a scale. How a weight is stored is the `weight_*` part's business, RMSNorm the `norm_*` part's.

// 0: params  1: x [tokens, x_stride]  2: y [tokens, y_stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn matvec(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let token = group.y;
    let head = group.z;
    let row = (group.x * (WORKGROUP_SIZE / COL_LANES) + at.lane / COL_LANES) * 4u;
    // Rows past the end repeat the last one and are not stored.
    let rows = four_rows(rows_inside(row, params.rows) + head * params.rows);
    let x_begin = token * params.x_stride + (params.head_begin + head) * params.x_head_stride;

    // All lanes loop equally often, as sharing x asks; a lane past the last block adds nothing.
    var dots = vec4<f32>(0.0);
    var squares = 0.0;
    let blocks = bound(params.cols / 32u, group.x);
    for (var first = 0u; first < blocks; first += COL_LANES * SPAN) {
        let span = first + at.lane % COL_LANES * SPAN;
        let scales = four_scales(rows, min(span, blocks - 1u));
        for (var i = 0u; i < SPAN; i += 1u) {
            let block = min(span + i, blocks - 1u);
            let input = load_input(x_begin + block * 8u, block, at.lane);
            let is_here = span + i < blocks;
            dots += select(vec4<f32>(0.0), four_dots(rows, scales, block, input.block), is_here);
            squares += select(0.0, input.squares, is_here);
        }
    }
    dots = columns_sum4(dots, at) * norm_scale(squares, at);

    let out_row = params.row_begin + head * params.rows + row;
    let count = select(0u, count_inside(row, params.rows), at.lane % COL_LANES == 0u);
    let to = token * params.y_stride + y_column(select(0u, out_row, count > 0u));
    y_put(to, load_base(to, count) + dots + load_bias(out_row, count), count);
}
