// The rows of a step, as Rust's `BatchRow`.
struct BatchRow {
    token: u32,         // SAMPLED: the sequence's last sampled one
    position: u32,
    sequence: u32,
    entry: u32,         // its place in the latent cache
}

const SAMPLED = 0xffffffffu;

@group(0) @binding(12) var<uniform> batch: array<BatchRow, MAX_ROWS>;
