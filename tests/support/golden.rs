//! Golden data of the checkpoints in `tests/golden`, made by transformers 5.23 in f32.
//!
//! Each directory holds a tiny checkpoint as published on the hub, `config.tf5.json` (the same model as transformers
//! 5 writes it) and `golden.safetensors`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::stored::{Stored, Tensors};

/// The checkpoints, one per branch of the family.
pub const NAMES: [&str; 5] = ["v2", "v2lite", "v3", "v3-fp8", "moonlight"];

pub struct Golden {
    pub input_ids: Vec<u32>,     // [tokens]
    pub greedy_ids: Vec<u32>,    // [new], no stop at eos
    pub logits: Vec<f32>,        // [tokens, vocab]
    pub logits_f64: Vec<f32>,    // [tokens, vocab], computed in f64: the difference is the noise of f32
    pub greedy_logits: Vec<f32>, // [new, vocab], those that chose greedy_ids
    pub hidden: Vec<Vec<f32>>,   // [layers + 1][tokens, hidden]; 0 = embeddings, i = after layer i − 1
    pub final_hidden: Vec<f32>,  // [tokens, hidden], after the final norm
    pub routers: BTreeMap<usize, GoldenRouter>,
    pub vocab: usize,
}

/// A MoE layer's routing of the prompt and of all but the last greedy token.
pub struct GoldenRouter {
    pub logits: Vec<f32>,  // [tokens + new − 1, experts]
    pub indices: Vec<u32>, // [tokens + new − 1, top_k], ascending
    pub weights: Vec<f32>, // [tokens + new − 1, top_k], as `indices`
    pub margin: Vec<f32>,  // [tokens + new − 1]
}

/// The directory of the checkpoint `name`.
pub fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

impl Golden {
    /// Reads `golden.safetensors` in `dir`.
    pub fn read(dir: &Path) -> Self {
        let tensors = Tensors::read_file(&dir.join("golden.safetensors"));
        let floats = |name: &str| floats(tensors.get(name));
        let ids = |name: &str| tensors.get(name).ids();
        let layers = (0..).take_while(|i| tensors.contains(&format!("hidden.{i}")));
        let hidden: Vec<_> = layers.map(|i| floats(&format!("hidden.{i}"))).collect();
        let has_router = |layer: &usize| tensors.contains(&format!("router.{layer}.logits"));
        let router = |layer: usize| GoldenRouter {
            logits: floats(&format!("router.{layer}.logits")),
            indices: ids(&format!("router.{layer}.indices")),
            weights: floats(&format!("router.{layer}.weights")),
            margin: floats(&format!("router.{layer}.margin")),
        };
        Self {
            input_ids: ids("input_ids"),
            greedy_ids: ids("greedy_ids"),
            logits: floats("logits"),
            logits_f64: floats("logits_f64"),
            greedy_logits: floats("greedy_logits"),
            final_hidden: floats("final_hidden"),
            routers: (0..hidden.len()).filter(has_router).map(|layer| (layer, router(layer))).collect(),
            hidden,
            vocab: tensors.get("logits").shape[1],
        }
    }
}

fn floats(stored: &Stored) -> Vec<f32> {
    stored.floats().into_iter().map(|v| v as f32).collect()
}
