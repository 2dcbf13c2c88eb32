//! What a checkpoint's config says of the model's arithmetic (DEEPSEEK.md §2), checked once.

use super::arrange::Columns;
use super::fields::Fields;
use super::{ModelError, Rotary, llama};
use crate::checkpoint::{Checkpoint, check_quantization_config};
use crate::kernels::{CacheFormat, GroupScore, MAX_EXPERTS, RouterSettings, Scoring};
use serde_json::Value;

/// A model of the family: dimensions as the checkpoint has them, without padding.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    pub model_type: String,
    pub vocab_size: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    /// Width of the query's latent; none for a single `q_proj`.
    pub q_lora_rank: Option<usize>,
    pub kv_lora_rank: usize,
    /// Numbers of a head's query and key without rotation; may be 0.
    pub nope: usize,
    /// Rotary numbers of a head's query, and of a key.
    pub rope: usize,
    /// Groups of heads that share a rotary key; in MLA all heads are one.
    pub groups: usize,
    pub v_dim: usize,
    pub rotary: Rotary,
    /// Pairs are (2i, 2i + 1) as released, else (i, i + rope / 2).
    pub rope_interleave: bool,
    pub softmax_scale: f32,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    /// Width of dense layers' FFN.
    pub intermediate: usize,
    pub moe: Option<MoeConfig>,
    pub rms_eps: f32,
    /// Of `q_a_layernorm` and `kv_a_layernorm`, whatever `rms_norm_eps` says (DEEPSEEK.md §3.2).
    pub lora_eps: f32,
    pub tied: bool,
    pub max_positions: usize,
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
    /// How the checkpoint names and arranges its tensors.
    pub source: SourceLayout,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceLayout {
    HuggingFace,
    /// A Llama GGUF, read as MLA + MoE.
    Llama,
}

/// The routed part of MoE layers.
#[derive(Clone, Debug, PartialEq)]
pub struct MoeConfig {
    pub experts: usize,
    pub top_k: usize,
    /// Width of one routed expert.
    pub width: usize,
    /// Width of all shared experts together; 0 for none.
    pub shared_width: usize,
    pub first_dense: usize,
    pub freq: usize,
    /// None where every row takes every expert with weight 1.
    pub router: Option<RouterConfig>,
}

/// The router of MoE layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouterConfig {
    /// Scores get `e_score_correction_bias` for the choice.
    pub corrected: bool,
    pub settings: RouterSettings,
}

/// No dimension of any released model comes near this.
const MOST: usize = 1 << 20;

/// Fields of relatives whose arithmetic this engine does not have: allowed only when absent, null, false or 0.
const FOREIGN: &[(&str, &str)] = &[
    ("index_topk", "sparse attention with an indexer (DeepSeek-V3.2)"),
    ("hc_mult", "hyper-connections (DeepSeek-V4)"),
    ("compress_ratios", "compressed attention (DeepSeek-V4)"),
    ("o_lora_rank", "a grouped output projection (DeepSeek-V4)"),
    ("swiglu_limit", "clamped SwiGLU (DeepSeek-V4)"),
    ("num_hash_layers", "hash routing (DeepSeek-V4)"),
    ("sliding_window", "sliding window attention"),
    ("attn_logit_softcapping", "capped attention scores"),
    ("final_logit_softcapping", "capped logits"),
    ("use_qk_norm", "normalised queries and keys"),
    ("qk_layernorm", "normalised queries and keys"),
    ("mlp_layer_types", "layer kinds by list"),
];

