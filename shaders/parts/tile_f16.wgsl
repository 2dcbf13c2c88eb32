// Numbers of a tile in half precision, two a word.
alias Piece = vec2<f16>;
const PIECE = 2u;

fn put_quad(at: u32, v: vec4<f32>) {
    staged[at] = Piece(v.xy);
    staged[at + 1u] = Piece(v.zw);
}

// The power of two that brings a row whose largest number is this one into half precision's range; 1 where it lies well within.
fn fitting_scale(largest: f32) -> f32 {
    let fits = largest >= 0.015625 && largest <= 65504.0;
    let exponent = min(bitcast<u32>(largest) >> 23u, 253u);
    // Zeros stay zeros; infinity and NaN are no one's to mend.
    return select(bitcast<f32>((254u - exponent) << 23u), 1.0, fits || largest == 0.0 || !(largest < 3.4e38));
}
