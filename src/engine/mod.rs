//! Requests in, events out: the one surface that front ends use. Owns the model on its device, the text side of the
//! checkpoint, and the sequence of the latest request, whose beginning the next one may share.
//!
//! Leaves arithmetic to `model`, steps and caches to `session`, and showing anything to the front ends. Waiting is `async`:
//! native programs block on it, a page awaits it.

mod answer;
mod clock;
mod device;
mod error;
mod inside;
mod language;
mod locate;
mod request;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;

use serde::{Deserialize, Serialize};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use clock::unix_secs;
pub use device::Device;
pub use error::EngineError;
pub use inside::{Candidate, LayerRouting, ModelInside, TokenInside};
#[cfg(not(target_arch = "wasm32"))]
pub use locate::user_cache_dir;
pub use locate::{DEFAULT_MODEL, default_model_path, user_data_dir};
pub use request::{Begun, Cancel, Event, Input, OpenEvent, Request, Stats, StopReason, Summary};

use crate::checkpoint::Checkpoint;
use crate::gpu::{Gpu, GpuOptions, KernelTime, Recording};
use crate::kernels::CacheFormat;
use crate::model::{Model, ModelConfig};
use crate::sampler::Sampling;
use crate::session::{Runtime, RuntimeOptions, Session};
use crate::text::{ChatTemplate, Message};
use answer::Answer;
use clock::Moment;
use language::{Language, Prompt};

/// The context when the user asks for none, if model and memory allow it.
const USUAL_CONTEXT: usize = 8192;
/// The least context that is chosen by ourselves.
const LEAST_CONTEXT: usize = 256;

/// What to open, and where.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenOptions {
    /// A directory, a GGUF or a safetensors file; without it the embedded default.
    pub model: Option<PathBuf>,
    pub gpu: GpuOptions,
    /// Tokens of cache; without it as many as the model, the memory and good sense allow.
    pub context: Option<usize>,
    /// Prompt tokens in one step.
    pub chunk: Option<usize>,
    /// The same sums whatever runs beside.
    pub deterministic: bool,
    /// What the latent cache keeps its numbers in.
    pub cache: CacheFormat,
    /// Gives up while weights are loaded.
    #[serde(skip)]
    pub cancel: Cancel,
}

/// A model ready to answer.
pub struct Engine {
    options: OpenOptions,
    path: PathBuf,
    language: Language,
    context: usize,
    model: Arc<Model>,
    runtime: Runtime,
    session: Option<Session>,
    /// The ids whose latents the session holds.
    cached: Vec<u32>,
}

impl Engine {
    /// Opens a model on a device.
    ///
    /// # Errors
    /// A checkpoint that is absent or wrong, a device that is absent or too small.
    pub async fn open(options: OpenOptions, on_event: &mut dyn FnMut(OpenEvent)) -> Result<Self, EngineError> {
        Self::open_on(None, options, on_event).await
    }

