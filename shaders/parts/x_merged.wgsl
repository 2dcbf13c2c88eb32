// x as attention left it, in SPLITS parts that each saw a part of a row's past: weighed by their shares of the softmax.
@group(0) @binding(13) var<storage, read> stats: array<vec2<f32>>;       // [rows, SPLITS, heads]: largest score, total

var<private> merge: array<f32, SPLITS>;

fn begin_x(token: u32, head: u32) {
    let heads = params.x_split / params.x_head_stride;
    let at = token * SPLITS * heads + head;
    var largest = stats[at].x;
    for (var s = 1u; s < SPLITS; s += 1u) {
        largest = max(largest, stats[at + s * heads].x);
    }
    var total = 0.0;
    for (var s = 0u; s < SPLITS; s += 1u) {
        let part = stats[at + s * heads];
        merge[s] = exp(part.x - largest);
        total += part.y * merge[s];
    }
    for (var s = 0u; s < SPLITS; s += 1u) {
        merge[s] /= total;
    }
}

fn x_at(at: u32) -> vec4<f32> {
    var sum = part_at(at) * merge[0];
    for (var s = 1u; s < SPLITS; s += 1u) {
        sum = fma(part_at(at + s * params.x_split), vec4<f32>(merge[s]), sum);
    }
    return sum;
}
