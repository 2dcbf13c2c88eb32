// y[row, i] = x[source row, i] / rms(x[source row]) * weight[i]
//
// One workgroup per row; each lane owns every WORKGROUP_SIZE-th quad. Columns beyond `dim` are zeros.

struct Params {
    stride: u32,        // columns as stored, in vec4
    dim: u32,           // the norm's own columns
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;            // [rows, stride]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;       // [stride]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;      // [rows, stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn rms_norm(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let source = source_row(group.x) * params.stride;

    var squares = vec4<f32>(0.0);
    for (var i = at.lane; i < params.stride; i += WORKGROUP_SIZE) {
        let v = x[source + i];
        squares += v * v;
    }
    squares = columns_sum4(squares, at);
    let mean_square = ((squares.x + squares.y) + (squares.z + squares.w)) / f32(params.dim);
    let scale = inverseSqrt(mean_square + params.eps);

    for (var i = at.lane; i < params.stride; i += WORKGROUP_SIZE) {
        y[group.x * params.stride + i] = x[source + i] * scale * weight[i];
    }
}