    /// Opens a model on a device that is there already, if it suits; else as [`Engine::open`] does.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn open_on(device: Option<Device>, options: OpenOptions, on_event: &mut dyn FnMut(OpenEvent)) -> Result<Self, EngineError> {
        let path = match &options.model {
            Some(path) => path.clone(),
            None => default_model_path()?,
        };
        let (checkpoint, language) = read(&path)?;
        let model = load(device, &options, &checkpoint, on_event).await?;
        let (runtime, context) = runtime(&options, &language, &model)?;
        Ok(Self { options, path, language, context, model, runtime, session: None, cached: vec![] })
    }

    /// Looks at what a checkpoint says of itself, without a device.
    ///
    /// # Errors
    /// Those of [`Engine::open`] that need no device.
    pub fn check(model: Option<&Path>) -> Result<(), EngineError> {
        let path = model.map_or_else(default_model_path, |path| Ok(path.to_path_buf()))?;
        read(&path).map(drop)
    }

    /// Builds device, model and cache anew from the checkpoint, after the device was lost.
    async fn rebuild(&mut self) -> Result<(), EngineError> {
        tracing::warn!("the device was lost: loading the model again");
        let checkpoint = Checkpoint::open(&self.path)?;
        self.session = None;
        self.cached.clear();
        self.model = load(None, &OpenOptions { cancel: Cancel::default(), ..self.options.clone() }, &checkpoint, &mut |_| ()).await?;
        (self.runtime, self.context) = runtime(&self.options, &self.language, &self.model)?;
        Ok(())
    }

    /// Gives the cache another size, and forgets what it held; none for as many tokens as make sense.
    ///
    /// # Errors
    /// A size that the device cannot hold: the cache is then as it was.
    pub fn set_context(&mut self, context: Option<usize>) -> Result<(), EngineError> {
        if self.options.context == context {
            return Ok(());
        }
        self.session = None;
        self.cached.clear();
        // The old cache makes room for the new one.
        self.runtime = Runtime::new(self.model.clone(), RuntimeOptions { context: 1, chunk: 1, ..RuntimeOptions::default() })?;
        let before = std::mem::replace(&mut self.options.context, context);
        let sized = runtime(&self.options, &self.language, &self.model);
        if sized.is_err() {
            self.options.context = before;
        }
        let (refused, sized) = match sized {
            Ok(sized) => (None, sized),
            Err(error) => (Some(error), runtime(&self.options, &self.language, &self.model)?),
        };
        (self.runtime, self.context) = sized;
        refused.map_or(Ok(()), Err)
    }

    /// Tokens of a conversation as the template writes it, the beginning of an answer included.
    ///
    /// # Errors
    /// A checkpoint without tokenizer or template; a template that refuses.
    pub fn count(&self, messages: &[Message], thinking: Option<bool>) -> Result<usize, EngineError> {
        Ok(self.language.chat(&self.path, messages, thinking, None)?.ids.len())
    }

    /// Answers one request. The last event is `Done` or `Failed`, as the result is.
    ///
    /// # Errors
    /// An input that cannot be fed (empty, too long, ids past the vocabulary, no tokenizer), settings out of range, a device
    /// that fails. A device that is lost is rebuilt once, and the answer goes on where it was; one that failed otherwise is rebuilt
    /// for the next request.
    pub async fn run(&mut self, request: Request, cancel: &Cancel, on_event: &mut dyn FnMut(Event)) -> Result<Summary, EngineError> {
        let result = self.answer(&request, cancel, on_event).await;
        on_event(match &result {
            Ok(summary) => Event::Done(summary.clone()),
            Err(error) => Event::Failed(error.to_string()),
        });
        if let Err(error) = self.gpu().keep_pipelines() {
            tracing::debug!("pipelines are not kept for the next start: {error}");
        }
        result
    }

    async fn answer(&mut self, request: &Request, cancel: &Cancel, on_event: &mut dyn FnMut(Event)) -> Result<Summary, EngineError> {
        let started = Moment::now();
        request.sampling.check()?;
        self.mend(on_event).await?;
        let prompt = self.prompt(request)?;
        self.check_ids(&prompt.ids)?;
        // The last id needs no place in the cache.
        let limit = self.context - prompt.ids.len() + 1;
        let decoder = self.language.tokenizer.as_ref().map(|tokenizer| tokenizer.stream());
        let mut answer = Answer::new(prompt, request, limit, &self.language.eos, decoder, started);
        let mut may_rebuild = true;
        let stop = loop {
            match self.attempt(&mut answer, request, cancel, on_event).await {
                Ok(stop) => break stop,
                Err(error) if error.is_lost() && may_rebuild => {
                    may_rebuild = false;
                    self.replace_device(error.to_string(), on_event).await?;
                }
                Err(error) => {
                    if let Some(session) = self.session.take() {
                        self.runtime.release(session);
                    }
                    return Err(error);
                }
            }
        };
        Ok(answer.finish(stop, on_event))
    }

    fn prompt(&self, request: &Request) -> Result<Prompt, EngineError> {
        match &request.input {
            Input::Chat(messages) => self.language.chat(&self.path, messages, request.thinking, request.begun.as_ref()),
            Input::Text(text) => self.language.text(&self.path, text),
            Input::Ids(ids) => Ok(Prompt { ids: ids.clone(), splitter: crate::text::ReasoningSplitter::disabled() }),
        }
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), EngineError> {
        let vocab_size = self.config().vocab_size;
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(EngineError::IdPastVocabulary { id, vocab_size });
        }
        if ids.len() > self.context {
            return Err(EngineError::PromptTooLong { tokens: ids.len(), context: self.context });
        }
        Ok(())
    }

    /// Feeds what the cache does not hold and takes new ids until something ends the answer.
    async fn attempt(
        &mut self,
        answer: &mut Answer,
        request: &Request,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<StopReason, EngineError> {
        if answer.limit == 0 {
            return Ok(StopReason::Length);
        }
        let fed = answer.all_ids();
        // Emptied first: should this future be dropped halfway, the next request starts afresh.
        let cached = std::mem::take(&mut self.cached);
        let reused = cached.iter().zip(&fed[..fed.len() - 1]).take_while(|(a, b)| a == b).count();
        answer.reused.get_or_insert(reused);
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.runtime.session()?),
        };
        self.runtime.rewind(session, reused);
        // An answer that cannot be watched is still an answer.
        if let Err(error) = self.runtime.watch(session, request.watch) {
            tracing::warn!("this answer is not watched: {error}");
        }

        let total = answer.prompt.len();
        on_event(Event::Prefill { done: reused.min(total), total });
        let mut progress = |done: usize, _: usize| {
            on_event(Event::Prefill { done: (reused + done).min(total), total });
            !cancel.is_cancelled()
        };
        let began = !cancel.is_cancelled() && self.runtime.begin(session, &fed[reused..], &request.sampling, &mut progress).await?;
        let mut stop = StopReason::Cancelled;
        if began {
            while !cancel.is_cancelled() {
                let (id, seen) = self.runtime.next_seen(session).await?;
                let ended = answer.push(id, on_event);
                if let Some(seen) = seen {
                    on_event(Event::Inside(TokenInside::new(id, seen, answer.ends(), self.language.tokenizer.as_ref())));
                }
                if let Some(reason) = ended {
                    stop = reason;
                    break;
                }
            }
            self.runtime.end(session).await?;
        }
        self.cached = answer.all_ids();
        self.cached.truncate(session.len());
        Ok(stop)
    }

    /// Rebuilds a device that broke since the last request.
    async fn mend(&mut self, on_event: &mut dyn FnMut(Event)) -> Result<(), EngineError> {
        match self.gpu().fault() {
            Err(fault) => self.replace_device(fault.to_string(), on_event).await,
            Ok(()) => Ok(()),
        }
    }

    async fn replace_device(&mut self, why: String, on_event: &mut dyn FnMut(Event)) -> Result<(), EngineError> {
        on_event(Event::Rebuild(why));
        // What the old device still holds makes room for the new one.
        self.gpu().destroy();
        self.rebuild().await
    }

    /// The logits after each of `ids`, `[ids, vocabulary]`, from a fresh sequence.
    ///
    /// # Errors
    /// As [`Engine::run`] for the ids; a device that fails.
    pub async fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.mend(&mut |_| ()).await?;
        self.check_ids(ids)?;
        self.cached.clear();
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.runtime.session()?),
        };
        self.runtime.rewind(session, 0);
        let logits = self.runtime.logits(session, ids).await?;
        self.cached = ids[..session.len().min(ids.len())].to_vec();
        Ok(logits)
    }

    /// The dispatches of one decoded token.
    pub fn decode_plan(&mut self) -> Result<&Recording, EngineError> {
        Ok(self.runtime.decode_plan()?)
    }

    /// The dispatches of a prompt's step of `rows` tokens.
    pub fn prefill_plan(&mut self, rows: usize) -> Result<&Recording, EngineError> {
        Ok(self.runtime.prefill_plan(rows)?)
    }

    /// The GPU time of one more decoded token by kernel, longest first; none where the device has no timestamp queries.
    /// The conversation in the cache stays as it is.
    ///
    /// # Errors
    /// A device that fails.
    pub async fn kernel_times(&mut self) -> Result<Option<Vec<KernelTime>>, EngineError> {
        self.mend(&mut |_| ()).await?;
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.runtime.session()?),
        };
        let times = self.runtime.kernel_times(session, 1).await?;
        self.cached.truncate(session.len());
        Ok(times)
    }

    /// The model's shape, and what its cache holds.
    pub fn inside(&self) -> ModelInside {
        ModelInside::of(self.config(), self.options.cache)
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    pub fn gpu(&self) -> &Gpu {
        self.model.gpu()
    }

    /// The device, for another model.
    pub fn device(&self) -> Device {
        Device { gpu: self.gpu().clone(), options: self.options.gpu.clone() }
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.model.weight_bytes()
    }

    /// Tokens of prompt and answer together.
    pub fn context(&self) -> usize {
        self.context
    }

    /// What the latent cache keeps its numbers in.
    pub fn cache_format(&self) -> CacheFormat {
        self.options.cache
    }

    /// What the checkpoint recommends for chats; greedy where it recommends nothing.
    pub fn default_sampling(&self) -> Sampling {
        self.language.sampling
    }

    /// Whether the chat template knows a switch for reasoning.
    pub fn thinking_is_a_choice(&self) -> bool {
        self.language.template.as_ref().is_some_and(ChatTemplate::knows_thinking)
    }

    /// Whether its answers may begin with reasoning.
    pub fn reasons(&self) -> bool {
        self.language.reasons
    }
}

