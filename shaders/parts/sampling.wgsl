// A sequence's sampling settings and the order of logits.

// As Rust lays out in `Sampling::gpu_row`.
struct Sampling {
    temperature: f32,   // 0: the largest logit
    top_k: u32,         // 0: all
    top_p: f32,         // 1: all
    min_p: f32,         // 0: all
    seed_low: u32,
    seed_high: u32,
    tokens: u32,        // ids that the tokenizer knows; rows beyond are never sampled
    unused: u32,
}

// A whole number that orders as the logit does; NaN comes last.
fn order_key(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return 0u;
    }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}
