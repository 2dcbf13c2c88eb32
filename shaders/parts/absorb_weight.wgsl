// Block i of the latent half of row's queries, from the key half of kv_b read as it lies, down its columns.
fn absorb(i: u32, row: u32) {
    if i >= params.blocks {
        return;
    }
    let head = i / (params.cols / 32u);
    let block = i % (params.cols / 32u);
    let x_begin = row * params.x_stride + (params.head_begin + head) * params.x_head_stride;
    var sum = Block();
    for (var n = 0u; n < bound(params.nope, i); n += 4u) {
        // x is padded with zeros, so rows past the head's last may stand for any.
        let v = x_at(x_begin + n / 4u);
        let rows = four_rows(rows_inside(n, params.nope) + head * params.nope);
        sum = block_fma(load_block(rows.a, block), v.x, sum);
        sum = block_fma(load_block(rows.b, block), v.y, sum);
        sum = block_fma(load_block(rows.c, block), v.z, sum);
        sum = block_fma(load_block(rows.d, block), v.w, sum);
    }
    let to = (row * params.heads + params.head_begin + head) * params.query + block * 32u;
    put_block(to, sum);
}
