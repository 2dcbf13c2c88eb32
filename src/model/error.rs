//! What can go wrong between a checkpoint and an answer.

use crate::checkpoint::CheckpointError;
use crate::gpu::GpuError;

/// One line each: what, expected, found, hint.
#[derive(thiserror::Error, Debug)]
pub enum ModelError {
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("config field `{field}`: expected {expected}, found {found}")]
    Config { field: String, expected: String, found: String },
    #[error("config field `{field}` = {found} changes the model's arithmetic and is not supported: {hint}")]
    Unsupported { field: String, found: String, hint: String },
    #[error(
        "the model needs {needed} bytes of device memory, {available} are available: {} too many; a model of up to {available} bytes fits (fewer bits a weight), or raise --memory",
        .needed - .available
    )]
    TooLarge { needed: u64, available: u64 },
    #[error(
        "context full: {needed} tokens are wanted, the cache holds {context}; raise --context (the model allows {max_positions}) or shorten the input"
    )]
    ContextFull { needed: usize, context: usize, max_positions: usize },
    #[error("token id {id}: expected below the vocabulary's {vocab}")]
    UnknownToken { id: u32, vocab: usize },
    #[error("all {0} sequences of the cache are in use")]
    NoSequence(usize),
    #[error("a context of {context} tokens: expected at most {most} on this device ({reason}); lower --context")]
    ContextTooLong { context: usize, most: usize, reason: String },
    #[error("nothing to feed: the list of token ids is empty")]
    Empty,
}
