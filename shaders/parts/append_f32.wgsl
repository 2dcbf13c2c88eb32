// A cache entry keeps its numbers as they are.
fn append(entry: u32, block: u32, v: Block) {
    let at = entry + block * 8u;
    cache_put(at, bitcast<vec4<u32>>(v.a));
    cache_put(at + 1u, bitcast<vec4<u32>>(v.b));
    cache_put(at + 2u, bitcast<vec4<u32>>(v.c));
    cache_put(at + 3u, bitcast<vec4<u32>>(v.d));
    cache_put(at + 4u, bitcast<vec4<u32>>(v.e));
    cache_put(at + 5u, bitcast<vec4<u32>>(v.f));
    cache_put(at + 6u, bitcast<vec4<u32>>(v.g));
    cache_put(at + 7u, bitcast<vec4<u32>>(v.h));
}

fn append_end(entry: u32, blocks: u32, lane: u32) {
}
