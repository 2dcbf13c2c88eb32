// Each lane sums whole rows by itself, COL_LANES is 1; the workgroup is one subgroup of eight lanes or more.

struct Invocation {
    @builtin(local_invocation_index) lane: u32,
}

fn columns_sum4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    return value;
}

fn lanes_sum4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    return subgroupAdd(value);
}

fn lanes_max4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    return subgroupMax(value);
}
