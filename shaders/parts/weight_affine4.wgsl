// Four-bit weights, w = scale * q + bias, eight in a u32 with the first in the lowest bits (MLX's packing).

// Where a row's quants and scales begin: [rows, cols / 32] quads, [rows, cols / GROUP] scales.
fn weight_row(row: u32) -> vec2<u32> {
    return vec2<u32>(row_begin(row, params.cols / 32u), row_begin(row, (params.cols + GROUP - 1u) / GROUP * SCALE_WORDS));
}

fn quants4_low(packed: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>((vec4<u32>(packed) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)));
}

fn quants4_high(packed: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>((vec4<u32>(packed) >> vec4<u32>(16u, 20u, 24u, 28u)) & vec4<u32>(15u)));
}

fn load_quants(row: vec2<u32>, block: u32) -> Block {
    let q = weight_at(row.x + block * STEP);
    return Block(quants4_low(q.x), quants4_high(q.x), quants4_low(q.y), quants4_high(q.y),
                 quants4_low(q.z), quants4_high(q.z), quants4_low(q.w), quants4_high(q.w));
}
