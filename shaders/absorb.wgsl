// y[row, head, j] = Σ_i weight[head, i, j] * q[row, head, i]: the query seen from the latent (DEEPSEEK.md §4.1).
//
// The key half of kv_b is read as it lies, down its columns: each lane owns a block of 32 latent columns.

struct Params {
    nope: u32,          // rows of a head
    cols: u32,          // latent columns as stored, a multiple of 32
    heads: u32,
    head_begin: u32,    // first head of this slab
    q_stride: u32,      // from row to row
    q_head_stride: u32, // from head to head
    blocks: u32,        // blocks of 32 columns in all heads of this slab
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;                  // [rows, q_stride]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;      // [rows, heads, cols / 4]

@compute @workgroup_size(WORKGROUP_SIZE)
fn absorb(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    // Lanes past the end repeat the last block and store nothing.
    let i = min(group.x * WORKGROUP_SIZE + lane, params.blocks - 1u);
    let head = i / (params.cols / 32u);
    let block = i % (params.cols / 32u);
    let begin = group.y * params.q_stride + (params.head_begin + head) * params.q_head_stride;
    var sum = Block();
    for (var n = 0u; n < params.nope; n += 1u) {
        let w = load_block(head * params.nope + n, block);
        let v = vec4<f32>(q[begin + n]);
        sum.a = fma(w.a, v, sum.a);
        sum.b = fma(w.b, v, sum.b);
        sum.c = fma(w.c, v, sum.c);
        sum.d = fma(w.d, v, sum.d);
        sum.e = fma(w.e, v, sum.e);
        sum.f = fma(w.f, v, sum.f);
        sum.g = fma(w.g, v, sum.g);
        sum.h = fma(w.h, v, sum.h);
    }
    if group.x * WORKGROUP_SIZE + lane >= params.blocks {
        return;
    }
    let at = (group.y * params.heads + params.head_begin + head) * (params.cols / 4u) + block * 8u;
    y[at] = sum.a;
    y[at + 1u] = sum.b;
    y[at + 2u] = sum.c;
    y[at + 3u] = sum.d;
    y[at + 4u] = sum.e;
    y[at + 5u] = sum.f;
    y[at + 6u] = sum.g;
    y[at + 7u] = sum.h;
}
