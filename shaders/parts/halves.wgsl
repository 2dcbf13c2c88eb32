// Weights of two bytes, four in two words.

// Where a row begins: [rows, cols / 8] quads.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 8u), 0u);
}

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let at = row.x + block * 4u * STEP;
    let a = weight_at(at);
    let b = weight_at(at + STEP);
    let c = weight_at(at + 2u * STEP);
    let d = weight_at(at + 3u * STEP);
    return Block(halves4(a.x, a.y), halves4(a.z, a.w), halves4(b.x, b.y), halves4(b.z, b.w),
                 halves4(c.x, c.y), halves4(c.z, c.w), halves4(d.x, d.y), halves4(d.z, d.w));
}
