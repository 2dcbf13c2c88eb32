// RMSNorm on the way in: x goes on times the norm's weight, and 1 / rms, which is the same for a whole row, comes last.
struct Input {
    block: Block,
    squares: f32,
}

fn load_input(at: u32, block: u32, lane: u32) -> Input {
    let x = load_x(at, lane);
    let g = block * 8u;
    let gained = Block(x.a * gain_at(g), x.b * gain_at(g + 1u), x.c * gain_at(g + 2u), x.d * gain_at(g + 3u),
                       x.e * gain_at(g + 4u), x.f * gain_at(g + 5u), x.g * gain_at(g + 6u), x.h * gain_at(g + 7u));
    return Input(gained, block_dot(x, x));
}

fn norm_scale(squares: f32, at: Invocation) -> f32 {
    return inverseSqrt(columns_sum4(vec4<f32>(squares), at).x / f32(params.norm_dim) + params.eps);
}
