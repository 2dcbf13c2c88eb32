// What one lane knows of its position the subgroup shares: it is the whole workgroup.
fn tile_write(share: vec4<f32>, entry: u32, lane: u32) {
}

fn tile_share(share: vec4<f32>, p: u32) -> vec4<f32> {
    return subgroupShuffle(share, p);
}

fn tile_entry(entry: u32, p: u32) -> u32 {
    return subgroupShuffle(entry, p);
}

fn tile_read() {
}
