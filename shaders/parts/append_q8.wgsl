// A cache entry keeps its numbers in eight bits, and behind them an f32 for every 32: their largest.
var<workgroup> largest_of: array<f32, MAX_BLOCKS>;

fn block_largest(v: Block) -> f32 {
    let a = max(max(abs(v.a), abs(v.b)), max(abs(v.c), abs(v.d)));
    let b = max(max(abs(v.e), abs(v.f)), max(abs(v.g), abs(v.h)));
    let most = max(a, b);
    return max(max(most.x, most.y), max(most.z, most.w));
}

fn append(entry: u32, block: u32, v: Block) {
    let most = block_largest(v);
    largest_of[block] = most;
    let by = select(1.0 / most, 0.0, most == 0.0);
    let at = entry + block * 2u;
    cache_put(at, vec4<u32>(pack4x8snorm(v.a * by), pack4x8snorm(v.b * by), pack4x8snorm(v.c * by), pack4x8snorm(v.d * by)));
    cache_put(at + 1u, vec4<u32>(pack4x8snorm(v.e * by), pack4x8snorm(v.f * by), pack4x8snorm(v.g * by), pack4x8snorm(v.h * by)));
}

fn largest_at(block: u32, blocks: u32) -> f32 {
    return select(0.0, largest_of[min(block, blocks - 1u)], block < blocks);
}

fn append_end(entry: u32, blocks: u32, lane: u32) {
    workgroupBarrier();
    for (var i = lane; i * 4u < blocks; i += WORKGROUP_SIZE) {
        let four = vec4<f32>(largest_at(i * 4u, blocks), largest_at(i * 4u + 1u, blocks),
                             largest_at(i * 4u + 2u, blocks), largest_at(i * 4u + 3u, blocks));
        cache_put(entry + params.scale_begin + i, bitcast<vec4<u32>>(four));
    }
}
