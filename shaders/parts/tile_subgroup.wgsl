// What one lane knows of its position the subgroup shares: it is the whole workgroup.
fn tile_write(share: Shares, entry: u32, lane: u32) {
}

fn tile_share(share: Shares, p: u32) -> Shares {
    return shares_from(share, p);
}

fn tile_entry(entry: u32, p: u32) -> u32 {
    return subgroupShuffle(entry, p);
}

fn tile_read() {
}