/// A checkpoint's headers and text, all that can be known to be wrong before a device is involved.
fn read(path: &Path) -> Result<(Checkpoint, Language), EngineError> {
    let checkpoint = Checkpoint::open(path)?;
    let language = Language::read(&checkpoint, &ModelConfig::from_checkpoint(&checkpoint)?)?;
    Ok((checkpoint, language))
}

/// A model on a device: the given one if it suits.
async fn load(
    device: Option<Device>,
    options: &OpenOptions,
    checkpoint: &Checkpoint,
    on_event: &mut dyn FnMut(OpenEvent),
) -> Result<Arc<Model>, EngineError> {
    let gpu = match device.filter(|device| device.suits(&options.gpu)) {
        Some(device) => {
            device.gpu.measure_memory();
            device.gpu
        }
        None => Device::open(&options.gpu, &options.cancel, on_event).await?.gpu,
    };
    on_event(OpenEvent::Device(gpu.caps().clone()));
    let mut progress = |progress| on_event(OpenEvent::Load(progress));
    let mut loading = std::pin::pin!(Model::load(&gpu, checkpoint, &mut progress));
    let model = std::future::poll_fn(|context| match options.cancel.is_cancelled() {
        true => Poll::Ready(Err(EngineError::Cancelled)),
        false => loading.as_mut().poll(context).map_err(EngineError::from),
    });
    let model = model.await?;
    checkpoint.release_pages();
    Ok(model)
}

