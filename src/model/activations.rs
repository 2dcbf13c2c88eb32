//! What a step writes on its way, allocated once for the largest step.

use super::weights::{pad, q_rope_begin};
use super::{ModelConfig, ModelError};
use crate::gpu::{Gpu, Tensor};
use crate::kernels::{PAGE, SAMPLING_WORDS, tile_bound};

/// Room for `rows` rows, of which `outputs` have logits, of `sequences` sequences of up to `context` tokens.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub rows: usize,
    pub outputs: usize,
    pub sequences: usize,
    pub context: usize,
}

/// Columns are padded to whole blocks with zeros that no kernel overwrites.
pub struct Activations {
    /// Live rows and outputs, for kernels over rows and for those over outputs.
    pub step: Tensor,
    pub head_step: Tensor,
    /// `[rows, 4]`: token, position, sequence, whether the token is the sequence's last sampled one
    pub batch: Tensor,
    /// `[outputs]`: row of each output
    pub listed: Tensor,
    /// `[sequences, SAMPLING_WORDS]`
    pub sampling: Tensor,
    /// `[sequences]`
    pub sampled: Tensor,
    /// `[sequences, pages]`
    pub page_table: Tensor,
    /// `[context, rope / 2, 2]`: cos, sin
    pub rotary: Tensor,
    /// The residual, `[rows, hidden]`
    pub x: Tensor,
    pub normed: Tensor,
    pub q_a: Tensor,
    pub q_a_normed: Tensor,
    /// `[rows, heads * nope, then heads * rope_cols]`
    pub q: Tensor,
    /// Numbers from head to head of q's rotary part.
    pub rope_cols: usize,
    /// `[rows, latent + rope]`
    pub kv_a: Tensor,
    /// `[rows, heads, latent]`
    pub alpha: Tensor,
    pub zeta: Tensor,
    /// `[rows, heads * v]`
    pub o: Tensor,
    /// `[rows, 1, intermediate]`
    pub dense_h: Tensor,
    pub shared_h: Tensor,
    pub router_logits: Tensor,
    /// `[rows, top_k]`
    pub chosen: Tensor,
    pub chosen_weights: Tensor,
    /// `[rows, top_k, width]`
    pub expert_h: Tensor,
    /// `[rows, top_k, hidden]`
    pub expert_y: Tensor,
    pub order: Tensor,
    pub tiles: Tensor,
    pub output_normed: Tensor,
    /// `[outputs, vocab]`
    pub logits: Tensor,
}

impl Activations {
    pub fn new(gpu: &Gpu, config: &ModelConfig, room: Room) -> Result<Self, ModelError> {
        let Room { rows, outputs, sequences, context } = room;
        let (hidden, heads, latent) = (pad(config.hidden), config.heads, pad(config.kv_lora_rank));
        let rope_cols = pad(config.rope);
        let q_a = pad(config.q_lora_rank.unwrap_or(1));
        let (experts, top_k, width, shared) = match &config.moe {
            Some(moe) => (moe.experts, moe.top_k, pad(moe.width), pad(moe.shared_width.max(1))),
            None => (1, 1, 32, 32),
        };
        let dense = (0..config.layers).any(|layer| !config.is_moe(layer));
        let intermediate = if dense { pad(config.intermediate) } else { 32 };
        let slots = rows * top_k;
        let z = |what: &str, shape: &[usize]| gpu.zeros(what, shape);
        let u = |what: &str, shape: &[usize]| gpu.zeros_u32(what, shape);
        Ok(Self {
            step: gpu.uniform("step", 4)?,
            head_step: gpu.uniform("head_step", 4)?,
            batch: u("batch", &[rows, 4])?,
            listed: u("listed", &[outputs])?,
            sampling: u("sampling", &[sequences, SAMPLING_WORDS])?,
            sampled: u("sampled", &[sequences])?,
            page_table: u("page_table", &[sequences, context.div_ceil(PAGE)])?,
            rotary: gpu.tensor("rotary", &[context, config.rope / 2, 2], &config.rotary.table(context))?,
            x: z("x", &[rows, hidden])?,
            normed: z("normed", &[rows, hidden])?,
            q_a: z("q_a", &[rows, q_a])?,
            q_a_normed: z("q_a_normed", &[rows, q_a])?,
            q: z("q", &[rows, q_rope_begin(config) + heads * rope_cols])?,
            rope_cols,
            kv_a: z("kv_a", &[rows, latent + rope_cols])?,
            alpha: z("alpha", &[rows, heads, latent])?,
            zeta: z("zeta", &[rows, heads, latent])?,
            o: z("o", &[rows, pad(heads * config.v_dim)])?,
            dense_h: z("dense_h", &[rows, 1, intermediate])?,
            shared_h: z("shared_h", &[rows, 1, shared])?,
            router_logits: z("router_logits", &[rows, experts])?,
            chosen: u("chosen", &[rows, top_k])?,
            chosen_weights: z("chosen_weights", &[rows, top_k])?,
            expert_h: z("expert_h", &[rows, top_k, width])?,
            expert_y: z("expert_y", &[rows, top_k, hidden])?,
            order: u("order", &[slots])?,
            tiles: u("tiles", &[tile_bound(slots, experts).max(1), 4])?,
            output_normed: z("output_normed", &[outputs, hidden])?,
            logits: z("logits", &[outputs, config.vocab_size])?,
        })
    }
}
