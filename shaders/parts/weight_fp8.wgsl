// Weights as fp8 e4m3 (DEEPSEEK.md §12.6), one f32 scale for each 128 columns of a row.

// Where a row's codes and scales begin: [rows, cols / 16] quads, [rows, ceil(cols / 128)] scales.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 16u), row_begin(row, (params.cols + 127u) / 128u));
}

fn e4m3x4(packed: u32) -> vec4<f32> {
    let byte = unpack4xU8(packed);
    let magnitude = byte & vec4<u32>(0x7fu);
    // Exponent bias 7 to 127. Subnormals go by arithmetic: an f32 subnormal might be flushed to zero.
    let normal = bitcast<vec4<f32>>((magnitude << vec4<u32>(20u)) + vec4<u32>(0x3c000000u));
    let subnormal = vec4<f32>(magnitude) * 0.001953125;
    let value = select(normal, subnormal, magnitude < vec4<u32>(8u));
    return select(value, -value, byte >= vec4<u32>(0x80u));
}

fn block_scale(row: vec2<u32>, block: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(scale_at(row.y + block / 4u * STEP)), 0.0);
}

fn load_codes(row: vec2<u32>, block: u32) -> Block {
    let at = row.x + block * 2u * STEP;
    let a = weight_at(at);
    let b = weight_at(at + STEP);
    return Block(e4m3x4(a.x), e4m3x4(a.y), e4m3x4(a.z), e4m3x4(a.w), e4m3x4(b.x), e4m3x4(b.y), e4m3x4(b.z), e4m3x4(b.w));
}

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let s = block_scale(row, block).x;
    let w = load_codes(row, block);
    return Block(w.a * s, w.b * s, w.c * s, w.d * s, w.e * s, w.f * s, w.g * s, w.h * s);
}

fn scaled_dot(row: vec2<u32>, scale: vec2<f32>, block: u32, x: Block, total: f32) -> f32 {
    return scale.x * block_dot(load_codes(row, block), x);
}
