// Weights as bf16, two in a u32: the upper half of an f32.

// Where a row begins: [rows, cols / 8] quads.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 8u), 0u);
}

fn bf16x4(low: u32, high: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let at = row.x + block * 4u * STEP;
    let a = weight_at(at);
    let b = weight_at(at + STEP);
    let c = weight_at(at + 2u * STEP);
    let d = weight_at(at + 3u * STEP);
    return Block(bf16x4(a.x, a.y), bf16x4(a.z, a.w), bf16x4(b.x, b.y), bf16x4(b.z, b.w),
                 bf16x4(c.x, c.y), bf16x4(c.z, c.w), bf16x4(d.x, d.y), bf16x4(d.z, d.w));
}

// No scale goes with these weights.
fn block_scale(row: vec2<u32>, block: u32) -> vec2<f32> {
    return vec2<f32>(1.0, 0.0);
}

fn scaled_dot(row: vec2<u32>, scale: vec2<f32>, block: u32, x: Block, total: f32) -> f32 {
    return block_dot(load_block(row, block), x);
}
