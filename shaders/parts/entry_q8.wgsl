// A cache entry keeps its numbers in eight bits, and behind them an f32 for every 32: their largest. A load brings four quads.
struct Piece {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn load_largest(entry: u32, block: u32) -> f32 {
    return bitcast<vec4<f32>>(cache_at(entry + params.scale_begin + block / 4u))[block % 4u];
}

fn scaled_piece(entry: u32, piece: u32, scale: f32) -> Piece {
    let q = cache_at(entry + piece);
    return Piece(unpack4x8snorm(q.x) * scale, unpack4x8snorm(q.y) * scale, unpack4x8snorm(q.z) * scale, unpack4x8snorm(q.w) * scale);
}

fn load_piece(entry: u32, piece: u32) -> Piece {
    return scaled_piece(entry, piece, load_largest(entry, piece / 2u));
}

fn load_key(entry: u32, block: u32) -> Block {
    let scale = load_largest(entry, block);
    let a = scaled_piece(entry, block * 2u, scale);
    let b = scaled_piece(entry, block * 2u + 1u, scale);
    return Block(a.a, a.b, a.c, a.d, b.a, b.b, b.c, b.d);
}
