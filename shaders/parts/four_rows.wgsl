// Four rows of a weight, from where they begin, against one block of x.
struct FourRows {
    a: vec2<u32>,
    b: vec2<u32>,
    c: vec2<u32>,
    d: vec2<u32>,
}

fn four_rows(rows: vec4<u32>) -> FourRows {
    return FourRows(weight_row(rows.x), weight_row(rows.y), weight_row(rows.z), weight_row(rows.w));
}

// The scales of four rows' weights, as the format has them, for SPAN blocks from `block` on.
struct FourScales {
    a: vec2<f32>,
    b: vec2<f32>,
    c: vec2<f32>,
    d: vec2<f32>,
}

fn four_scales(rows: FourRows, block: u32) -> FourScales {
    return FourScales(block_scale(rows.a, block), block_scale(rows.b, block), block_scale(rows.c, block), block_scale(rows.d, block));
}

fn four_dots(rows: FourRows, scales: FourScales, block: u32, x: Block) -> vec4<f32> {
    let total = block_sum(x);
    return vec4<f32>(scaled_dot(rows.a, scales.a, block, x, total), scaled_dot(rows.b, scales.b, block, x, total),
                     scaled_dot(rows.c, scales.c, block, x, total), scaled_dot(rows.d, scales.d, block, x, total));
}

// Rows from `row` on that are there; past the last the last again.
fn rows_inside(row: u32, rows: u32) -> vec4<u32> {
    return min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(rows - 1u));
}

// How many of four rows from `row` on are there.
fn count_inside(row: u32, rows: u32) -> u32 {
    return min(4u, max(rows, row) - row);
}
