// y[row, i] = x[source row, i] / rms(x[source row]) * gain[i]
//
// One workgroup per row; each lane owns every WORKGROUP_SIZE-th quad. Columns beyond `dim` are zeros.

struct Params {
    x_stride: u32,      // from row to row of x, in vec4
    stride: u32,        // columns as stored, in vec4
    dim: u32,           // the norm's own columns
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [rows, x_stride]  2: gain [stride]  3: y [rows, stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn rms_norm(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let source = source_row(group.x) * params.x_stride;

    var squares = vec4<f32>(0.0);
    for (var i = at.lane; i < params.stride; i += WORKGROUP_SIZE) {
        let v = x_at(source + i);
        squares += v * v;
    }
    squares = lanes_sum4(squares, at);
    let mean_square = ((squares.x + squares.y) + (squares.z + squares.w)) / f32(params.dim);
    let scale = inverseSqrt(mean_square + params.eps);

    for (var i = at.lane; i < params.stride; i += WORKGROUP_SIZE) {
        y_put((group.x * params.stride + i) * 4u, x_at(source + i) * scale * gain_at(i), 4u);
    }
}
