// A cache entry keeps its numbers as they are; a load brings a quad of them.
struct Piece {
    a: vec4<f32>,
}

fn load_piece(entry: u32, piece: u32) -> Piece {
    return Piece(bitcast<vec4<f32>>(cache_at(entry + piece)));
}

fn load_key(entry: u32, block: u32) -> Block {
    let p = block * 8u;
    return Block(load_piece(entry, p).a, load_piece(entry, p + 1u).a, load_piece(entry, p + 2u).a, load_piece(entry, p + 3u).a,
                 load_piece(entry, p + 4u).a, load_piece(entry, p + 5u).a, load_piece(entry, p + 6u).a, load_piece(entry, p + 7u).a);
}
