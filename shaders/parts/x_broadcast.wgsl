// A block of x that all lanes want: each of eight lanes reads a quad and the subgroup shares them. Where a lane's
// read is dear (software adapters) this is several times faster than x_direct. Subgroups must have
// 8 lanes or more and be cut from the workgroup in order, as the self-test confirms.
fn load_x(at: u32, lane: u32) -> Block {
    let mine = x[at + lane % 8u];
    return Block(subgroupBroadcast(mine, 0u), subgroupBroadcast(mine, 1u), subgroupBroadcast(mine, 2u), subgroupBroadcast(mine, 3u),
                 subgroupBroadcast(mine, 4u), subgroupBroadcast(mine, 5u), subgroupBroadcast(mine, 6u), subgroupBroadcast(mine, 7u));
}