impl ModelConfig {
    /// Reads the config of an opened checkpoint and, for Hugging Face directories, its `generation_config.json`.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        if let Some(metadata) = checkpoint.gguf() {
            return llama::config(metadata, checkpoint);
        }
        let Some(config) = checkpoint.config() else {
            return Err(ModelError::Config { field: "config.json".into(), expected: "a config".into(), found: "none".into() });
        };
        let mut model = Self::from_json(config)?;
        check_quantization_config(config)?;
        if let Some(bytes) = checkpoint.side_file("generation_config.json")? {
            let wrong = |error: serde_json::Error| ModelError::Config {
                field: "generation_config.json".into(),
                expected: "JSON".into(),
                found: error.to_string(),
            };
            let generation: Value = serde_json::from_slice(&bytes).map_err(wrong)?;
            let eos = Fields::within("generation_config", &generation)?.ids("eos_token_id")?;
            if !eos.is_empty() {
                model.eos = eos;
            }
        }
        Ok(model)
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// A field that is missing, of another type, out of bounds, or that asks for arithmetic this engine does not have.
    pub fn from_json(config: &Value) -> Result<Self, ModelError> {
        let f = Fields::top(config)?;
        let model_type = f.string("model_type")?.unwrap_or("").to_string();
        for (name, hint) in FOREIGN {
            let present = f.get(name).is_some_and(|v| !v.is_null() && v.as_bool() != Some(false) && v.as_f64() != Some(0.0));
            if present {
                return Err(f.unsupported(name, hint));
            }
        }
        if f.string("hidden_act")?.unwrap_or("silu") != "silu" {
            return Err(f.unsupported("hidden_act", "expected \"silu\""));
        }
        let family = Family::of(&f, &model_type)?;
        let v2 = family == Family::V2;
        let default = |name: &str, v2_value: usize, v3_value: usize| {
            Ok::<_, ModelError>(f.count(name, 1, MOST)?.unwrap_or(if v2 { v2_value } else { v3_value }))
        };
        let hidden = default("hidden_size", 4096, 7168)?;
        let layers = f.count("num_hidden_layers", 1, 4096)?.unwrap_or(if v2 { 32 } else { 61 });
        let heads = f.count("num_attention_heads", 1, 4096)?.unwrap_or(if v2 { 32 } else { 128 });
        // Absent is not null: an absent rank is 1536, null means a single q_proj.
        let q_lora_rank = if f.is_null("q_lora_rank") { None } else { Some(default("q_lora_rank", 1536, 1536)?) };
        let nope = f.count("qk_nope_head_dim", 0, 4096)?.unwrap_or(128);
        let rope = f.count("qk_rope_head_dim", 2, 4096)?.unwrap_or(64);
        if !rope.is_multiple_of(2) {
            return Err(f.wrong("qk_rope_head_dim", "an even number", rope.to_string()));
        }
        let max_positions = f.count("max_position_embeddings", 1, 1 << 26)?.unwrap_or(if v2 { 2048 } else { 4096 });
        let rotary = Rotary::from_config(&f, rope, max_positions)?;
        let softmax_scale = ((nope + rope) as f64).powf(-0.5) * rotary.scale_factor;
        Ok(Self {
            vocab_size: f.count("vocab_size", 1, 1 << 24)?.unwrap_or(if v2 { 102_400 } else { 129_280 }),
            hidden,
            layers,
            heads,
            q_lora_rank,
            kv_lora_rank: f.count("kv_lora_rank", 1, 8192)?.unwrap_or(512),
            nope,
            rope,
            groups: 1,
            v_dim: f.count("v_head_dim", 1, 4096)?.unwrap_or(128),
            rotary,
            rope_interleave: v2 || f.flag("rope_interleave")?.unwrap_or(true),
            softmax_scale: softmax_scale as f32,
            attention_bias: f.flag("attention_bias")?.unwrap_or(false),
            mlp_bias: v2 && f.flag("mlp_bias")?.unwrap_or(false),
            intermediate: default("intermediate_size", 11008, 18432)?,
            moe: MoeConfig::from_fields(&f, family)?,
            rms_eps: f.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            lora_eps: 1e-6,
            tied: f.flag("tie_word_embeddings")?.unwrap_or(false),
            max_positions,
            bos: f.ids("bos_token_id")?.first().copied(),
            eos: f.ids("eos_token_id")?,
            source: SourceLayout::HuggingFace,
            model_type,
        })
    }

    pub fn is_moe(&self, layer: usize) -> bool {
        self.moe.as_ref().is_some_and(|moe| layer >= moe.first_dense && layer.is_multiple_of(moe.freq))
    }

    /// Numbers that the latent cache keeps for a token in one layer, as stored: of latents and of rotary keys.
    pub fn cache_parts(&self) -> [usize; 2] {
        let Columns { latent, keys, .. } = Columns::of(self);
        [latent, keys]
    }

    /// All of them.
    pub fn cache_entry(&self) -> usize {
        self.cache_parts().iter().sum()
    }

    /// Bytes that the latent cache keeps for a token in all layers.
    pub fn cache_bytes_per_token(&self, format: CacheFormat) -> u64 {
        (self.layers * format.words(self.cache_entry()) * 4) as u64
    }
}

/// Which generation's defaults and router rules hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V2,
    V3,
}

