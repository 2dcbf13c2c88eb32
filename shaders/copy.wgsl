// to[begin + i] = from[i]: keeps what later steps overwrite, for traces.

struct Params {
    len: u32,
    begin: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: source [len]
@group(0) @binding(2) var<storage, read_write> kept: array<u32>;         // [begin + len, or more]

@compute @workgroup_size(WORKGROUP_SIZE)
fn copy(@builtin(global_invocation_id) at: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = at.x; i < params.len; i += groups.x * WORKGROUP_SIZE) {
        kept[params.begin + i] = source_at(i);
    }
}
