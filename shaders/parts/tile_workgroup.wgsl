// What one lane knows of its position all lanes read in workgroup memory.
var<workgroup> tile_shares: array<Shares, WORKGROUP_SIZE>;
var<workgroup> tile_entries: array<u32, WORKGROUP_SIZE>;

fn tile_write(share: Shares, entry: u32, lane: u32) {
    tile_shares[lane] = share;
    tile_entries[lane] = entry;
    workgroupBarrier();
}

fn tile_share(share: Shares, p: u32) -> Shares {
    return tile_shares[p];
}

fn tile_entry(entry: u32, p: u32) -> u32 {
    return tile_entries[p];
}

fn tile_read() {
    workgroupBarrier();
}
