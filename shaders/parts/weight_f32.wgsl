// Weights as f32.
@group(0) @binding(8) var<storage, read> weight: array<vec4<f32>>;   // [rows, cols / 4]

fn load_block(row: u32, block: u32) -> Block {
    let at = row * (params.cols / 4u) + block * 8u;
    return Block(weight[at], weight[at + 1u], weight[at + 2u], weight[at + 3u],
                 weight[at + 4u], weight[at + 5u], weight[at + 6u], weight[at + 7u]);
}
