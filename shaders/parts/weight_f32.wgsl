// Weights as f32.

// Where a row begins: [rows, cols / 4] quads.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 4u), 0u);
}

fn f32x4(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(weight_at(at));
}

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let at = row.x + block * 8u * STEP;
    return Block(f32x4(at), f32x4(at + STEP), f32x4(at + 2u * STEP), f32x4(at + 3u * STEP),
                 f32x4(at + 4u * STEP), f32x4(at + 5u * STEP), f32x4(at + 6u * STEP), f32x4(at + 7u * STEP));
}
