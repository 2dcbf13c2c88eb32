// Weights as f16, two in a u32; needs no f16 arithmetic.

// Where a row begins: [rows, cols / 8] quads.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 8u), 0u);
}

fn f16x4(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
}

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let at = row.x + block * 4u * STEP;
    let a = weight_at(at);
    let b = weight_at(at + STEP);
    let c = weight_at(at + 2u * STEP);
    let d = weight_at(at + 3u * STEP);
    return Block(f16x4(a.x, a.y), f16x4(a.z, a.w), f16x4(b.x, b.y), f16x4(b.z, b.w),
                 f16x4(c.x, c.y), f16x4(c.z, c.w), f16x4(d.x, d.y), f16x4(d.z, d.w));
}

// No scale goes with these weights.
fn block_scale(row: vec2<u32>, block: u32) -> vec2<f32> {
    return vec2<f32>(1.0, 0.0);
}

fn scaled_dot(row: vec2<u32>, scale: vec2<f32>, block: u32, x: Block, total: f32) -> f32 {
    return block_dot(load_block(row, block), x);
}
