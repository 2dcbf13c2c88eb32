// absorb_weight for many rows: of every four rows the first one's workgroups take all four, so that a decoded weight serves four.
fn absorb(i: u32, row: u32) {
    if i >= params.blocks || row % 4u != 0u || row >= step.x {
        return;
    }
    let head = i / (params.cols / 32u);
    let block = i % (params.cols / 32u);
    let x_begin = row * params.x_stride + (params.head_begin + head) * params.x_head_stride;
    var a = Block();
    var b = Block();
    var c = Block();
    var d = Block();
    for (var n = 0u; n < bound(params.nope, i); n += 4u) {
        // x is padded with zeros, so rows past the head's last may stand for any.
        let at = x_begin + n / 4u;
        let v = mat4x4<f32>(x_at(at), x_at(at + params.x_stride), x_at(at + 2u * params.x_stride), x_at(at + 3u * params.x_stride));
        let rows = four_rows(rows_inside(n, params.nope) + head * params.nope);
        let w0 = load_block(rows.a, block);
        a = block_fma(w0, v[0].x, a);
        b = block_fma(w0, v[1].x, b);
        c = block_fma(w0, v[2].x, c);
        d = block_fma(w0, v[3].x, d);
        let w1 = load_block(rows.b, block);
        a = block_fma(w1, v[0].y, a);
        b = block_fma(w1, v[1].y, b);
        c = block_fma(w1, v[2].y, c);
        d = block_fma(w1, v[3].y, d);
        let w2 = load_block(rows.c, block);
        a = block_fma(w2, v[0].z, a);
        b = block_fma(w2, v[1].z, b);
        c = block_fma(w2, v[2].z, c);
        d = block_fma(w2, v[3].z, d);
        let w3 = load_block(rows.d, block);
        a = block_fma(w3, v[0].w, a);
        b = block_fma(w3, v[1].w, b);
        c = block_fma(w3, v[2].w, c);
        d = block_fma(w3, v[3].w, d);
    }
    let stride = params.heads * params.query;
    let to = (row * params.heads + params.head_begin + head) * params.query + block * 32u;
    put_block(to, a);
    put_block(to + stride, b);
    put_block(to + 2u * stride, c);
    put_block(to + 3u * stride, d);
}
