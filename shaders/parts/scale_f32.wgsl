// Affine scale and bias as two f32.
@group(0) @binding(9) var<storage, read> scale: array<vec2<f32>>;    // [rows, cols / GROUP]

fn load_scale(group: u32) -> vec2<f32> {
    return scale[group];
}
