//! What the user may set: for the program, for one chat, and as presets for chats.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ids::ChatId;
use crate::engine::OpenOptions;
use crate::gpu::GpuOptions;
use crate::sampler::Sampling;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Language {
    #[default]
    System,
    English,
    Chinese,
}

/// Whether to ask the template for reasoning.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Thinking {
    /// As the template does by itself.
    #[default]
    Auto,
    On,
    Off,
}

impl Thinking {
    pub fn wish(self) -> Option<bool> {
        match self {
            Self::Auto => None,
            Self::On => Some(true),
            Self::Off => Some(false),
        }
    }
}

/// A chat's settings; what is none is as the model recommends.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ChatSettings {
    /// Instructions before the conversation; empty for none.
    pub system: String,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub min_p: Option<f32>,
    /// Without one every answer gets its own, which its message keeps.
    pub seed: Option<u64>,
    /// The most new tokens of an answer.
    pub max_tokens: Option<usize>,
    /// Tokens of prompt and answer together.
    pub context: Option<usize>,
    pub thinking: Thinking,
}

impl ChatSettings {
    /// The sampling to use, over what the model recommends; `seed` where none is set.
    pub fn sampling(&self, recommended: Sampling, seed: impl FnOnce() -> u64) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(recommended.temperature),
            top_p: self.top_p.unwrap_or(recommended.top_p),
            top_k: self.top_k.unwrap_or(recommended.top_k),
            min_p: self.min_p.unwrap_or(recommended.min_p),
            seed: self.seed.unwrap_or_else(seed),
        }
    }
}

/// Named settings for chats.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Preset {
    pub name: String,
    pub settings: ChatSettings,
}

/// Which model: what is opened again at the next start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ModelRef {
    /// The embedded default.
    Default,
    Path(PathBuf),
}

/// The program's settings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub theme: Theme,
    /// 1 is 100 %.
    pub zoom: f32,
    pub language: Language,
    pub sidebar: bool,
    /// The inside view is open; only then the engine is asked for what it shows.
    pub inside: bool,
    /// Part of an adapter's name, or its index; none for the best.
    pub adapter: Option<String>,
    pub backend: Option<String>,
    /// Abilities not to use: `subgroups`, `f16`, `coop`, `images`.
    pub disabled: Vec<String>,
    /// The most device memory to use.
    pub memory_bytes: Option<u64>,
    /// The same sums whatever runs beside.
    pub deterministic: bool,
    /// What new chats begin with.
    pub new_chat: ChatSettings,
    /// Opened at start; none was unloaded by hand.
    pub model: Option<ModelRef>,
    /// Opened models, the newest first.
    pub recent_models: Vec<PathBuf>,
    /// Folders to look for models in, beside the data folder's `models`.
    pub model_folders: Vec<PathBuf>,
    /// The chat that was open last.
    pub last_chat: Option<ChatId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: Theme::default(),
            zoom: 1.0,
            language: Language::default(),
            sidebar: true,
            inside: false,
            adapter: None,
            backend: None,
            disabled: vec![],
            memory_bytes: None,
            deterministic: false,
            new_chat: ChatSettings::default(),
            model: Some(ModelRef::Default),
            recent_models: vec![],
            model_folders: vec![],
            last_chat: None,
        }
    }
}

/// Bounds of the zoom.
pub const ZOOM: std::ops::RangeInclusive<f32> = 0.5..=3.0;
/// Recent models that are remembered.
pub const RECENT_MODELS: usize = 10;

impl Settings {
    /// Within their bounds, whatever the store or a caller said.
    pub fn sound(mut self) -> Self {
        self.zoom = if self.zoom.is_finite() { self.zoom.clamp(*ZOOM.start(), *ZOOM.end()) } else { 1.0 };
        self.recent_models.truncate(RECENT_MODELS);
        self.memory_bytes = self.memory_bytes.filter(|&bytes| bytes > 0);
        self
    }

    pub fn gpu(&self) -> GpuOptions {
        let disabled = self.disabled.iter().filter_map(|name| name.parse::<crate::gpu::Disabled>().ok()).flat_map(|list| list.0).collect();
        GpuOptions {
            adapter: self.adapter.clone(),
            backend: self.backend.clone(),
            disabled: crate::gpu::Disabled(disabled),
            memory_bytes: self.memory_bytes,
            ..GpuOptions::default()
        }
    }

    /// How to open a model; what `launch` says goes before the settings.
    pub fn open(&self, model: &ModelRef, launch: &OpenOptions) -> OpenOptions {
        let path = match model {
            ModelRef::Default => None,
            ModelRef::Path(path) => Some(path.clone()),
        };
        let (own, flags) = (self.gpu(), launch.gpu.clone());
        OpenOptions {
            model: path,
            gpu: GpuOptions {
                adapter: flags.adapter.or(own.adapter),
                backend: flags.backend.or(own.backend),
                disabled: if flags.disabled.0.is_empty() { own.disabled } else { flags.disabled },
                memory_bytes: flags.memory_bytes.or(own.memory_bytes),
                cache_dir: flags.cache_dir,
                autotune: flags.autotune,
            },
            context: launch.context,
            chunk: launch.chunk,
            cache: launch.cache,
            deterministic: launch.deterministic || self.deterministic,
            ..OpenOptions::default()
        }
    }
}
