// Each lane sums whole rows by itself, COL_LANES is 1, and knows nothing of the others: no barrier, no subgroup.

struct Invocation {
    @builtin(local_invocation_index) lane: u32,
}

fn columns_sum4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    return value;
}
