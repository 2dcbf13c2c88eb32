//! One step of the model, in the paper's order, for any mix of rows (DEEPSEEK.md §3.1, §4.1).
//!
//! With few rows a sublayer's norm happens where its input is read; many rows are normalised first.

use super::activations::Activations;
use super::arrange::Columns;
use super::weights::{Attention, Ffn, Mlp, Moe, Router, Weights};
use super::{Cache, ModelConfig, Trace, Watch};
use crate::gpu::{Recorder, Tensor};
use crate::kernels::*;

/// What a step works on.
pub struct Step<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Weights,
    pub cache: &'a Cache,
    pub s: &'a Activations,
    pub trace: Option<&'a Trace>,
    pub watch: Option<&'a Watch>,
    /// Rows that are fed.
    pub rows: Rows,
    /// Rows whose logits are wanted.
    pub outputs: Option<Rows>,
}

/// Weights of a router up to this size go through one workgroup a row, logits and choice in one.
const MAX_GATE_NUMBERS: usize = 1 << 18;

impl Step<'_> {
    /// Embeds the rows, runs every layer, and samples where logits are wanted.
    pub fn record(&self, r: &mut Recorder) {
        let Step { config, weights, s, rows, .. } = self;
        let [x, x_mid] = &s.x;
        r.at("embed");
        r.run(Embed { table: &weights.embed_tokens, batch: &s.batch, sampled: &s.sampled, x, rows });
        self.keep_hidden(r, 0);
        for (i, layer) in weights.layers.iter().enumerate() {
            r.at(format!("layer {i}"));
            let normed = self.norm_hidden(r, x, &layer.input_layernorm);
            self.attention(r, normed, &layer.attention, &self.cache.layers[i]);
            let normed = self.norm_hidden(r, x_mid, &layer.post_attention_layernorm);
            match &layer.ffn {
                Ffn::Dense(mlp) => self.mlp(r, normed, mlp, &s.dense_h, x_mid),
                Ffn::Moe(moe) => self.moe(r, normed, moe, i),
            }
            self.keep_hidden(r, i + 1);
        }
        if let Some(outputs) = &self.outputs {
            r.at("head");
            let (y, listed) = (&s.output_normed, Some(&s.listed));
            r.run(RmsNorm { x, weight: &weights.norm, y, listed, count: outputs.count, dim: config.hidden, eps: config.rms_eps });
            r.run(Linear::plain(y, weights.head(), &s.logits, outputs));
            let (logits, sampling, batch, sampled) = (&s.logits, &s.sampling, &s.batch, &s.sampled);
            let (listed, count) = (&s.listed, outputs.count);
            r.run(Sample { logits, sampling, listed, batch, sampled, outputs: count, rows: outputs });
            if let Some(Watch { ids, shares, .. }) = self.watch {
                r.run(TopCandidates { logits, sampling, listed, batch, sampled, ids, shares, outputs: count, rows: outputs });
            }
        }
    }

    /// A sublayer's input: RMS(x).
    fn norm_hidden<'a>(&'a self, r: &mut Recorder, x: &'a Tensor, gain: &'a Tensor) -> Input<'a> {
        self.norm(r, x, Norm { gain, dim: self.config.hidden, eps: self.config.rms_eps }, &self.s.normed)
    }

    /// RMS(x), on the way or at once in `y`.
    fn norm<'a>(&self, r: &mut Recorder, x: &'a Tensor, norm: Norm<'a>, y: &'a Tensor) -> Input<'a> {
        if self.rows.few {
            return Input { x, norm: Some(norm) };
        }
        let Norm { gain, dim, eps } = norm;
        r.run(RmsNorm { x, weight: gain, y, listed: None, count: self.rows.count, dim, eps });
        Input { x: y, norm: None }
    }

    /// x_mid = x + W_o · BV · softmax(scale · [BKᵀ q_nope ; rope(q_rope)] · [latent ; k_rope]) latent
    fn attention(&self, r: &mut Recorder, input: Input, w: &Attention, cache: &LatentCache) {
        let Step { config, weights, s, rows, .. } = self;
        let columns = Columns::of(config);
        let quads = Some(&weights.inward_quads);
        r.run(Linear {
            norm: input.norm,
            columns: quads,
            bias: w.inward_bias.as_ref(),
            ..Linear::plain(input.x, &w.inward, &s.inward, rows)
        });
        let q = match &w.q_lora {
            None => &s.inward,
            Some(lora) => {
                let norm = Norm { gain: &lora.q_a_layernorm, dim: config.q_lora_rank.unwrap_or(0), eps: config.lora_eps };
                let Input { x, norm } = self.norm(r, &s.inward, norm, &s.q_a_normed);
                let columns = Some(&weights.q_quads);
                r.run(Linear { norm, columns, ..Linear::plain(x, &lora.q_b_proj, &s.q, rows) });
                &s.q
            }
        };
        r.run(MlaEnter {
            x: q,
            x_rope_begin: columns.q_rope_begin(config),
            absorption: w.kv_b_key.as_ref().map(|weight| Absorption { weight, head_stride: columns.nope }),
            u: &s.inward,
            u_begin: columns.entry_begin,
            gain: &w.kv_a_layernorm,
            rotary: &s.rotary,
            batch: &s.batch,
            y: &s.query,
            cache,
            latent_dim: config.kv_lora_rank,
            eps: config.lora_eps,
            rows,
        });
        // With few rows the past is split among workgroups, and what reads their sums merges them.
        let (zeta, stats) = if rows.few { (&s.zeta_parts, Some(&s.zeta_stats)) } else { (&s.zeta, None) };
        r.run(MlaAttention {
            x: &s.query,
            cache,
            page_table: &s.page_table,
            batch: &s.batch,
            zeta,
            stats,
            scale: config.softmax_scale,
            groups: config.groups,
            rows,
        });
        let (o, merge) = match &w.kv_b_value {
            // A head's latent is its value.
            None => (zeta, stats),
            Some(weight) => {
                r.run(Linear { heads: config.heads, merge: stats, ..Linear::plain(zeta, weight, &s.o, rows) });
                (&s.o, None)
            }
        };
        let [x, x_mid] = &s.x;
        r.run(Linear { base: Some(x), merge, bias: w.o_bias.as_ref(), ..Linear::plain(o, &w.o_proj, x_mid, rows) });
    }

    /// x = base + W_down (silu(W_gate normed) ⊙ W_up normed)
    fn mlp(&self, r: &mut Recorder, input: Input, w: &Mlp, h: &Tensor, base: &Tensor) {
        let Step { s, rows, .. } = self;
        r.run(FfnUp { x: input.x, norm: input.norm, weight: &w.gate_up, h, width: w.width, slots: Slots::Single, rows });
        r.run(Linear { base: Some(base), ..Linear::plain(h, &w.down, &s.x[0], rows) });
    }

    /// x = x_mid + Σ_chosen weight · MLP_expert(normed) + MLP_shared(normed)
    fn moe(&self, r: &mut Recorder, input: Input, w: &Moe, layer: usize) {
        let Step { config, s, rows, .. } = self;
        let Some(moe) = &config.moe else { return };
        let slots = moe.top_k + w.shared_experts;
        let all_experts = moe.experts + w.shared_experts;
        let (chosen, weights) = self.watch.and_then(|watch| watch.routing(layer)).unwrap_or((&s.chosen, &s.chosen_weights));
        let [chosen, weights] = [chosen, weights].map(|all| all.view(&[all.shape[0], slots]));
        let [h, expert_y] = [&s.expert_h, &s.expert_y].map(|all| all.view(&[all.shape[0], slots, all.shape[2]]));
        if let Some(router) = &w.router {
            self.route(r, input, router, w.shared_experts, [&chosen, &weights]);
        }
        self.keep_router(r, layer, &chosen, &weights);

        // A shared FFN by itself adds to what the routed experts leave on the second residual's other side.
        let [x, x_mid] = &s.x;
        let routed = if w.shared.is_some() { &s.routed } else { x };
        let (experts, width) = (&w.experts, moe.width);
        let (slots, y) = match rows.few {
            true => (Slots::Routed(&chosen), routed),
            false => {
                r.run(MoeSort { chosen: &chosen, order: &s.order, tiles: &s.tiles, experts: all_experts, rows });
                (Slots::Sorted(&s.tiles, &s.order), &expert_y)
            }
        };
        r.run(FfnUp { x: input.x, norm: input.norm, weight: &experts.gate_up, h: &h, width, slots, rows });
        let (base, scratch, out) = (x_mid, &s.normed, config.hidden);
        r.run(FfnDown { h: &h, weight: &experts.down, weights: &weights, base, scratch, y, out, slots, rows });
        if !rows.few {
            r.run(MoeCombine { x: &expert_y, weights: &weights, base, y: routed, rows });
        }
        if let Some(shared) = &w.shared {
            self.mlp(r, input, shared, &s.shared_h, routed);
        }
    }

    /// chosen, weights = top-k of softmax or σ(W_g normed)
    fn route(&self, r: &mut Recorder, input: Input, w: &Router, shared_experts: usize, [chosen, weights]: [&Tensor; 2]) {
        let Step { s, rows, .. } = self;
        let logits = s.router_logits.view(&[s.router_logits.shape[0], w.gate.rows]);
        let router = match input.norm {
            Some(norm) if w.gate.slabs.len() == 1 && w.gate.rows * w.gate.cols <= MAX_GATE_NUMBERS => {
                RouterInput::Gate { x: input.x, norm, weight: &w.gate }
            }
            norm => {
                r.run(Linear { norm, exact: true, ..Linear::plain(input.x, &w.gate, &logits, rows) });
                RouterInput::Logits(&logits)
            }
        };
        let (correction, settings) = (&w.correction, w.settings);
        r.run(MoeRoute { input: router, correction, chosen, weights, shared_experts, settings, rows });
    }

    fn keep_hidden(&self, r: &mut Recorder, index: usize) {
        if let Some(trace) = self.trace {
            r.run(Copy { from: &self.s.x[0], to: &trace.hidden, begin: index * self.s.x[0].len() });
        }
    }

    fn keep_router(&self, r: &mut Recorder, layer: usize, chosen: &Tensor, weights: &Tensor) {
        if let Some(trace) = self.trace {
            r.run(Copy { from: chosen, to: &trace.chosen, begin: layer * chosen.shape[0] * trace.slots });
            r.run(Copy { from: weights, to: &trace.weights, begin: layer * chosen.shape[0] * trace.slots });
        }
    }
}

/// What a sublayer reads, and how it is normalised on the way.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: &'a Tensor,
    norm: Option<Norm<'a>>,
}
