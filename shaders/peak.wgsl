// y[i] = what v ← v · FACTOR + x[i] has come to after so many rounds of eight from v = x[i]: none is a copy, many are a device's
// arithmetic.

struct Params {
    quads: u32,
    rounds: u32,        // of eight steps, so that a loop's own work is little beside them
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x [quads]  2: y [quads]

const FACTOR = vec4<f32>(-0.75);

fn eight(v: vec4<f32>, x: vec4<f32>) -> vec4<f32> {
    let half = fma(fma(fma(fma(v, FACTOR, x), FACTOR, x), FACTOR, x), FACTOR, x);
    return fma(fma(fma(fma(half, FACTOR, x), FACTOR, x), FACTOR, x), FACTOR, x);
}

// A lane takes four quads, so that no sum waits for the one before.
@compute @workgroup_size(WORKGROUP_SIZE)
fn peak(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>,
        @builtin(num_workgroups) groups: vec3<u32>) {
    let at = min(vec4<u32>((group.y * groups.x + group.x) * 4u * WORKGROUP_SIZE + index) + vec4<u32>(0u, 1u, 2u, 3u) * WORKGROUP_SIZE, vec4<u32>(params.quads - 1u));
    let a = x_at(at.x);
    let b = x_at(at.y);
    let c = x_at(at.z);
    let d = x_at(at.w);
    var p = a;
    var q = b;
    var r = c;
    var s = d;
    for (var i = 0u; i < bound(params.rounds, group.x); i += 1u) {
        p = eight(p, a);
        q = eight(q, b);
        r = eight(r, c);
        s = eight(s, d);
    }
    y_put(at.x * 4u, p, 4u);
    y_put(at.y * 4u, q, 4u);
    y_put(at.z * 4u, r, 4u);
    y_put(at.w * 4u, s, 4u);
}
