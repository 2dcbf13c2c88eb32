// Eight-bit weights, w = scale * q + bias, four in a u32 (MLX's packing).

// Where a row's quants and scales begin: [rows, cols / 16] quads, [rows, cols / GROUP] scales.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 16u), row_begin(row, (params.cols + GROUP - 1u) / GROUP * SCALE_WORDS));
}

fn quants8(packed: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>((vec4<u32>(packed) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u)));
}

fn load_quants(row: vec2<u32>, block: u32) -> Block {
    let at = row.x + block * 2u * STEP;
    let a = weight_at(at);
    let b = weight_at(at + STEP);
    return Block(quants8(a.x), quants8(a.y), quants8(a.z), quants8(a.w), quants8(b.x), quants8(b.y), quants8(b.z), quants8(b.w));
}