impl Family {
    /// By type where a type fixes unwritten defaults, else by what the config says of its router.
    fn of(f: &Fields, model_type: &str) -> Result<Self, ModelError> {
        match model_type {
            "deepseek_v2" => Ok(Self::V2),
            "deepseek_v3" | "kimi_k2" => Ok(Self::V3),
            _ if f.get("kv_lora_rank").is_none() => Err(f.wrong(
                "model_type",
                "deepseek_v2, deepseek_v3, kimi_k2 or another with multi-head latent attention",
                format!("{model_type:?} without `kv_lora_rank`"),
            )),
            _ => match f.string("scoring_func")? {
                Some("softmax") => Ok(Self::V2),
                Some("sigmoid") => Ok(Self::V3),
                _ => Err(f.wrong("scoring_func", "\"softmax\" or \"sigmoid\" for this model_type", format!("{:?}", f.get("scoring_func")))),
            },
        }
    }
}

impl MoeConfig {
    /// Experts of the routed ones' width that the shared FFN can be cut into; 0 where it is no multiple of that.
    pub fn shared_experts(&self) -> usize {
        if self.shared_width.is_multiple_of(self.width) { self.shared_width / self.width } else { 0 }
    }

    fn from_fields(f: &Fields, family: Family) -> Result<Option<Self>, ModelError> {
        let v2 = family == Family::V2;
        if f.is_null("n_routed_experts") {
            return Ok(None);
        }
        let experts = f.count("n_routed_experts", 1, MAX_EXPERTS)?.unwrap_or(if v2 { 64 } else { 256 });
        let top_k = if v2 {
            f.required("num_experts_per_tok", 1, experts)?
        } else {
            f.count("num_experts_per_tok", 1, experts)?.unwrap_or(8.min(experts))
        };
        let width = f.count("moe_intermediate_size", 1, MOST)?.unwrap_or(if v2 { 1407 } else { 2048 });
        let shared =
            if f.is_null("n_shared_experts") { 0 } else { f.count("n_shared_experts", 0, 4096)?.unwrap_or(if v2 { 2 } else { 1 }) };

        let scoring = if v2 { "softmax" } else { "sigmoid" };
        if f.string("scoring_func")?.is_some_and(|found| found != scoring) {
            return Err(f.unsupported("scoring_func", &format!("expected {scoring:?}")));
        }
        let method = f.string("topk_method")?.unwrap_or(if v2 { "greedy" } else { "noaux_tc" });
        let limited = match (family, method) {
            (Family::V2, "greedy") => false,
            (Family::V2, "group_limited_greedy") | (Family::V3, "noaux_tc") => true,
            _ => {
                return Err(f.unsupported(
                    "topk_method",
                    "expected greedy or group_limited_greedy with softmax scores, noaux_tc with sigmoid scores",
                ));
            }
        };
        let group_default = |name: &str, value: usize| {
            let null = f.is_null(name) || v2;
            Ok::<_, ModelError>(f.count(name, 1, experts)?.unwrap_or(if null { 1 } else { value }))
        };
        let (groups, top_groups) = if limited { (group_default("n_group", 8)?, group_default("topk_group", 4)?) } else { (1, 1) };
        if !experts.is_multiple_of(groups) {
            return Err(f.wrong("n_group", &format!("a divisor of n_routed_experts {experts}"), groups.to_string()));
        }
        if groups > 1 && !v2 && experts / groups < 2 {
            return Err(f.wrong("n_group", "two experts or more a group", format!("{experts} experts in {groups} groups")));
        }
        if top_groups > groups || (groups > 1 && top_groups * (experts / groups) < top_k) {
            return Err(f.wrong(
                "topk_group",
                &format!("at most n_group {groups}, and enough groups for {top_k} experts"),
                top_groups.to_string(),
            ));
        }
        Ok(Some(Self {
            experts,
            top_k,
            width,
            shared_width: shared.saturating_mul(width),
            first_dense: f.count("first_k_dense_replace", 0, 4096)?.unwrap_or(if v2 { 0 } else { 3 }),
            freq: f.count("moe_layer_freq", 1, 4096)?.unwrap_or(1),
            router: Some(RouterConfig {
                corrected: !v2,
                settings: RouterSettings {
                    scoring: if v2 { Scoring::Softmax } else { Scoring::Sigmoid },
                    groups,
                    top_groups,
                    group_score: if v2 { GroupScore::Best } else { GroupScore::BestTwo },
                    // V2 never renormalises, whatever its flag says (DEEPSEEK.md §3.6).
                    normalise: !v2 && f.flag("norm_topk_prob")?.unwrap_or(true),
                    scaling: f.number("routed_scaling_factor")?.unwrap_or(if v2 { 1.0 } else { 2.5 }) as f32,
                },
            }),
        }))
    }
}
