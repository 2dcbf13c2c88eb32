// Four rows of a weight against eight rows of x, given by where those begin.
//
// Sums of two rows of the weight and four of x at a time, so that they stay in sixteen registers, each number of the weight read
// once for four rows of x.
fn tile_dots(rows: FourRows, blocks: u32, x_low: vec4<u32>, x_high: vec4<u32>, lane: u32) -> array<vec4<f32>, 8> {
    var low_ab = PairSums();
    var low_cd = PairSums();
    var high_ab = PairSums();
    var high_cd = PairSums();
    for (var block = 0u; block < blocks; block += 1u) {
        let a = load_block(rows.a, block);
        let b = load_block(rows.b, block);
        let c = load_block(rows.c, block);
        let d = load_block(rows.d, block);
        let low = load_four(x_low + block * 8u, lane);
        low_ab = add_pair(low_ab, a, b, low);
        low_cd = add_pair(low_cd, c, d, low);
        let high = load_four(x_high + block * 8u, lane);
        high_ab = add_pair(high_ab, a, b, high);
        high_cd = add_pair(high_cd, c, d, high);
    }
    let low = transpose(mat4x4<f32>(low_ab.first, low_ab.second, low_cd.first, low_cd.second));
    let high = transpose(mat4x4<f32>(high_ab.first, high_ab.second, high_cd.first, high_cd.second));
    return array<vec4<f32>, 8>(low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]);
}

// Two rows of a weight with four rows of x each.
struct PairSums {
    first: vec4<f32>,
    second: vec4<f32>,
}

// Blocks of four rows of x.
struct FourBlocks {
    a: Block,
    b: Block,
    c: Block,
    d: Block,
}

fn load_four(at: vec4<u32>, lane: u32) -> FourBlocks {
    return FourBlocks(load_x(at.x, lane), load_x(at.y, lane), load_x(at.z, lane), load_x(at.w, lane));
}

fn add_quad(sums: PairSums, first: vec4<f32>, second: vec4<f32>, x: mat4x4<f32>) -> PairSums {
    let columns = transpose(x);
    let one = PairSums(fma(vec4<f32>(first.x), columns[0], sums.first), fma(vec4<f32>(second.x), columns[0], sums.second));
    let two = PairSums(fma(vec4<f32>(first.y), columns[1], one.first), fma(vec4<f32>(second.y), columns[1], one.second));
    let three = PairSums(fma(vec4<f32>(first.z), columns[2], two.first), fma(vec4<f32>(second.z), columns[2], two.second));
    return PairSums(fma(vec4<f32>(first.w), columns[3], three.first), fma(vec4<f32>(second.w), columns[3], three.second));
}

fn add_pair(sums: PairSums, first: Block, second: Block, x: FourBlocks) -> PairSums {
    let a = add_quad(sums, first.a, second.a, mat4x4<f32>(x.a.a, x.b.a, x.c.a, x.d.a));
    let b = add_quad(a, first.b, second.b, mat4x4<f32>(x.a.b, x.b.b, x.c.b, x.d.b));
    let c = add_quad(b, first.c, second.c, mat4x4<f32>(x.a.c, x.b.c, x.c.c, x.d.c));
    let d = add_quad(c, first.d, second.d, mat4x4<f32>(x.a.d, x.b.d, x.c.d, x.d.d));
    let e = add_quad(d, first.e, second.e, mat4x4<f32>(x.a.e, x.b.e, x.c.e, x.d.e));
    let f = add_quad(e, first.f, second.f, mat4x4<f32>(x.a.f, x.b.f, x.c.f, x.d.f));
    let g = add_quad(f, first.g, second.g, mat4x4<f32>(x.a.g, x.b.g, x.c.g, x.d.g));
    return add_quad(g, first.h, second.h, mat4x4<f32>(x.a.h, x.b.h, x.c.h, x.d.h));
}
