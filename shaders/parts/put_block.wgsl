// Stores a block of y from number `to` on.
fn put_block(to: u32, block: Block) {
    y_put(to, block.a, 4u);
    y_put(to + 4u, block.b, 4u);
    y_put(to + 8u, block.c, 4u);
    y_put(to + 12u, block.d, 4u);
    y_put(to + 16u, block.e, 4u);
    y_put(to + 20u, block.f, 4u);
    y_put(to + 24u, block.g, 4u);
    y_put(to + 28u, block.h, 4u);
}
