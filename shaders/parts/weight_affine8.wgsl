// Eight-bit weights, w = scale * q + bias, four in a u32 (MLX's packing).
@group(0) @binding(8) var<storage, read> weight: array<vec4<u32>>;   // [rows, cols / 16]

fn affine8x4(packed: u32, sb: vec2<f32>) -> vec4<f32> {
    return fma(vec4<f32>(unpack4xU8(packed)), vec4<f32>(sb.x), vec4<f32>(sb.y));
}

fn load_block(row: u32, block: u32) -> Block {
    let sb = load_scale(row * ((params.cols + GROUP - 1u) / GROUP) + block / (GROUP / 32u));
    let at = row * (params.cols / 16u) + block * 2u;
    let a = weight[at];
    let b = weight[at + 1u];
    return Block(affine8x4(a.x, sb), affine8x4(a.y, sb), affine8x4(a.z, sb), affine8x4(a.w, sb),
                 affine8x4(b.x, sb), affine8x4(b.y, sb), affine8x4(b.z, sb), affine8x4(b.w, sb));
}
