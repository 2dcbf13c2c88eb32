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

fn four_dots(rows: FourRows, block: u32, x: Block) -> vec4<f32> {
    return vec4<f32>(block_dot(load_block(rows.a, block), x), block_dot(load_block(rows.b, block), x),
                     block_dot(load_block(rows.c, block), x), block_dot(load_block(rows.d, block), x));
}

// Rows from `row` on that are there; past the last the last again.
fn rows_inside(row: u32, rows: u32) -> vec4<u32> {
    return min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(rows - 1u));
}

// How many of four rows from `row` on are there.
fn count_inside(row: u32, rows: u32) -> u32 {
    return min(4u, max(rows, row) - row);
}
