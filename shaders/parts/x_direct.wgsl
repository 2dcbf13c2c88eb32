// A block of x that all lanes want: every lane reads it.
fn load_x(at: u32, lane: u32) -> Block {
    return Block(x[at], x[at + 1u], x[at + 2u], x[at + 3u], x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]);
}
