// Affine weights, w = scale * q + bias, from their quants.
fn block_scale(row: vec2<u32>, block: u32) -> vec2<f32> {
    return load_scale(row.y + block / (GROUP / 32u) * SCALE_WORDS * STEP);
}

fn load_block(row: vec2<u32>, block: u32) -> Block {
    let s = block_scale(row, block);
    let scale = vec4<f32>(s.x);
    let bias = vec4<f32>(s.y);
    let q = load_quants(row, block);
    return Block(fma(q.a, scale, bias), fma(q.b, scale, bias), fma(q.c, scale, bias), fma(q.d, scale, bias),
                 fma(q.e, scale, bias), fma(q.f, scale, bias), fma(q.g, scale, bias), fma(q.h, scale, bias));
}

// Σ (scale * q + bias) x = scale * Σ q x + bias * Σ x
fn scaled_dot(row: vec2<u32>, scale: vec2<f32>, block: u32, x: Block, total: f32) -> f32 {
    return fma(scale.x, block_dot(load_quants(row, block), x), scale.y * total);
}
