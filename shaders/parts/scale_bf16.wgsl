// Affine scale and bias as two bf16 in a u32.
@group(0) @binding(9) var<storage, read> scale: array<u32>;          // [rows, cols / GROUP]

fn load_scale(group: u32) -> vec2<f32> {
    let pair = scale[group];
    return bitcast<vec2<f32>>(vec2<u32>(pair << 16u, pair & 0xffff0000u));
}
