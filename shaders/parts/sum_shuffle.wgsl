// Sums over COL_LANES neighbouring lanes by shuffles within a subgroup, which has at least as many lanes: no barriers.

struct Invocation {
    @builtin(local_invocation_index) lane: u32,
}

fn columns_sum4(value: vec4<f32>, at: Invocation) -> vec4<f32> {
    var sum = value;
    for (var half = COL_LANES / 2u; half > 0u; half /= 2u) {
        sum += subgroupShuffleXor(sum, half);
    }
    return sum;
}
