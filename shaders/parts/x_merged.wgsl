// x as attention left it, in SPLITS parts that each saw a part of a row's past: weighed by their shares of the softmax.
//
// stats [rows, SPLITS, heads]: largest score and total of each. Heads lie one after another in a part.

// Where the quads of the head begin whose weights are at hand: of none at first.
var<private> merge_begin: u32 = 0x80000000u;
var<private> merge: array<f32, SPLITS>;

fn begin_merge(row: u32) {
    let heads = params.x_split / params.x_head_stride;
    merge_begin = row * params.x_head_stride;
    var parts = array<vec4<f32>, SPLITS>();
    var largest = -3e38;
    for (var s = 0u; s < SPLITS; s += 1u) {
        parts[s] = stats_at(row + s * heads);
        largest = max(largest, parts[s].x);
    }
    var total = 0.0;
    for (var s = 0u; s < SPLITS; s += 1u) {
        merge[s] = exp(parts[s].x - largest);
        total += parts[s].y * merge[s];
    }
    for (var s = 0u; s < SPLITS; s += 1u) {
        merge[s] /= total;
    }
}

fn x_at(at: u32) -> vec4<f32> {
    if at - merge_begin >= params.x_head_stride {
        begin_merge(at / params.x_head_stride);
    }
    var sum = part_at(at) * merge[0];
    for (var s = 1u; s < SPLITS; s += 1u) {
        sum = fma(part_at(at + s * params.x_split), vec4<f32>(merge[s]), sum);
    }
    return sum;
}
