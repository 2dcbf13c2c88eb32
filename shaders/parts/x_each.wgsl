// A block of x that all lanes want: every lane reads it.
fn load_x(at: u32, lane: u32) -> Block {
    return Block(x_at(at), x_at(at + 1u), x_at(at + 2u), x_at(at + 3u), x_at(at + 4u), x_at(at + 5u), x_at(at + 6u), x_at(at + 7u));
}
