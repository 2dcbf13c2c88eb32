//! What a window shows of a model's inside: which experts a token took, what else it could have been, and what the cache saves.

use crate::kernels::CacheFormat;
use crate::model::{ModelConfig, MoeConfig, Seen};
use crate::text::Tokenizer;
use serde::{Deserialize, Serialize};

/// How one new token came about; told after the text that it completes, for a request with `watch`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TokenInside {
    pub id: u32,
    /// The token by itself, control tokens written out; bytes that are no whole character become U+FFFD.
    pub text: String,
    /// Bytes of the reasoning and of the answer let out so far, this token's included: what it completed lies between the ends
    /// of the token before and its own.
    pub reasoning_end: usize,
    pub answer_end: usize,
    /// The model's own probability of this token, before the sampling settings: a softmax at temperature 1 over all ids
    /// that the tokenizer knows.
    pub probability: f32,
    /// The likeliest tokens, best first, with probabilities as above; this token need not be among them.
    pub candidates: Vec<Candidate>,
    /// The router's choice in every MoE layer, of the step that computed this token.
    pub layers: Vec<LayerRouting>,
}

impl TokenInside {
    /// `ends`: bytes of reasoning and answer so far.
    pub(super) fn new(id: u32, seen: Seen, ends: (usize, usize), tokenizer: Option<&Tokenizer>) -> Self {
        let text = |id| tokenizer.and_then(|tokenizer| tokenizer.piece(id)).unwrap_or_default();
        Self {
            id,
            text: text(id),
            reasoning_end: ends.0,
            answer_end: ends.1,
            probability: seen.probability,
            candidates: seen.candidates.into_iter().map(|(id, probability)| Candidate { id, text: text(id), probability }).collect(),
            layers: seen.layers.into_iter().map(|(layer, experts)| LayerRouting { layer, experts }).collect(),
        }
    }
}

/// A token that could have come.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    pub id: u32,
    /// As [`TokenInside::text`].
    pub text: String,
    pub probability: f32,
}

/// What a router chose for one token.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LayerRouting {
    pub layer: usize,
    /// Routed experts and the weights that their outputs get, ascending by expert; shared experts are not listed.
    pub experts: Vec<(u32, f32)>,
}

impl LayerRouting {
    /// How decided the router was among those it chose: 0 when they weigh alike, 1 when one has all the weight
    /// (1 − entropy / ln count).
    pub fn confidence(&self) -> f32 {
        let total: f32 = self.experts.iter().map(|(_, weight)| weight).sum();
        let shares = self.experts.iter().map(|(_, weight)| weight / total).filter(|&share| share > 0.0);
        let entropy: f32 = shares.map(|share| -share * share.ln()).sum();
        if self.experts.len() > 1 && total > 0.0 { (1.0 - entropy / (self.experts.len() as f32).ln()).clamp(0.0, 1.0) } else { 1.0 }
    }
}

/// The shape of a model, and what its cache holds a token.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelInside {
    pub layers: usize,
    /// Layers that have a router, ascending.
    pub moe_layers: Vec<usize>,
    /// Routed experts of a MoE layer; 0 without such layers.
    pub experts: usize,
    /// Experts that the router chooses for a token. All of them in a dense model that is read as MoE.
    pub top_k: usize,
    /// Experts that every token takes besides.
    pub shared_experts: usize,
    pub parameters: u64,
    /// Bytes that the latent cache keeps a token, all layers together.
    pub latent_bytes_per_token: u64,
    /// Bytes that every head's full keys and values would take in numbers of the same width.
    pub full_kv_bytes_per_token: u64,
}

impl ModelInside {
    /// The shape that a config describes, with a cache of this format.
    pub fn of(config: &ModelConfig, cache: CacheFormat) -> Self {
        let moe_layers: Vec<usize> = (0..config.layers).filter(|&layer| config.is_moe(layer)).collect();
        let moe = config.moe.as_ref().filter(|_| !moe_layers.is_empty());
        let latent_bytes_per_token = config.cache_bytes_per_token(cache);
        let full_numbers = (config.layers * config.heads * (config.nope + config.rope + config.v_dim)) as u64;
        let latent_numbers = (config.layers * config.cache_entry()) as u64;
        Self {
            layers: config.layers,
            moe_layers,
            experts: moe.map_or(0, |moe| moe.experts),
            top_k: moe.map_or(0, |moe| moe.top_k),
            shared_experts: moe.map_or(0, MoeConfig::shared_experts),
            parameters: config.parameters(),
            latent_bytes_per_token,
            full_kv_bytes_per_token: full_numbers * latent_bytes_per_token / latent_numbers.max(1),
        }
    }

    /// Whether its routers leave experts out, so that their choices tell something.
    pub fn chooses(&self) -> bool {
        self.top_k < self.experts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_between_alike_and_alone() {
        let of = |weights: &[f32]| {
            let experts = weights.iter().enumerate().map(|(i, &weight)| (i as u32, weight)).collect();
            LayerRouting { layer: 0, experts }.confidence()
        };
        assert!(of(&[0.5; 4]).abs() < 1e-6);
        assert_eq!((of(&[0.0, 3.0]), of(&[1.0]), of(&[])), (1.0, 1.0, 1.0));
        // Shares 3/4 and 1/4: 1 − 0.8113 bits.
        assert!((of(&[1.5, 0.5]) - 0.188_722).abs() < 1e-5);
    }

    #[test]
    fn the_cache_beside_full_keys_and_values() {
        let inside = ModelInside::of(&ModelConfig::named_shape("v2-lite").unwrap(), CacheFormat::F32);
        assert_eq!((inside.layers, inside.experts, inside.top_k, inside.shared_experts), (27, 64, 6, 2));
        assert_eq!(inside.moe_layers, (1..27).collect::<Vec<_>>());
        assert!(inside.chooses());
        // 16 heads of 192 + 128 numbers beside 512 + 64.
        assert_eq!(inside.full_kv_bytes_per_token * (512 + 64), inside.latent_bytes_per_token * 16 * (192 + 128));
    }
}
