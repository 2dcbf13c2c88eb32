//! The one place that waits: jobs go in, reports come back, neither blocks. Natively [`EngineWorker`] keeps a thread for the
//! engine and one for files; tests use [`ScriptedWorker`]; a page will bring its own.

mod attachment;
mod backend;
#[cfg(not(target_arch = "wasm32"))]
mod engine;
#[cfg(not(target_arch = "wasm32"))]
mod files;
mod hall;
mod scripted;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use attachment::{ATTACHMENT_BYTES, IMPORT_BYTES, attachment_of};
#[cfg(not(target_arch = "wasm32"))]
pub use engine::{EngineWorker, Repaint};
pub use hall::{Hall, is_stale};
pub use scripted::{Script, ScriptedWorker};

use super::chat::Attachment;
use super::library::ModelEntry;
use crate::engine::{Cancel, Event, ModelInside, OpenOptions, Request};
use crate::gpu::{AdapterSummary, Caps, KernelTime};
use crate::model::LoadProgress;
use crate::sampler::Sampling;
use crate::text::Message;

/// Ties reports to their job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// What the app asks for. Jobs for the engine run one after another, those for files beside them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// Opens a model; the running one stays until the new one is known to work.
    Open {
        ticket: Ticket,
        options: OpenOptions,
        #[serde(skip)]
        cancel: Cancel,
    },
    Unload,
    /// Answers; with another `context` than the engine's, its cache is built anew first.
    Answer {
        ticket: Ticket,
        request: Request,
        context: Option<usize>,
        #[serde(skip)]
        cancel: Cancel,
    },
    /// Counts the tokens of a conversation, in the context's words.
    Count {
        ticket: Ticket,
        messages: Vec<Message>,
        thinking: Option<bool>,
    },
    /// Looks at models: what is in these folders, and these paths themselves.
    Scan {
        ticket: Ticket,
        folders: Vec<PathBuf>,
        paths: Vec<PathBuf>,
    },
    /// Measures the GPU time of a decoded token's kernels.
    MeasureKernels,
    Adapters {
        ticket: Ticket,
        backend: Option<String>,
    },
    /// Reads a text file to attach.
    Attach {
        ticket: Ticket,
        path: PathBuf,
    },
    /// Reads a file to import.
    Read {
        ticket: Ticket,
        path: PathBuf,
    },
    /// Writes a file whole, or leaves what was there.
    Write {
        ticket: Ticket,
        path: PathBuf,
        bytes: Vec<u8>,
    },
    /// Asks how much of the browser's storage is taken; in a tab only, as those below.
    Space {
        ticket: Ticket,
    },
    /// Asks the browser to keep what is stored.
    Persist {
        ticket: Ticket,
    },
    /// Deletes a stored model.
    RemoveModel {
        ticket: Ticket,
        path: PathBuf,
    },
}

impl Job {
    /// The ticket of a job that takes its time, and how it is given up.
    pub fn running(&self) -> Option<(Ticket, &Cancel)> {
        match self {
            Self::Open { ticket, cancel, .. } | Self::Answer { ticket, cancel, .. } => Some((*ticket, cancel)),
            _ => None,
        }
    }

    /// Whether it waits its turn at the engine; else it is about files.
    pub fn is_for_engine(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Unload | Self::Answer { .. } | Self::Count { .. } | Self::MeasureKernels)
    }
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// An ability that the self-test turned off, in words.
    TurnedOff {
        ticket: Ticket,
        what: String,
    },
    /// On first use of a device, before loading: so many of the ways in which kernels can work are measured.
    Measuring {
        ticket: Ticket,
        done: usize,
        total: usize,
    },
    Loading {
        ticket: Ticket,
        progress: LoadProgress,
    },
    /// Bytes of a model on their way into the browser's storage; loading comes after.
    Downloading {
        ticket: Ticket,
        done_bytes: u64,
        /// None where the server does not tell.
        total_bytes: Option<u64>,
    },
    Opened {
        ticket: Ticket,
        model: Box<ModelInfo>,
    },
    /// The one-line reason; `kept` tells whether the model from before still runs.
    OpenFailed {
        ticket: Ticket,
        reason: String,
        kept: bool,
    },
    OpenCancelled {
        ticket: Ticket,
        kept: bool,
    },
    Unloaded,
    Answer {
        ticket: Ticket,
        event: Event,
    },
    /// The conversation is longer than the context: without its `drop` oldest messages, the instructions apart, it would fit.
    TooLong {
        ticket: Ticket,
        tokens: usize,
        context: usize,
        drop: usize,
    },
    /// The engine broke and is being built anew; the answer of this ticket, if any, has ended.
    Broken {
        ticket: Option<Ticket>,
        reason: String,
    },
    /// The engine works again.
    Rebuilt {
        model: Box<ModelInfo>,
    },
    /// It does not: there is no model any more.
    RebuildFailed {
        reason: String,
    },
    Counted {
        ticket: Ticket,
        tokens: usize,
    },
    /// The engine's cache has another size now.
    Context {
        context: usize,
    },
    /// Bytes of device memory held now.
    Memory {
        held_bytes: u64,
    },
    Models {
        ticket: Ticket,
        models: Vec<ModelEntry>,
    },
    /// None where the device has no clock, or there is no model.
    KernelTimes {
        times: Option<Vec<KernelTime>>,
    },
    Adapters {
        ticket: Ticket,
        adapters: Vec<AdapterSummary>,
    },
    Attached {
        ticket: Ticket,
        result: Result<Attachment, String>,
    },
    Read {
        ticket: Ticket,
        path: PathBuf,
        result: Result<Vec<u8>, String>,
    },
    Written {
        ticket: Ticket,
        path: PathBuf,
        result: Result<(), String>,
    },
    Space {
        ticket: Ticket,
        space: StorageSpace,
    },
    /// Files of the user's are stored and can be opened by this path.
    Added {
        ticket: Ticket,
        result: Result<PathBuf, String>,
    },
    Removed {
        ticket: Ticket,
        path: PathBuf,
        result: Result<(), String>,
    },
}

/// What a browser lets a tab store.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct StorageSpace {
    pub usage_bytes: u64,
    pub quota_bytes: u64,
    /// The browser keeps it until the user deletes it.
    pub persisted: bool,
    /// Why nothing can be stored, if so.
    pub denied: Option<String>,
}

/// Does jobs elsewhere.
pub trait Worker {
    /// Takes a job; returns at once.
    fn send(&mut self, job: Job);
    /// What happened since the last call, oldest first; returns at once.
    fn poll(&mut self) -> Vec<Report>;
}

/// A model that is ready to answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelInfo {
    /// What was opened.
    pub path: PathBuf,
    /// To show.
    pub name: String,
    /// It is the embedded default.
    pub is_default: bool,
    pub architecture: String,
    pub inside: ModelInside,
    /// The most tokens that the model was made for.
    pub max_positions: usize,
    pub caps: Caps,
    /// Tokens of prompt and answer together.
    pub context: usize,
    pub weight_bytes: u64,
    pub held_bytes: u64,
    /// None where the device does not tell.
    pub memory_limit_bytes: Option<u64>,
    pub default_sampling: Sampling,
    /// Answers may begin with reasoning.
    pub reasons: bool,
    /// The template knows a switch for reasoning.
    pub thinking_is_a_choice: bool,
}

#[cfg(test)]
mod tests;
