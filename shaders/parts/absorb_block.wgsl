// A block of the latent half of a query, one more row summed.
fn block_fma(w: Block, v: f32, sum: Block) -> Block {
    let s = vec4<f32>(v);
    return Block(fma(w.a, s, sum.a), fma(w.b, s, sum.b), fma(w.c, s, sum.c), fma(w.d, s, sum.d),
                 fma(w.e, s, sum.e), fma(w.f, s, sum.f), fma(w.g, s, sum.g), fma(w.h, s, sum.h));
}
