// What one lane knows of its position all lanes read in workgroup memory.
var<workgroup> shares: array<vec4<f32>, WORKGROUP_SIZE>;
var<workgroup> entries: array<u32, WORKGROUP_SIZE>;

// The barriers of the reductions before this lie between the last tile's reads and this write.
fn tile_write(share: vec4<f32>, entry: u32, lane: u32) {
    shares[lane] = share;
    entries[lane] = entry;
    workgroupBarrier();
}

fn tile_share(share: vec4<f32>, p: u32) -> vec4<f32> {
    return shares[p];
}

fn tile_entry(entry: u32, p: u32) -> u32 {
    return entries[p];
}

fn tile_read() {
    workgroupBarrier();
}
