// Weights as fp8 e4m3 (DEEPSEEK.md §12.6), one f32 scale for each 128 columns of a row.
@group(0) @binding(8) var<storage, read> weight: array<vec4<u32>>;   // [rows, cols / 16]
@group(0) @binding(9) var<storage, read> scale: array<f32>;          // [rows, ceil(cols / 128)]

fn e4m3x4(packed: u32) -> vec4<f32> {
    let byte = unpack4xU8(packed);
    let magnitude = byte & vec4<u32>(0x7fu);
    // Exponent bias 7 to 127. Subnormals go by arithmetic: an f32 subnormal might be flushed to zero.
    let normal = bitcast<vec4<f32>>((magnitude << vec4<u32>(20u)) + vec4<u32>(0x3c000000u));
    let subnormal = vec4<f32>(magnitude) * 0.001953125;
    let value = select(normal, subnormal, magnitude < vec4<u32>(8u));
    return select(value, -value, byte >= vec4<u32>(0x80u));
}

fn load_block(row: u32, block: u32) -> Block {
    let at = row * (params.cols / 16u) + block * 2u;
    let s = scale[row * ((params.cols + 127u) / 128u) + block / 4u];
    let a = weight[at];
    let b = weight[at + 1u];
    return Block(e4m3x4(a.x) * s, e4m3x4(a.y) * s, e4m3x4(a.z) * s, e4m3x4(a.w) * s,
                 e4m3x4(b.x) * s, e4m3x4(b.y) * s, e4m3x4(b.z) * s, e4m3x4(b.w) * s);
}
