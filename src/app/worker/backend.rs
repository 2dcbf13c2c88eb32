//! What the engine's thread needs of an engine, so that tests can give it one that breaks on demand.

use std::path::Path;

use super::ModelInfo;
use crate::engine::{Cancel, Device, Engine, EngineError, Event, OpenEvent, OpenOptions, Request, Summary, default_model_path};
use crate::gpu::KernelTime;
use crate::text::Message;

#[allow(async_fn_in_trait, reason = "its futures stay on the thread that made them")]
pub trait Backend: Sized {
    /// What is wrong with a checkpoint that can be known without a device.
    fn check(model: Option<&Path>) -> Result<(), EngineError>;
    /// Opens a model, on the given device if that suits.
    async fn open(device: Option<Device>, options: OpenOptions, on_event: &mut dyn FnMut(OpenEvent)) -> Result<Self, EngineError>;
    /// The device, for another model.
    fn device(&self) -> Option<Device>;
    fn info(&self) -> ModelInfo;
    async fn run(&mut self, request: Request, cancel: &Cancel, on_event: &mut dyn FnMut(Event)) -> Result<Summary, EngineError>;
    fn count(&self, messages: &[Message], thinking: Option<bool>) -> Result<usize, EngineError>;
    fn set_context(&mut self, context: Option<usize>) -> Result<(), EngineError>;
    async fn kernel_times(&mut self) -> Result<Option<Vec<KernelTime>>, EngineError>;
    /// What broke the device, if something did.
    fn fault(&self) -> Option<String>;
}

impl Backend for Engine {
    fn check(model: Option<&Path>) -> Result<(), EngineError> {
        Self::check(model)
    }

    async fn open(device: Option<Device>, options: OpenOptions, on_event: &mut dyn FnMut(OpenEvent)) -> Result<Self, EngineError> {
        Self::open_on(device, options, on_event).await
    }

    fn device(&self) -> Option<Device> {
        Some(self.device())
    }

    fn info(&self) -> ModelInfo {
        let (config, gpu) = (self.config(), self.gpu());
        ModelInfo {
            path: self.path().to_path_buf(),
            name: crate::app::library::model_name(self.path()),
            is_default: default_model_path().is_ok_and(|path| path == self.path()),
            architecture: config.model_type.clone(),
            inside: self.inside(),
            max_positions: config.max_positions,
            caps: gpu.caps().clone(),
            context: self.context(),
            weight_bytes: self.weight_bytes(),
            held_bytes: gpu.held_bytes(),
            memory_limit_bytes: gpu.memory_limit_bytes(),
            default_sampling: self.default_sampling(),
            reasons: self.reasons(),
            thinking_is_a_choice: self.thinking_is_a_choice(),
        }
    }

    async fn run(&mut self, request: Request, cancel: &Cancel, on_event: &mut dyn FnMut(Event)) -> Result<Summary, EngineError> {
        self.run(request, cancel, on_event).await
    }

    fn count(&self, messages: &[Message], thinking: Option<bool>) -> Result<usize, EngineError> {
        self.count(messages, thinking)
    }

    fn set_context(&mut self, context: Option<usize>) -> Result<(), EngineError> {
        self.set_context(context)
    }

    async fn kernel_times(&mut self) -> Result<Option<Vec<KernelTime>>, EngineError> {
        self.kernel_times().await
    }

    fn fault(&self) -> Option<String> {
        self.gpu().fault().err().map(|error| error.to_string())
    }
}
