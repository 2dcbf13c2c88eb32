// Weights as f16, two in a u32; needs no f16 arithmetic.
@group(0) @binding(8) var<storage, read> weight: array<vec4<u32>>;   // [rows, cols / 8]

fn f16x4(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
}

fn load_block(row: u32, block: u32) -> Block {
    let at = row * (params.cols / 8u) + block * 4u;
    let a = weight[at];
    let b = weight[at + 1u];
    let c = weight[at + 2u];
    let d = weight[at + 3u];
    return Block(f16x4(a.x, a.y), f16x4(a.z, a.w), f16x4(b.x, b.y), f16x4(b.z, b.w),
                 f16x4(c.x, c.y), f16x4(c.z, c.w), f16x4(d.x, d.y), f16x4(d.z, d.w));
}
