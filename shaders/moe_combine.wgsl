// y[row] = base[row] + Σ_slot weight[row, slot] * x[row, slot]
//
// One workgroup row of lanes per row of the step; slots in ascending order.

struct Params {
    stride: u32,        // columns as stored, in vec4
    slots: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [rows, slots, stride]  2: base [rows, stride]  3: y [rows, stride]
@group(0) @binding(4) var<storage, read> weights: array<f32>;            // [rows, slots]
@group(0) @binding(5) var<uniform> step: vec4<u32>;                      // live rows first

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_combine(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let column = group.x * WORKGROUP_SIZE + lane;
    let is_here = column < params.stride && group.y < step.x;
    var sum = vec4<f32>(0.0);
    for (var k = 0u; k < select(0u, params.slots, is_here); k += 1u) {
        let slot = group.y * params.slots + k;
        sum = fma(x_at(slot * params.stride + column), vec4<f32>(weights[slot]), sum);
    }
    if is_here {
        let quad = group.y * params.stride + column;
        y_put(quad * 4u, base_at(quad) + sum, 4u);
    }
}
