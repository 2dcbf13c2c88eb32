@group(0) @binding(10) var<storage, read> bias: array<f32>;          // [rows]

fn load_bias(row: u32) -> f32 {
    return bias[row];
}
