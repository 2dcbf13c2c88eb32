//! The DeepSeek family: what a config means, which weights a layer has, and the order of its kernels.
//!
//! Knows the models, not wgpu. Sequences and steps are `session`'s, text is `engine`'s business.

mod activations;
mod arrange;
mod cache;
pub mod config;
mod error;
mod fields;
mod forward;
mod llama;
mod load;
mod rotary;
mod shapes;
mod watch;
mod weights;

pub use activations::{Activations, Room};
pub use cache::Cache;
pub use config::{ModelConfig, MoeConfig, RouterConfig};
pub use error::ModelError;
pub use forward::Step;
pub use load::LoadProgress;
pub use rotary::Rotary;
pub use watch::{Seen, Watch};

use crate::checkpoint::{Checkpoint, WeightFormat};
use crate::gpu::{Gpu, GpuError, Tensor};
use load::{Loader, Origin};
use std::sync::Arc;
use weights::{Weights, pad};

/// A model on the device: immutable, shared by all who run it.
pub struct Model {
    gpu: Gpu,
    config: ModelConfig,
    weights: Weights,
    weight_bytes: u64,
}

/// What a traced step keeps.
pub struct Trace {
    /// `[layers + 1, rows, hidden]`
    pub hidden: Tensor,
    /// A layer's `[rows, slots]` each `rows * self.slots` numbers
    pub chosen: Tensor,
    pub weights: Tensor,
    /// The most slots of a layer.
    pub slots: usize,
}

impl Trace {
    pub fn new(gpu: &Gpu, config: &ModelConfig, rows: usize) -> Result<Self, GpuError> {
        let slots = config.moe.as_ref().map_or(1, |moe| moe.top_k + moe.shared_experts());
        Ok(Self {
            hidden: gpu.zeros("hidden states", &[config.layers + 1, rows, pad(config.hidden)])?,
            chosen: gpu.zeros_u32("chosen experts", &[config.layers, rows, slots])?,
            weights: gpu.zeros("experts' weights", &[config.layers, rows, slots])?,
            slots,
        })
    }
}

impl Model {
    /// Brings a checkpoint's weights to the device.
    ///
    /// # Errors
    /// A config, tensor or size that does not fit, named with what was expected; a device that runs out of memory.
    pub async fn load(gpu: &Gpu, checkpoint: &Checkpoint, progress: &mut dyn FnMut(LoadProgress)) -> Result<Arc<Self>, ModelError> {
        let config = ModelConfig::from_checkpoint(checkpoint)?;
        let total = weights_in(checkpoint, &config);
        Self::check_memory(gpu, total)?;
        let mut loader = Loader::new(gpu, Origin::Checkpoint(checkpoint), total, progress);
        Self::finish(gpu, config, &mut loader).await
    }

    /// A model of random weights, to measure a shape without a checkpoint.
    pub async fn random(
        gpu: &Gpu,
        config: ModelConfig,
        format: WeightFormat,
        seed: u64,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Arc<Self>, ModelError> {
        let row_bytes = (format.row_bytes(4096) + format.scale_row_bytes(4096)) as u64;
        let total = config.parameters().saturating_mul(row_bytes) / 4096;
        Self::check_memory(gpu, total)?;
        let mut loader = Loader::new(gpu, Origin::Random { format, seed }, total, progress);
        Self::finish(gpu, config, &mut loader).await
    }

    fn check_memory(gpu: &Gpu, needed: u64) -> Result<(), ModelError> {
        match gpu.memory_limit_bytes() {
            Some(limit) if needed > limit.saturating_sub(gpu.held_bytes()) => {
                Err(ModelError::TooLarge { needed, available: limit.saturating_sub(gpu.held_bytes()) })
            }
            _ => Ok(()),
        }
    }

    async fn finish(gpu: &Gpu, config: ModelConfig, loader: &mut Loader<'_>) -> Result<Arc<Self>, ModelError> {
        let weights = Weights::load(&config, loader).await?;
        gpu.settle().await?;
        let weight_bytes = loader.done_bytes();
        Ok(Arc::new(Self { gpu: gpu.clone(), config, weights, weight_bytes }))
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Slots of a row in a layer: top_k and the experts that every row takes; 0 in a dense layer.
    pub fn slots(&self, layer: usize) -> usize {
        match (&self.weights.layers[layer].ffn, &self.config.moe) {
            (weights::Ffn::Moe(experts), Some(moe)) => moe.top_k + experts.shared_experts,
            _ => 0,
        }
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }
}

/// Bytes of the checkpoint's tensors that a load will read: all but those of layers that are skipped.
fn weights_in(checkpoint: &Checkpoint, config: &ModelConfig) -> u64 {
    let skipped = |name: &str| {
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()).and_then(|n| n.parse::<usize>().ok());
        layer.is_some_and(|layer| layer >= config.layers)
    };
    let bytes = |name: &str| checkpoint.tensor(name).map_or(0, |tensor| tensor.bytes.size_bytes());
    checkpoint.names().filter(|name| !skipped(name)).map(bytes).sum()
}
