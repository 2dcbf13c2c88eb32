// A block of x that all lanes want: each of eight lanes reads a quad and the subgroup shares them. Where a lane's
// read is dear (software adapters) this is several times faster than x_each. Subgroups must have
// 8 lanes or more and be cut from the workgroup in order, as the self-test confirms.
fn share_block(mine: vec4<f32>) -> Block {
    return Block(subgroupShuffle(mine, 0u), subgroupShuffle(mine, 1u), subgroupShuffle(mine, 2u), subgroupShuffle(mine, 3u),
                 subgroupShuffle(mine, 4u), subgroupShuffle(mine, 5u), subgroupShuffle(mine, 6u), subgroupShuffle(mine, 7u));
}

fn load_x(at: u32, lane: u32) -> Block {
    return share_block(x_at(at + lane % 8u));
}
