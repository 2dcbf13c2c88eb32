//! Models on this machine: what a header says of one, and whether it fits, before it is loaded.

use std::path::PathBuf;

use crate::app::settings::ModelRef;

/// A model that was found.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelEntry {
    pub model: ModelRef,
    pub path: PathBuf,
    pub name: String,
    /// What its header says, or the one-line reason why it cannot be opened.
    pub header: Result<ModelHeader, String>,
}

/// What can be told of a model without loading it.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelHeader {
    /// `model_type` of the config.
    pub architecture: String,
    /// `GGUF` or `safetensors`.
    pub layout: &'static str,
    /// The formats of its matrices, most bytes first, such as `Q4_1`.
    pub formats: String,
    pub weight_bytes: u64,
    pub cache_bytes_per_token: u64,
    pub max_positions: usize,
    pub layers: usize,
    /// Routed experts and how many of them a token takes; none without experts.
    pub experts: Option<(usize, usize)>,
}

/// Whether a model goes into the memory there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    Fits,
    /// With little room for context.
    Tight,
    TooLarge,
    /// The device does not tell its memory.
    Unknown,
}

/// Tokens of context that a comfortable fit has room for.
const COMFORTABLE_TOKENS: u64 = 4096;
/// Activations and staging, about.
const OVERHEAD_BYTES: u64 = 256 << 20;

impl ModelHeader {
    /// Whether it fits `memory_bytes`.
    pub fn fit(&self, memory_bytes: Option<u64>) -> Fit {
        let Some(memory) = memory_bytes else { return Fit::Unknown };
        let cache = self.cache_bytes_per_token.saturating_mul(COMFORTABLE_TOKENS.min(self.max_positions as u64));
        match self.weight_bytes {
            weights if weights > memory => Fit::TooLarge,
            weights if weights.saturating_add(cache).saturating_add(OVERHEAD_BYTES) > memory => Fit::Tight,
            _ => Fit::Fits,
        }
    }
}

/// What a model is called: its file's name without the ending, or its folder's.
pub fn model_name(path: &std::path::Path) -> String {
    let is_file = path.extension().is_some_and(|extension| extension == "gguf" || extension == "safetensors");
    let name = if is_file { path.file_stem() } else { path.file_name() };
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
