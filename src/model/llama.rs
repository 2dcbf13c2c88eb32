//! Llama-architecture GGUF files read as MLA + MoE, exactly: a group's values become its heads' latent, its keys their rotary key
//! (grouped latents: Zadouri et al. 2025, "Hardware-Efficient Attention for Fast Decoding", §3), and the FFN's neurons are cut into
//! experts that every row takes.
//!
//! A head's values are the latent itself, so nothing brings its sum out of the latent space. The latent's norm must not change
//! them: one more latent entry holds a constant B far larger than any value, so the norm divides by B / sqrt(C), and its weight
//! multiplies by that again (0 for the constant).

use super::config::{MoeConfig, SourceLayout};
use super::{ModelConfig, ModelError, Rotary};
use crate::checkpoint::{Checkpoint, GgufMetadata, vector};
use crate::kernels::BLOCK_COLS;

/// What the latent's constant entry holds before its norm.
pub const CONSTANT: f32 = 65536.0;

/// Routed experts that an FFN is cut into.
const EXPERTS: usize = 8;

/// Widths of the shared expert and of each routed one, for an FFN of `width` neurons: about a third stays shared.
fn cut(width: usize) -> Option<(usize, usize)> {
    let routed = width / (EXPERTS * 3 / 2) / BLOCK_COLS * BLOCK_COLS;
    (routed > 0 && width.is_multiple_of(BLOCK_COLS)).then(|| (width - EXPERTS * routed, routed))
}

/// Reads a GGUF's metadata.
pub fn config(metadata: &GgufMetadata, checkpoint: &Checkpoint) -> Result<ModelConfig, ModelError> {
    let wrong = |field: &str, expected: &str, found: String| ModelError::Config { field: field.into(), expected: expected.into(), found };
    let architecture = metadata.require("general.architecture", GgufMetadata::str)?;
    if architecture != "llama" {
        return Err(wrong("general.architecture", "\"llama\" (DeepSeek models load from safetensors)", format!("{architecture:?}")));
    }
    let count = |key: &str, most: u32| {
        let value = metadata.require(key, GgufMetadata::u32)?;
        if value == 0 || value > most {
            return Err(wrong(key, &format!("from 1 to {most}"), value.to_string()));
        }
        Ok(value as usize)
    };
    if let Some(experts) = metadata.u32("llama.expert_count")?.filter(|&experts| experts > 0) {
        return Err(wrong("llama.expert_count", "a dense model", experts.to_string()));
    }
    if let Some(kind) = metadata.str("llama.rope.scaling.type")?.filter(|&kind| kind != "none") {
        return Err(wrong("llama.rope.scaling.type", "none", format!("{kind:?}")));
    }
    let hidden = count("llama.embedding_length", 1 << 20)?;
    let layers = count("llama.block_count", 4096)?;
    let heads = count("llama.attention.head_count", 4096)?;
    let groups = match metadata.u32("llama.attention.head_count_kv")? {
        Some(_) => count("llama.attention.head_count_kv", 4096)?,
        None => heads,
    };
    if !heads.is_multiple_of(groups) {
        return Err(wrong("llama.attention.head_count_kv", &format!("a divisor of {heads} heads"), groups.to_string()));
    }
    let head_dim = match metadata.u32("llama.attention.key_length")? {
        Some(_) => count("llama.attention.key_length", 4096)?,
        None => hidden / heads,
    };
    let rotated = metadata.u32("llama.rope.dimension_count")?.map_or(head_dim, |n| n as usize);
    if rotated != head_dim || !head_dim.is_multiple_of(2) {
        return Err(wrong("llama.rope.dimension_count", &format!("the head's {head_dim} numbers, even"), rotated.to_string()));
    }
    let theta = f64::from(metadata.f32("llama.rope.freq_base")?.unwrap_or(10000.0));
    // Some files divide each pair's frequency by a factor of its own.
    let factors = match checkpoint.tensor("rope_freqs.weight") {
        Some(_) => vector(checkpoint, "rope_freqs.weight", head_dim / 2)?,
        None => vec![1.0; head_dim / 2],
    };
    let frequency = |pair: usize| (theta.powf(-2.0 * pair as f64 / head_dim as f64) / f64::from(factors[pair])) as f32;
    let frequencies: Vec<f32> = (0..head_dim / 2).map(frequency).collect();
    let intermediate = count("llama.feed_forward_length", 1 << 20)?;
    let tokens = metadata.require("tokenizer.ggml.tokens", GgufMetadata::str_array)?.len();
    let vocab_size = metadata.u32("llama.vocab_size")?.map_or(tokens, |n| n as usize);
    if vocab_size == 0 || vocab_size > 1 << 24 {
        return Err(wrong("llama.vocab_size", "from 1 to 16777216", vocab_size.to_string()));
    }
    let moe = cut(intermediate).map(|(shared_width, width)| MoeConfig {
        experts: EXPERTS,
        top_k: EXPERTS,
        width,
        shared_width,
        first_dense: 0,
        freq: 1,
        router: None,
    });
    let eps = metadata.f32("llama.attention.layer_norm_rms_epsilon")?.filter(|eps| *eps > 0.0).unwrap_or(1e-5);
    let max_positions = count("llama.context_length", 1 << 26)?;
    Ok(ModelConfig {
        model_type: "llama".into(),
        vocab_size,
        hidden,
        layers,
        heads,
        q_lora_rank: None,
        kv_lora_rank: groups * head_dim + 1,
        nope: 0,
        rope: head_dim,
        groups,
        v_dim: head_dim,
        rotary: Rotary::given(frequencies),
        rope_interleave: true,
        softmax_scale: (head_dim as f32).powf(-0.5),
        attention_bias: false,
        mlp_bias: false,
        intermediate,
        moe,
        rms_eps: eps,
        lora_eps: 1e-6,
        tied: checkpoint.tensor("output.weight").is_none(),
        max_positions,
        bos: metadata.u32("tokenizer.ggml.bos_token_id")?,
        eos: metadata.u32("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
        source: SourceLayout::Llama,
    })
}
