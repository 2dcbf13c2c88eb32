// Weights as f16, two in a u32; needs no f16 arithmetic.
fn halves4(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
}
