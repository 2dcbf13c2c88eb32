// A block of the latent half of a query: summed, and stored.
fn block_fma(w: Block, v: f32, sum: Block) -> Block {
    let s = vec4<f32>(v);
    return Block(fma(w.a, s, sum.a), fma(w.b, s, sum.b), fma(w.c, s, sum.c), fma(w.d, s, sum.d),
                 fma(w.e, s, sum.e), fma(w.f, s, sum.f), fma(w.g, s, sum.g), fma(w.h, s, sum.h));
}

fn put_block(to: u32, sum: Block) {
    y_put(to, sum.a, 4u);
    y_put(to + 4u, sum.b, 4u);
    y_put(to + 8u, sum.c, 4u);
    y_put(to + 12u, sum.d, 4u);
    y_put(to + 16u, sum.e, 4u);
    y_put(to + 20u, sum.f, 4u);
    y_put(to + 24u, sum.g, 4u);
    y_put(to + 28u, sum.h, 4u);
}
