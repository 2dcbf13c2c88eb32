// Thirty-two neighbouring numbers of a row: what a `weight_*` part decodes at once.
struct Block {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

// Always in this order, so that every kernel that sums a row gives the same bits.
fn block_dot(w: Block, x: Block) -> f32 {
    let sum = fma(w.d, x.d, fma(w.c, x.c, fma(w.b, x.b, w.a * x.a)))
        + fma(w.h, x.h, fma(w.g, x.g, fma(w.f, x.f, w.e * x.e)));
    return (sum.x + sum.y) + (sum.z + sum.w);
}

fn block_sum(x: Block) -> f32 {
    let sum = ((x.a + x.b) + (x.c + x.d)) + ((x.e + x.f) + (x.g + x.h));
    return (sum.x + sum.y) + (sum.z + sum.w);
}
