//! One step of the model, in the paper's order, for any mix of rows (DEEPSEEK.md §3.1, §4.1).

use super::activations::Activations;
use super::weights::{Attention, Ffn, Mlp, Moe, Query, Weights, q_rope_begin};
use super::{Cache, ModelConfig, Trace};
use crate::gpu::{Recorder, Tensor};
use crate::kernels::*;

/// What a step works on.
pub struct Step<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Weights,
    pub cache: &'a Cache,
    pub s: &'a Activations,
    pub trace: Option<&'a Trace>,
    /// Rows that are fed.
    pub rows: Rows,
    /// Rows whose logits are wanted.
    pub outputs: Option<Rows>,
}

impl Step<'_> {
    /// Embeds the rows, runs every layer, and samples where logits are wanted.
    pub fn record(&self, r: &mut Recorder) {
        let Step { config, weights, s, rows, .. } = self;
        r.at("embed");
        r.run(Embed { table: &weights.embed_tokens, batch: &s.batch, sampled: &s.sampled, x: &s.x, rows });
        self.keep_hidden(r, 0);
        for (i, layer) in weights.layers.iter().enumerate() {
            r.at(format!("layer {i}"));
            self.norm(r, &layer.input_layernorm);
            self.attention(r, &layer.attention, &self.cache.layers[i]);
            self.norm(r, &layer.post_attention_layernorm);
            match &layer.ffn {
                Ffn::Dense(mlp) => self.mlp(r, mlp, &s.dense_h),
                Ffn::Moe(moe) => self.moe(r, moe, i),
            }
            self.keep_hidden(r, i + 1);
        }
        if let Some(outputs) = &self.outputs {
            r.at("head");
            let (x, y, listed) = (&s.x, &s.output_normed, Some(&s.listed));
            r.run(RmsNorm { x, weight: &weights.norm, y, listed, count: outputs.count, dim: config.hidden, eps: config.rms_eps });
            r.run(linear(y, weights.head(), &s.logits, outputs));
            let (logits, sampling, batch, sampled) = (&s.logits, &s.sampling, &s.batch, &s.sampled);
            r.run(Sample { logits, sampling, listed: &s.listed, batch, sampled, outputs: outputs.count, rows: outputs });
        }
    }

    /// normed = RMS(x)
    fn norm(&self, r: &mut Recorder, weight: &Tensor) {
        let (x, y) = (&self.s.x, &self.s.normed);
        r.run(RmsNorm { x, weight, y, listed: None, count: self.rows.count, dim: self.config.hidden, eps: self.config.rms_eps });
    }

    /// x += W_o · BV · softmax(scale · (BKᵀ q_nope · latent + q_rope · k_rope)) latent
    fn attention(&self, r: &mut Recorder, w: &Attention, cache: &Tensor) {
        let Step { config, weights, s, rows, .. } = self;
        let heads = config.heads;
        let q_begin = q_rope_begin(config);
        let rope_stride = s.rope_cols;
        let columns = Some(&weights.q_columns);
        match &w.q {
            Query::Direct { q_proj } => r.run(Linear { columns, ..linear(&s.normed, q_proj, &s.q, rows) }),
            Query::Lora { q_a_proj, q_a_bias, q_a_layernorm, q_b_proj } => {
                r.run(Linear { bias: q_a_bias.as_ref(), ..linear(&s.normed, q_a_proj, &s.q_a, rows) });
                let dim = config.q_lora_rank.unwrap_or(0);
                let (x, y) = (&s.q_a, &s.q_a_normed);
                r.run(RmsNorm { x, weight: q_a_layernorm, y, listed: None, count: rows.count, dim, eps: config.lora_eps });
                r.run(Linear { columns, ..linear(y, q_b_proj, &s.q, rows) });
            }
        }
        r.run(Rope { batch: &s.batch, rotary: &s.rotary, q: &s.q, heads, begin: q_begin, head_stride: rope_stride, rows });

        let (columns, bias) = (Some(&weights.kv_a_columns), w.kv_a_bias.as_ref());
        r.run(Linear { columns, bias, ..linear(&s.normed, &w.kv_a_proj_with_mqa, &s.kv_a, rows) });
        r.run(LatentAppend {
            u: &s.kv_a,
            weight: &w.kv_a_layernorm,
            batch: &s.batch,
            page_table: &s.page_table,
            rotary: &s.rotary,
            cache,
            latent_dim: config.kv_lora_rank,
            eps: config.lora_eps,
            rows,
        });

        if let Some(weight) = &w.kv_b_key {
            r.run(Absorb { q: &s.q, weight, alpha: &s.alpha, heads, rows });
        }
        r.run(MlaAttention {
            alpha: &s.alpha,
            q: &s.q,
            q_begin,
            cache,
            page_table: &s.page_table,
            batch: &s.batch,
            zeta: &s.zeta,
            scale: config.softmax_scale,
            has_nope: w.kv_b_key.is_some(),
            rows,
        });
        r.run(Linear { heads, ..linear(&s.zeta, &w.kv_b_value, &s.o, rows) });
        r.run(Linear { add: true, bias: w.o_bias.as_ref(), ..linear(&s.o, &w.o_proj, &s.x, rows) });
    }

    /// x += W_down (silu(W_gate normed) ⊙ W_up normed)
    fn mlp(&self, r: &mut Recorder, w: &Mlp, h: &Tensor) {
        let Step { s, rows, .. } = self;
        r.run(FfnUp { x: &s.normed, weight: &w.gate_up, h, width: w.width, slots: Slots::Single, rows });
        r.run(Linear { add: true, ..linear(h, &w.down, &s.x, rows) });
    }

    /// x += Σ_chosen weight · MLP_expert(normed) + MLP_shared(normed)
    fn moe(&self, r: &mut Recorder, w: &Moe, layer: usize) {
        let Step { config, s, rows, .. } = self;
        let Some(moe) = &config.moe else { return };
        r.run(linear(&s.normed, &w.gate, &s.router_logits, rows));
        r.run(MoeRoute {
            logits: &s.router_logits,
            correction: &w.correction,
            chosen: &s.chosen,
            weights: &s.chosen_weights,
            scoring: moe.scoring,
            groups: moe.groups,
            top_groups: moe.top_groups,
            group_score: moe.group_score,
            normalise: moe.normalise,
            scaling: moe.scaling,
            rows,
        });
        self.keep_router(r, layer);
        let (h, weights, width) = (&s.expert_h, &s.chosen_weights, moe.width);
        if rows.few {
            let slots = Slots::Routed(&s.chosen);
            r.run(FfnUp { x: &s.normed, weight: &w.experts.gate_up, h, width, slots, rows });
            r.run(FfnDown { h, weight: &w.experts.down, weights, y: &s.x, out: config.hidden, slots, rows });
        } else {
            r.run(MoeSort { chosen: &s.chosen, order: &s.order, tiles: &s.tiles, experts: moe.experts, rows });
            let slots = Slots::Sorted(&s.tiles, &s.order);
            r.run(FfnUp { x: &s.normed, weight: &w.experts.gate_up, h, width, slots, rows });
            r.run(FfnDown { h, weight: &w.experts.down, weights, y: &s.expert_y, out: config.hidden, slots, rows });
            r.run(MoeCombine { x: &s.expert_y, weights, y: &s.x, rows });
        }
        if let Some(shared) = &w.shared {
            self.mlp(r, shared, &s.shared_h);
        }
    }

    fn keep_hidden(&self, r: &mut Recorder, index: usize) {
        if let Some(trace) = self.trace {
            r.run(Copy { from: &self.s.x, to: &trace.hidden, begin: index * self.s.x.len() });
        }
    }

    fn keep_router(&self, r: &mut Recorder, layer: usize) {
        if let Some(trace) = self.trace {
            r.run(Copy { from: &self.s.chosen, to: &trace.chosen, begin: layer * self.s.chosen.len() });
            r.run(Copy { from: &self.s.chosen_weights, to: &trace.weights, begin: layer * self.s.chosen_weights.len() });
        }
    }
}

/// y = weight · x
fn linear<'a>(x: &'a Tensor, weight: &'a Weight, y: &'a Tensor, rows: &'a Rows) -> Linear<'a> {
    Linear { x, weight, bias: None, columns: None, y, add: false, heads: 1, rows }
}
