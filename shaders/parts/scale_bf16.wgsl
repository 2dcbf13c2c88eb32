// Affine scale and bias as two bf16 in a u32.
const SCALE_WORDS = 1u;

fn load_scale(at: u32) -> vec2<f32> {
    let pair = scale_at(at);
    return bitcast<vec2<f32>>(vec2<u32>(pair << 16u, pair & 0xffff0000u));
}
