// y[token, head, row] = weight[head, row] · x[token, head] + bias[row]   (added to y where ADD is 1)
//
// For many tokens. A lane owns four rows and keeps eight tokens' sums of each in registers, so a decoded weight
// serves eight tokens, and a block of x, the same for all lanes, serves four rows a lane.

struct Params {
    rows: u32,          // rows of a head
    cols: u32,          // columns as stored, a multiple of 32
    row_begin: u32,     // first row of this slab among all heads' rows
    head_begin: u32,    // first head of this slab
    x_stride: u32,      // from token to token, in vec4
    x_head_stride: u32, // from head to head, in vec4
    y_stride: u32,      // from token to token
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // [tokens, x_stride]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;        // [tokens, y_stride]
@group(0) @binding(3) var<uniform> step: vec4<u32>;                  // live tokens first

fn store(token: u32, head: u32, row: u32, dots: vec4<f32>) {
    let stored = select(0u, min(4u, max(params.rows, row) - row), token < step.x);
    for (var i = 0u; i < stored; i += 1u) {
        let out_row = params.row_begin + head * params.rows + row + i;
        let out = token * params.y_stride + y_column(out_row);
        let value = dots[i] + load_bias(out_row);
        if ADD == 1u {
            y[out] += value;
        } else {
            y[out] = value;
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let token = group.y * 8u;
    let head = group.z;
    let row = (group.x * WORKGROUP_SIZE + index) * 4u;
    // Rows past the end repeat the last one and are not stored; tokens past the end lie in x's own padding.
    let rows = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(params.rows - 1u)) + head * params.rows;
    let x_begin = token * params.x_stride + (params.head_begin + head) * params.x_head_stride;

    var dots = array<vec4<f32>, 8>();
    // Dead tiles have no blocks: a bound, not a branch, since llvmpipe runs a loop that no lane has entered to its limit.
    for (var block = 0u; block < select(0u, params.cols / 32u, token < step.x); block += 1u) {
        let w0 = load_block(rows.x, block);
        let w1 = load_block(rows.y, block);
        let w2 = load_block(rows.z, block);
        let w3 = load_block(rows.w, block);
        let at = x_begin + block * 8u;
        dots[0] += block_dots(w0, w1, w2, w3, load_x(at, index));
        dots[1] += block_dots(w0, w1, w2, w3, load_x(at + params.x_stride, index));
        dots[2] += block_dots(w0, w1, w2, w3, load_x(at + 2u * params.x_stride, index));
        dots[3] += block_dots(w0, w1, w2, w3, load_x(at + 3u * params.x_stride, index));
        dots[4] += block_dots(w0, w1, w2, w3, load_x(at + 4u * params.x_stride, index));
        dots[5] += block_dots(w0, w1, w2, w3, load_x(at + 5u * params.x_stride, index));
        dots[6] += block_dots(w0, w1, w2, w3, load_x(at + 6u * params.x_stride, index));
        dots[7] += block_dots(w0, w1, w2, w3, load_x(at + 7u * params.x_stride, index));
    }
    store(token, head, row, dots[0]);
    store(token + 1u, head, row, dots[1]);
    store(token + 2u, head, row, dots[2]);
    store(token + 3u, head, row, dots[3]);
    store(token + 4u, head, row, dots[4]);
    store(token + 5u, head, row, dots[5]);
    store(token + 6u, head, row, dots[6]);
    store(token + 7u, head, row, dots[7]);
}
