// A cache entry keeps its numbers in f16; a load brings two quads of them.
struct Piece {
    a: vec4<f32>,
    b: vec4<f32>,
}

fn load_piece(entry: u32, piece: u32) -> Piece {
    let q = cache_at(entry + piece);
    return Piece(vec4<f32>(unpack2x16float(q.x), unpack2x16float(q.y)), vec4<f32>(unpack2x16float(q.z), unpack2x16float(q.w)));
}

fn load_key(entry: u32, block: u32) -> Block {
    let a = load_piece(entry, block * 4u);
    let b = load_piece(entry, block * 4u + 1u);
    let c = load_piece(entry, block * 4u + 2u);
    let d = load_piece(entry, block * 4u + 3u);
    return Block(a.a, a.b, b.a, b.b, c.a, c.b, d.a, d.b);
}
