// Affine scale and bias as two f32.
const SCALE_WORDS = 2u;

fn load_scale(at: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(vec2<u32>(scale_at(at), scale_at(at + STEP)));
}
