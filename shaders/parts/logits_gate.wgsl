// The router's logits: its weight times the normalised row. Lanes as in matvec.
fn write_logits(row: u32, at: Invocation) {
    let blocks = params.cols / 32u;
    for (var e = 0u; e < params.experts; e += WORKGROUP_SIZE / COL_LANES * 4u) {
        let expert = e + at.lane / COL_LANES * 4u;
        let rows = four_rows(rows_inside(expert, params.experts));
        var dots = vec4<f32>(0.0);
        var squares = 0.0;
        for (var first = 0u; first < blocks; first += COL_LANES) {
            let block = min(first + at.lane % COL_LANES, blocks - 1u);
            let input = load_input((row * blocks + block) * 8u, block, at.lane);
            let sums = four_dots(rows, block, input.block);
            let is_here = first + at.lane % COL_LANES < blocks;
            dots += select(vec4<f32>(0.0), sums, is_here);
            squares += select(0.0, input.squares, is_here);
        }
        dots = columns_sum4(dots, at) * norm_scale(squares, at);
        let count = select(0u, count_inside(expert, params.experts), at.lane % COL_LANES == 0u);
        if count > 0u { scores[expert] = dots.x; }
        if count > 1u { scores[expert + 1u] = dots.y; }
        if count > 2u { scores[expert + 2u] = dots.z; }
        if count > 3u { scores[expert + 3u] = dots.w; }
    }
}
