// The router's logits: its weight times the normalised row. Lanes as in matvec.
fn write_logits(row: u32, at: Invocation) {
    let blocks = bound(params.cols / 32u, row);
    for (var e = 0u; e < bound(params.experts, row); e += WORKGROUP_SIZE / COL_LANES * 4u) {
        let expert = e + at.lane / COL_LANES * 4u;
        let rows = four_rows(rows_inside(expert, params.experts));
        var dots = vec4<f32>(0.0);
        var squares = 0.0;
        for (var first = 0u; first < blocks; first += COL_LANES * SPAN) {
            let span = first + at.lane % COL_LANES * SPAN;
            let scales = four_scales(rows, min(span, blocks - 1u));
            for (var i = 0u; i < SPAN; i += 1u) {
                let block = min(span + i, blocks - 1u);
                let input = load_input((row * blocks + block) * 8u, block, at.lane);
                let is_here = span + i < blocks;
                dots += select(vec4<f32>(0.0), four_dots(rows, scales, block, input.block), is_here);
                squares += select(0.0, input.squares, is_here);
            }
        }
        dots = columns_sum4(dots, at) * norm_scale(squares, at);
        let count = select(0u, count_inside(expert, params.experts), at.lane % COL_LANES == 0u);
        if count > 0u { scores[expert] = dots.x; }
        if count > 1u { scores[expert + 1u] = dots.y; }
        if count > 2u { scores[expert + 2u] = dots.z; }
        if count > 3u { scores[expert + 3u] = dots.w; }
    }
}
