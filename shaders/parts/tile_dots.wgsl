// Four rows of a weight against eight rows of x, given by where those begin.
fn tile_dots(rows: FourRows, blocks: u32, x_low: vec4<u32>, x_high: vec4<u32>, lane: u32) -> array<vec4<f32>, 8> {
    var d0 = vec4<f32>(0.0);
    var d1 = vec4<f32>(0.0);
    var d2 = vec4<f32>(0.0);
    var d3 = vec4<f32>(0.0);
    var d4 = vec4<f32>(0.0);
    var d5 = vec4<f32>(0.0);
    var d6 = vec4<f32>(0.0);
    var d7 = vec4<f32>(0.0);
    for (var block = 0u; block < blocks; block += 1u) {
        let a = load_block(rows.a, block);
        let b = load_block(rows.b, block);
        let c = load_block(rows.c, block);
        let d = load_block(rows.d, block);
        let at = block * 8u;
        d0 += block_dots(a, b, c, d, load_x(x_low.x + at, lane));
        d1 += block_dots(a, b, c, d, load_x(x_low.y + at, lane));
        d2 += block_dots(a, b, c, d, load_x(x_low.z + at, lane));
        d3 += block_dots(a, b, c, d, load_x(x_low.w + at, lane));
        d4 += block_dots(a, b, c, d, load_x(x_high.x + at, lane));
        d5 += block_dots(a, b, c, d, load_x(x_high.y + at, lane));
        d6 += block_dots(a, b, c, d, load_x(x_high.z + at, lane));
        d7 += block_dots(a, b, c, d, load_x(x_high.w + at, lane));
    }
    return array<vec4<f32>, 8>(d0, d1, d2, d3, d4, d5, d6, d7);
}

fn block_dots(a: Block, b: Block, c: Block, d: Block, x: Block) -> vec4<f32> {
    return vec4<f32>(block_dot(a, x), block_dot(b, x), block_dot(c, x), block_dot(d, x));
}
