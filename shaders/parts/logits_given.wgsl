// The router's logits are there already.
fn write_logits(row: u32, at: Invocation) {
    for (var e = at.lane; e < params.experts; e += WORKGROUP_SIZE) {
        scores[e] = bitcast<f32>(x_at(row * params.experts + e));
    }
}
