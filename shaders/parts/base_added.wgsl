// The result is added to the residual.
fn load_base(at: u32, count: u32) -> vec4<f32> {
    return base_at(select(0u, at / 4u, count > 0u));
}
