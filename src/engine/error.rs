//! What can go wrong between a request and its answer.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::gpu::GpuError;
use crate::model::ModelError;
use crate::sampler::SamplingError;
use crate::text::TextError;

/// One line each: what, expected, found, hint.
#[derive(thiserror::Error, Debug)]
pub enum EngineError {
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Tokenizer or template of a checkpoint.
    #[error("{}: {source}", .path.display())]
    Text { path: PathBuf, source: TextError },
    /// A field of a JSON file beside the tensors.
    #[error("{}: {field}: expected {expected}, found {found}", .path.display())]
    Field { path: PathBuf, field: String, expected: &'static str, found: String },
    #[error("no model was given and {name} is not there; run `make setup`, or put the file into {place}")]
    NoDefaultModel { name: &'static str, place: String },
    #[error("{} has no tokenizer: expected {expected}; ids can be given instead of text (`fathom generate --ids`)", .path.display())]
    NoTokenizer { path: PathBuf, expected: &'static str },
    #[error("{} has no chat template: expected {expected}, and its tokenizer suits none that is built in", .path.display())]
    NoTemplate { path: PathBuf, expected: &'static str },
    #[error("the prompt is empty: expected at least one token")]
    EmptyPrompt,
    #[error("token id: expected one below {vocab_size} (the vocabulary), found {id}")]
    IdPastVocabulary { id: u32, vocab_size: usize },
    #[error("opening the model was cancelled")]
    Cancelled,
    #[error("the prompt has {tokens} tokens but the context holds {context}; shorten it, or raise --context")]
    PromptTooLong { tokens: usize, context: usize },
}

impl EngineError {
    /// Whether memory ran out: another model, context or limit may do.
    pub fn is_out_of_memory(&self) -> bool {
        let device = |error: &GpuError| matches!(error, GpuError::OverLimit { .. } | GpuError::OutOfMemory(_));
        match self {
            Self::Gpu(error) | Self::Model(ModelError::Gpu(error)) => device(error),
            Self::Model(ModelError::TooLarge { .. }) => true,
            _ => false,
        }
    }

    /// Whether the device was lost: the engine rebuilds it before the next attempt.
    pub(super) fn is_lost(&self) -> bool {
        // Some drivers tell it only by a failed readback.
        let (Self::Gpu(error) | Self::Model(ModelError::Gpu(error))) = self else { return false };
        matches!(error, GpuError::Lost(_) | GpuError::Readback(_))
    }
}
