//! What a step writes on its way, allocated once for the largest step.

use super::arrange::Columns;
use super::weights::pad;
use super::{ModelConfig, ModelError};
use crate::gpu::{Gpu, Tensor};
use crate::kernels::{FEW_ROWS, Lanes, MAX_ROWS, PAGE, SAMPLING_WORDS, tile_bound};

/// Room for `rows` rows, of which `outputs` have logits, of `sequences` sequences of up to `context` tokens.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub rows: usize,
    pub outputs: usize,
    pub sequences: usize,
    pub context: usize,
    /// Every step goes the few rows' way.
    pub deterministic: bool,
}

/// Columns are padded to whole blocks with zeros that no kernel overwrites.
pub struct Activations {
    /// Live rows and outputs, for kernels over rows and for those over outputs.
    pub step: Tensor,
    pub head_step: Tensor,
    /// `[MAX_ROWS]` of [`crate::kernels::BatchRow`]
    pub batch: Tensor,
    /// `[outputs]`: row of each output
    pub listed: Tensor,
    /// `[sequences, SAMPLING_WORDS]`
    pub sampling: Tensor,
    /// `[sequences]`
    pub sampled: Tensor,
    /// `[sequences, pages]`
    pub page_table: Tensor,
    /// cos and sin, `[context, rope]`
    pub rotary: Tensor,
    /// The residual, `[rows, hidden]`: attention takes it from the first to the second, the FFN back.
    pub x: [Tensor; 2],
    /// The residual after routed experts, where a shared FFN by itself follows.
    pub routed: Tensor,
    /// The residual normalised, for many rows; with few a place for sums on their way.
    pub normed: Tensor,
    /// What the first projection gives, as `Columns` says.
    pub inward: Tensor,
    /// The queries' latent, normalised, for many rows.
    pub q_a_normed: Tensor,
    /// Queries of a model with a latent for them.
    pub q: Tensor,
    /// Queries in the latent space, `[rows, heads, query]`
    pub query: Tensor,
    /// `[rows, heads, head's latent]`
    pub zeta: Tensor,
    /// With few rows attention's parts, `[few rows, splits, heads, head's latent]`, and what weighs them.
    pub zeta_parts: Tensor,
    pub zeta_stats: Tensor,
    /// `[rows, heads * v]`
    pub o: Tensor,
    /// `[rows, 1, intermediate]`
    pub dense_h: Tensor,
    pub shared_h: Tensor,
    pub router_logits: Tensor,
    /// `[rows, slots]`: top_k and the experts that every row takes
    pub chosen: Tensor,
    pub chosen_weights: Tensor,
    /// `[rows, slots, width]`
    pub expert_h: Tensor,
    /// `[rows, slots, hidden]`
    pub expert_y: Tensor,
    pub order: Tensor,
    pub tiles: Tensor,
    pub output_normed: Tensor,
    /// `[outputs, vocab]`
    pub logits: Tensor,
}

impl Activations {
    pub fn new(gpu: &Gpu, config: &ModelConfig, room: Room) -> Result<Self, ModelError> {
        let Room { rows, outputs, sequences, context, .. } = room;
        let (hidden, heads) = (pad(config.hidden), config.heads);
        let columns = Columns::of(config);
        let (experts, slots, width, shared) = match &config.moe {
            // At most as many experts as a shared FFN can be cut into.
            Some(moe) => {
                let cut = moe.shared_experts();
                (moe.experts + cut, moe.top_k + cut, pad(moe.width), pad(moe.shared_width.max(1)))
            }
            None => (1, 1, 32, 32),
        };
        let dense = (0..config.layers).any(|layer| !config.is_moe(layer));
        let intermediate = if dense { pad(config.intermediate) } else { 32 };
        let z = |what: &str, shape: &[usize]| gpu.activation(what, shape);
        let u = |what: &str, shape: &[usize]| gpu.zeros_u32(what, shape);
        // A head's values that are not made of quads go to a buffer, number by number.
        let o_cols = pad(heads * config.v_dim);
        let o = if config.v_dim.is_multiple_of(4) { z("o", &[rows, o_cols])? } else { gpu.zeros("o", &[rows, o_cols])? };
        // Any number of rows may go the few rows' way.
        let (few, splits) = (if room.deterministic { rows } else { rows.min(FEW_ROWS) }, Lanes::of(gpu).splits());
        let q_cols = config.q_lora_rank.map_or(4, |_| columns.q);
        let [chosen, chosen_weights] = choices(gpu, config, rows, slots)?;
        Ok(Self {
            step: gpu.uniform("step", 4)?,
            head_step: gpu.uniform("head_step", 4)?,
            batch: gpu.uniform("batch", 4 * MAX_ROWS)?,
            listed: u("listed", &[outputs])?,
            sampling: u("sampling", &[sequences, SAMPLING_WORDS])?,
            sampled: u("sampled", &[sequences])?,
            page_table: u("page_table", &[sequences, context.div_ceil(PAGE)])?,
            rotary: gpu.activation_of("rotary", &[context, columns.rope], &config.rotary.table(context, columns.rope))?,
            x: [z("x", &[rows, hidden])?, z("x", &[rows, hidden])?],
            routed: z("routed", &[rows, hidden])?,
            normed: z("normed", &[rows, hidden])?,
            inward: z("inward", &[rows, columns.inward])?,
            q_a_normed: z("q_a_normed", &[rows, pad(config.q_lora_rank.unwrap_or(1))])?,
            q: z("q", &[rows, q_cols])?,
            query: z("query", &[rows, heads, columns.query])?,
            zeta: z("zeta", &[rows, heads, columns.head_latent])?,
            zeta_parts: z("zeta_parts", &[few, splits, heads, columns.head_latent])?,
            zeta_stats: z("zeta_stats", &[few, splits, heads, 4])?,
            o,
            dense_h: z("dense_h", &[rows, 1, intermediate])?,
            shared_h: z("shared_h", &[rows, 1, shared])?,
            router_logits: gpu.zeros("router_logits", &[rows, experts])?,
            chosen,
            chosen_weights,
            expert_h: z("expert_h", &[rows, slots, width])?,
            expert_y: z("expert_y", &[rows, slots, hidden])?,
            order: u("order", &[rows * slots])?,
            tiles: u("tiles", &[tile_bound(rows * slots, experts).max(1), 4])?,
            output_normed: z("output_normed", &[outputs, hidden])?,
            logits: gpu.zeros("logits", &[outputs, config.vocab_size])?,
        })
    }
}

/// What a layer's router writes: ids and weights of `[rows, slots]`. Where there is none, every expert with weight 1, for good.
pub fn choices(gpu: &Gpu, config: &ModelConfig, rows: usize, slots: usize) -> Result<[Tensor; 2], ModelError> {
    let (shape, has_router) = ([rows, slots], config.moe.as_ref().is_none_or(|moe| moe.router.is_some()));
    let (chosen, weights) = (gpu.zeros_u32("chosen", &shape)?, gpu.zeros("chosen_weights", &shape)?);
    if !has_router {
        let every: Vec<u32> = (0..rows).flat_map(|_| 0..slots as u32).collect();
        gpu.write(&chosen, 0, bytemuck::cast_slice(&every));
        gpu.write(&weights, 0, bytemuck::cast_slice(&vec![1f32; rows * slots]));
    }
    Ok([chosen, weights])
}
