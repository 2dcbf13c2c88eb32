// y[token, head, row] = weight[head, row] · x[token, head] + bias[row]   (added to y where ADD is 1)
//
// For a few tokens. Each lane works on four rows and every COL_LANES-th block of 32 columns; a plain matrix
// has one head. How a weight is stored is the `weight_*` part's business.

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

@compute @workgroup_size(WORKGROUP_SIZE)
fn matvec(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let token = group.y;
    let head = group.z;
    let row = (group.x * (WORKGROUP_SIZE / COL_LANES) + at.lane / COL_LANES) * 4u;
    // Rows past the end repeat the last one and are not stored.
    let rows = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(params.rows - 1u)) + head * params.rows;
    let x_begin = token * params.x_stride + (params.head_begin + head) * params.x_head_stride;

    // All lanes loop equally often, as sharing x asks; a lane past the last block adds nothing.
    var dots = vec4<f32>(0.0);
    let blocks = params.cols / 32u;
    for (var first = 0u; first < blocks; first += COL_LANES) {
        let block = min(first + at.lane % COL_LANES, blocks - 1u);
        let xs = load_x(x_begin + block * 8u, at.lane);
        let sums = block_dots(load_block(rows.x, block), load_block(rows.y, block), load_block(rows.z, block), load_block(rows.w, block), xs);
        dots += select(vec4<f32>(0.0), sums, first + at.lane % COL_LANES < blocks);
    }
    dots = columns_sum4(dots, at);

    // Bounds, not branches, keep lanes out of loops: llvmpipe runs a loop that no lane has entered to its iteration limit.
    let stored = select(0u, min(4u, max(params.rows, row) - row), at.lane % COL_LANES == 0u);
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
