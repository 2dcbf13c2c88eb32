// norm_each where eight lanes share what they read, each of them all blocks: a lane squares the quad it read itself.
struct Input {
    block: Block,
    squares: f32,
}

fn load_input(at: u32, block: u32, lane: u32) -> Input {
    let mine = x_at(at + lane % 8u);
    return Input(share_block(mine * gain_at(block * 8u + lane % 8u)), dot(mine, mine));
}

fn norm_scale(squares: f32, at: Invocation) -> f32 {
    return inverseSqrt(subgroupAdd(squares) / f32(params.norm_dim) + params.eps);
}
