// No scale goes with these weights.
fn block_scale(row: vec2<u32>, block: u32) -> vec2<f32> {
    return vec2<f32>(1.0, 0.0);
}

fn scaled_dot(row: vec2<u32>, scale: vec2<f32>, block: u32, x: Block, total: f32) -> f32 {
    return block_dot(load_block(row, block), x);
}
