// load_x's twin for alpha, the query seen from the latent.
fn load_alpha(at: u32, lane: u32) -> Block {
    return Block(alpha[at], alpha[at + 1u], alpha[at + 2u], alpha[at + 3u], alpha[at + 4u], alpha[at + 5u], alpha[at + 6u], alpha[at + 7u]);
}
