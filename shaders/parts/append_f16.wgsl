// A cache entry keeps its numbers in f16; what is larger than any f16 becomes the largest.
fn halves8(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
    let most = vec4<f32>(65504.0);
    let low = clamp(a, -most, most);
    let high = clamp(b, -most, most);
    return vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}

fn append(entry: u32, block: u32, v: Block) {
    let at = entry + block * 4u;
    cache_put(at, halves8(v.a, v.b));
    cache_put(at + 1u, halves8(v.c, v.d));
    cache_put(at + 2u, halves8(v.e, v.f));
    cache_put(at + 3u, halves8(v.g, v.h));
}

fn append_end(entry: u32, blocks: u32, lane: u32) {
}
