// Four-bit weights, w = scale * q + bias, eight in a u32 with the first in the lowest bits (MLX's packing).
@group(0) @binding(8) var<storage, read> weight: array<vec4<u32>>;   // [rows, cols / 32]

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn affine4x8(packed: u32, s: f32, b: f32) -> Eight {
    let even = fma(vec4<f32>(unpack4xU8(packed & 0x0f0f0f0fu)), vec4<f32>(s), vec4<f32>(b));
    let odd = fma(vec4<f32>(unpack4xU8((packed >> 4u) & 0x0f0f0f0fu)), vec4<f32>(s), vec4<f32>(b));
    return Eight(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}

fn load_block(row: u32, block: u32) -> Block {
    let sb = load_scale(row * ((params.cols + GROUP - 1u) / GROUP) + block / (GROUP / 32u));
    let q = weight[row * (params.cols / 32u) + block];
    let a = affine4x8(q.x, sb.x, sb.y);
    let b = affine4x8(q.y, sb.x, sb.y);
    let c = affine4x8(q.z, sb.x, sb.y);
    let d = affine4x8(q.w, sb.x, sb.y);
    return Block(a.low, a.high, b.low, b.high, c.low, c.high, d.low, d.high);
}
