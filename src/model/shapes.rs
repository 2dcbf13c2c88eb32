//! Named shapes: released models' dimensions and small slices of them, for benches without a checkpoint.

use super::ModelConfig;
use super::config::SourceLayout;
use serde_json::{Value, json};

impl ModelConfig {
    /// Names that [`ModelConfig::named_shape`] knows.
    pub const SHAPES: &'static [&'static str] = &["v2-lite", "moonlight", "v3-slice", "lite-slice", "small"];

    /// A shape by name.
    pub fn named_shape(name: &str) -> Option<Self> {
        let yarn = |scale: f64| {
            json!({"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": scale, "mscale_all_dim": scale,
                   "original_max_position_embeddings": 4096})
        };
        let lite = json!({
            "model_type": "deepseek_v2", "vocab_size": 102_400, "hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16,
            "q_lora_rank": null, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
            "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64, "num_experts_per_tok": 6,
            "n_shared_experts": 2, "first_k_dense_replace": 1, "topk_method": "greedy", "routed_scaling_factor": 1.0,
            "max_position_embeddings": 163_840, "rope_theta": 10000, "rope_scaling": yarn(0.707), "rms_norm_eps": 1e-6,
        });
        let change = |base: Value, changes: Value| match (base, changes) {
            (Value::Object(mut base), Value::Object(changes)) => {
                base.extend(changes);
                Value::Object(base)
            }
            (base, _) => base,
        };
        let config = match name {
            "v2-lite" => lite,
            "lite-slice" => change(lite, json!({"num_hidden_layers": 3, "vocab_size": 16384})),
            "small" => change(
                lite,
                json!({"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "kv_lora_rank": 128, "qk_nope_head_dim": 64,
                       "qk_rope_head_dim": 32, "v_head_dim": 64, "n_routed_experts": 16, "num_experts_per_tok": 4, "n_shared_experts": 1,
                       "moe_intermediate_size": 256, "intermediate_size": 1536, "vocab_size": 8192}),
            ),
            "moonlight" => change(
                lite,
                json!({"model_type": "deepseek_v3", "vocab_size": 163_840, "intermediate_size": 11264, "topk_method": "noaux_tc", "n_group": 1,
                       "topk_group": 1, "routed_scaling_factor": 2.446, "rope_theta": 50000, "rope_scaling": null, "rms_norm_eps": 1e-5,
                       "max_position_embeddings": 8192, "norm_topk_prob": true}),
            ),
            "v3-slice" => json!({
                "model_type": "deepseek_v3", "vocab_size": 129_280, "hidden_size": 7168, "num_hidden_layers": 4, "num_attention_heads": 128,
                "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
                "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8,
                "n_shared_experts": 1, "first_k_dense_replace": 3, "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5,
                "max_position_embeddings": 163_840, "rope_theta": 10000, "rope_scaling": yarn(1.0), "rms_norm_eps": 1e-6,
            }),
            _ => return None,
        };
        ModelConfig::from_json(&config).ok()
    }

    /// Parameters of the main model (DEEPSEEK.md §10.2's formulas).
    pub fn parameters(&self) -> u64 {
        let n = |size: usize| size as u64;
        let (d, heads, c) = (n(self.hidden), n(self.heads), n(self.kv_lora_rank));
        let q = heads * n(self.nope + self.rope);
        let query = self.q_lora_rank.map_or(d * q, |rank| n(rank) * (d + q));
        let attention = match self.source {
            SourceLayout::HuggingFace => d * (c + n(self.rope)) + c * heads * n(self.nope + self.v_dim),
            // Grouped values and keys, and no more.
            SourceLayout::Llama => d * n(self.groups * (self.v_dim + self.rope)),
        } + query
            + heads * n(self.v_dim) * d;
        let ffn = |layer: usize| match &self.moe {
            Some(moe) if self.is_moe(layer) => {
                let router = if moe.router.is_some() { n(moe.experts) * d } else { 0 };
                3 * d * (n(moe.experts) * n(moe.width) + n(moe.shared_width)) + router
            }
            _ => 3 * d * n(self.intermediate),
        };
        let layers: u64 = (0..self.layers).map(|layer| attention + ffn(layer) + 2 * d).sum();
        layers + n(self.vocab_size) * d * if self.tied { 1 } else { 2 }
    }
}
