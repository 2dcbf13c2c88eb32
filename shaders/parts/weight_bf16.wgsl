// Weights as bf16, two in a u32: the upper half of an f32.
@group(0) @binding(8) var<storage, read> weight: array<vec4<u32>>;   // [rows, cols / 8]

fn bf16x4(low: u32, high: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn load_block(row: u32, block: u32) -> Block {
    let at = row * (params.cols / 8u) + block * 4u;
    let a = weight[at];
    let b = weight[at + 1u];
    let c = weight[at + 2u];
    let d = weight[at + 3u];
    return Block(bf16x4(a.x, a.y), bf16x4(a.z, a.w), bf16x4(b.x, b.y), bf16x4(b.z, b.w),
                 bf16x4(c.x, c.y), bf16x4(c.z, c.w), bf16x4(d.x, d.y), bf16x4(d.z, d.w));
}
