// Sums and maxima over the whole workgroup by subgroup operations: COL_LANES is WORKGROUP_SIZE. Fewer barriers than sum_shared.

struct Invocation {
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
}

var<workgroup> partial: array<vec4<f32>, WORKGROUP_SIZE>;

fn columns_sum4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    let sum = subgroupAdd(value);
    workgroupBarrier();
    if at.subgroup_lane == 0u {
        partial[at.lane / at.subgroup_size] = sum;
    }
    workgroupBarrier();
    var total = partial[0];
    for (var i = 1u; i < (WORKGROUP_SIZE + at.subgroup_size - 1u) / at.subgroup_size; i += 1u) {
        total += partial[i];
    }
    return total;
}

fn columns_max4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    let largest = subgroupMax(value);
    workgroupBarrier();
    if at.subgroup_lane == 0u {
        partial[at.lane / at.subgroup_size] = largest;
    }
    workgroupBarrier();
    var result = partial[0];
    for (var i = 1u; i < (WORKGROUP_SIZE + at.subgroup_size - 1u) / at.subgroup_size; i += 1u) {
        result = max(result, partial[i]);
    }
    return result;
}

// The same over all lanes: COL_LANES is WORKGROUP_SIZE wherever this is asked for.
fn lanes_sum4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    return columns_sum4(value, at);
}

fn lanes_max4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    return columns_max4(value, at);
}
