// Eight-bit weights, w = scale * q + bias, four in a u32 (MLX's packing).

// Where a row's quants and scales begin: [rows, cols / 16] quads, [rows, cols / GROUP] scales.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 16u), row_begin(row, (params.cols + GROUP - 1u) / GROUP * SCALE_WORDS));
}

fn affine8(packed: u32, sb: vec2<f32>) -> vec4<f32> {
    return fma(vec4<f32>((vec4<u32>(packed) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u)), vec4<f32>(sb.x), vec4<f32>(sb.y));
}

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let sb = load_scale(row.y + block / (GROUP / 32u) * SCALE_WORDS * STEP);
    let at = row.x + block * 2u * STEP;
    let a = weight_at(at);
    let b = weight_at(at + STEP);
    return Block(affine8(a.x, sb), affine8(a.y, sb), affine8(a.z, sb), affine8(a.w, sb),
                 affine8(b.x, sb), affine8(b.y, sb), affine8(b.z, sb), affine8(b.w, sb));
}
