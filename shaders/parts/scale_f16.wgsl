// Affine scale and bias as two f16 in a u32.
const SCALE_WORDS = 1u;

fn load_scale(at: u32) -> vec2<f32> {
    return unpack2x16float(scale_at(at));
}