/// The cache for a model, and the tokens it holds.
fn runtime(options: &OpenOptions, language: &Language, model: &Arc<Model>) -> Result<(Runtime, usize), EngineError> {
    let (gpu, config) = (model.gpu(), model.config());
    let free = gpu.memory_limit_bytes().map(|limit| limit.saturating_sub(gpu.held_bytes()));
    let context = options.context.unwrap_or_else(|| usual_context(config.max_positions, config.cache_bytes_per_token(options.cache), free));
    let defaults = RuntimeOptions::default();
    let runtime_options = RuntimeOptions {
        context,
        sequences: 1,
        chunk: options.chunk.unwrap_or(defaults.chunk),
        deterministic: options.deterministic,
        cache: options.cache,
        ..defaults
    };
    let mut runtime = Runtime::new(model.clone(), runtime_options)?;
    runtime.set_token_limit(language.tokens(config));
    let context = context.min(runtime.context());
    Ok((runtime, context))
}

/// The model's own limit, but no more than usual and no more than half of the free memory holds.
fn usual_context(max_positions: usize, bytes_per_token: u64, free_bytes: Option<u64>) -> usize {
    let fits = free_bytes.map_or(usize::MAX, |free| usize::try_from(free / 2 / bytes_per_token.max(1)).unwrap_or(usize::MAX));
    let usual = USUAL_CONTEXT.min(max_positions);
    usual.min(fits.max(LEAST_CONTEXT.min(usual)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_context_fits_model_and_memory() {
        assert_eq!(usual_context(163_840, 1000, None), 8192);
        assert_eq!(usual_context(640, 1000, None), 640);
        assert_eq!(usual_context(163_840, 1000, Some(8_000_000)), 4000);
        assert_eq!(usual_context(163_840, 1000, Some(0)), 256);
        assert_eq!(usual_context(100, 1000, Some(0)), 100);
    }
}
