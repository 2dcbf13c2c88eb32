// load_x's twin for alpha, the query seen from the latent.
fn load_alpha(at: u32, lane: u32) -> Block {
    let mine = alpha[at + lane % 8u];
    return Block(subgroupBroadcast(mine, 0u), subgroupBroadcast(mine, 1u), subgroupBroadcast(mine, 2u), subgroupBroadcast(mine, 3u),
                 subgroupBroadcast(mine, 4u), subgroupBroadcast(mine, 5u), subgroupBroadcast(mine, 6u), subgroupBroadcast(mine, 7u));
}
