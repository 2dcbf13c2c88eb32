// Affine scale and bias as two f16 in a u32.
@group(0) @binding(9) var<storage, read> scale: array<u32>;          // [rows, cols / GROUP]

fn load_scale(group: u32) -> vec2<f32> {
    return unpack2x16float(scale[group]);
}
