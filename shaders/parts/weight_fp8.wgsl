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

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let at = row.x + block * 2u * STEP;
    let s = bitcast<f32>(scale_at(row.y + block / 4u * STEP));
    let a = weight_at(at);
    let b = weight_at(at + STEP);
    return Block(e4m3x4(a.x) * s, e4m3x4(a.y) * s, e4m3x4(a.z) * s, e4m3x4(a.w) * s,
                 e4m3x4(b.x) * s, e4m3x4(b.y) * s, e4m3x4(b.z) * s, e4m3x4(b.w) * s);
}
