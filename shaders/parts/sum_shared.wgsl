// Sums and maxima over COL_LANES neighbouring lanes by a tree in workgroup memory: core WebGPU alone.

struct Invocation {
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> partial: array<vec4<f32>, WORKGROUP_SIZE>;

fn columns_sum4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    // The barrier before writing lets a kernel reduce more than once.
    workgroupBarrier();
    partial[at.lane] = value;
    for (var half = COL_LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if at.lane % COL_LANES < half {
            partial[at.lane] += partial[at.lane + half];
        }
    }
    workgroupBarrier();
    return partial[at.lane - at.lane % COL_LANES];
}

fn columns_max4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    workgroupBarrier();
    partial[at.lane] = value;
    for (var half = COL_LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if at.lane % COL_LANES < half {
            partial[at.lane] = max(partial[at.lane], partial[at.lane + half]);
        }
    }
    workgroupBarrier();
    return partial[at.lane - at.lane % COL_LANES];
}

// The same over all lanes: COL_LANES is WORKGROUP_SIZE wherever this is asked for.
fn lanes_sum4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    return columns_sum4(value, at);
}

fn lanes_max4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    return columns_max4(value, at);
}
