// Four-bit weights, w = scale * q + bias, eight in a u32 with the first in the lowest bits (MLX's packing).

// Where a row's quants and scales begin: [rows, cols / 32] quads, [rows, cols / GROUP] scales.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 32u), row_begin(row, (params.cols + GROUP - 1u) / GROUP * SCALE_WORDS));
}

fn affine4_low(packed: u32, sb: vec2<f32>) -> vec4<f32> {
    return fma(vec4<f32>((vec4<u32>(packed) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)), vec4<f32>(sb.x), vec4<f32>(sb.y));
}

fn affine4_high(packed: u32, sb: vec2<f32>) -> vec4<f32> {
    return fma(vec4<f32>((vec4<u32>(packed) >> vec4<u32>(16u, 20u, 24u, 28u)) & vec4<u32>(15u)), vec4<f32>(sb.x), vec4<f32>(sb.y));
}

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let sb = load_scale(row.y + block / (GROUP / 32u) * SCALE_WORDS * STEP);
    let q = weight_at(row.x + block * STEP);
    return Block(affine4_low(q.x, sb), affine4_high(q.x, sb), affine4_low(q.y, sb), affine4_high(q.y, sb),
                 affine4_low(q.z, sb), affine4_high(q.z, sb), affine4_low(q.w, sb), affine4_high(q.w, sb));
}
