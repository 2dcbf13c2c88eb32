@group(0) @binding(10) var<storage, read> bias: array<f32>;              // [rows]

// The bias of `count` rows from `row` on.
fn load_bias(row: u32, count: u32) -> vec4<f32> {
    if count == 0u {
        return vec4<f32>(0.0);
    }
    let last = row + count - 1u;
    return vec4<f32>(bias[row], bias[min(row + 1u, last)], bias[min(row + 2u, last)], bias[last]);
}
