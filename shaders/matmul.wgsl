// y[token, head, row] = base[token, head, row] + bias[row] + weight[head, row] · x[token, head]
//
// For many tokens. A lane owns four rows and keeps eight tokens' sums of each in registers, so a decoded weight
// serves eight tokens, and a block of x, the same for all lanes, serves four rows a lane.

// 0: params  1: x [tokens, x_stride]  2: y [tokens, y_stride]
@group(0) @binding(3) var<uniform> step: vec4<u32>;                      // live tokens first

fn store(token: u32, out_row: u32, count: u32, dots: vec4<f32>) {
    let stored = select(0u, count, token < step.x);
    let to = token * params.y_stride + y_column(select(0u, out_row, count > 0u));
    y_put(to, load_base(to, stored) + dots + load_bias(out_row, stored), stored);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let token = group.y * 8u;
    let head = group.z;
    let row = (group.x * WORKGROUP_SIZE + index) * 4u;
    // Rows past the end repeat the last one and are not stored; tokens past the end lie in x's own padding.
    let rows = four_rows(rows_inside(row, params.rows) + head * params.rows);
    let x_begin = token * params.x_stride + (params.head_begin + head) * params.x_head_stride;
    let x_low = vec4<u32>(x_begin) + vec4<u32>(0u, 1u, 2u, 3u) * params.x_stride;

    // Dead tiles have no blocks.
    let blocks = select(0u, params.cols / 32u, token < step.x);
    let dots = tile_dots(rows, blocks, x_low, x_low + 4u * params.x_stride, index);
    let out_row = params.row_begin + head * params.rows + row;
    let count = count_inside(row, params.rows);
    store(token, out_row, count, dots[0]);
    store(token + 1u, out_row, count, dots[1]);
    store(token + 2u, out_row, count, dots[2]);
    store(token + 3u, out_row, count, dots[3]);
    store(token + 4u, out_row, count, dots[4]);
    store(token + 5u, out_row, count, dots[5]);
    store(token + 6u, out_row, count, dots[6]);
    store(token + 7u, out_row, count, dots[7]);
}
