//! The engine behind a worker, natively and in a tab: what a job does to it. A panic, a lost device or memory that ran out ends an
//! answer, never the worker: the engine is built anew from what it was opened with.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use super::backend::Backend;
use super::{Job, ModelInfo, Report, Ticket};
use crate::engine::{Cancel, Device, Engine, EngineError, Event, Input, OpenEvent, OpenOptions, Request};
use crate::text::Message;

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("internal: {}; please report this", text.unwrap_or_else(|| "something unexpected".into()).replace('\n', " "))
}

/// What a future gives, or what its panic said.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic_text(&*panic))),
    })
    .await
}

/// Drops something whose drop may itself panic.
fn drop_quietly<T>(thing: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(thing)));
}

/// Whether a job is of no use any more: of counts only the newest is.
pub fn is_stale<'a>(job: &Job, mut later: impl Iterator<Item = &'a Job>) -> bool {
    matches!(job, Job::Count { .. }) && later.any(|other| matches!(other, Job::Count { .. }))
}

/// An engine and how it is asked.
pub struct Hall<'a, B: Backend = Engine> {
    tell: &'a dyn Fn(Report),
    engine: Option<B>,
    /// How the running engine was opened.
    options: OpenOptions,
}

impl<'a, B: Backend> Hall<'a, B> {
    /// Without an engine yet; reports go to `tell`.
    pub fn new(tell: &'a dyn Fn(Report)) -> Self {
        Self { tell, engine: None, options: OpenOptions::default() }
    }

    /// Does a job for the engine; what it does to files is another's.
    pub async fn work(&mut self, job: Job) {
        let ticket = job.running().map(|(ticket, _)| ticket);
        let is_open = matches!(job, Job::Open { .. });
        if let Err(reason) = caught(self.job(job)).await {
            match ticket {
                Some(ticket) if is_open => {
                    let kept = self.engine.is_some();
                    (self.tell)(Report::OpenFailed { ticket, reason, kept });
                }
                ticket => self.rebuild(ticket, reason).await,
            }
        }
    }

    async fn job(&mut self, job: Job) {
        match job {
            Job::Open { ticket, options, cancel } => self.open(ticket, OpenOptions { cancel, ..options }).await,
            Job::Unload => {
                self.engine = None;
                (self.tell)(Report::Unloaded);
            }
            Job::Answer { ticket, request, context, cancel } => self.answer(ticket, request, context, &cancel).await,
            Job::Count { ticket, messages, thinking } => {
                // What cannot be counted cannot be asked either; the question will tell why.
                if let Some(Ok(tokens)) = self.engine.as_ref().map(|engine| engine.count(&messages, thinking)) {
                    (self.tell)(Report::Counted { ticket, tokens });
                }
            }
            Job::MeasureKernels => {
                let times = match &mut self.engine {
                    Some(engine) => engine.kernel_times().await.ok().flatten(),
                    None => None,
                };
                (self.tell)(Report::KernelTimes { times });
                self.look_after().await;
            }
            _ => {}
        }
    }

    /// Opens a model, on the running one's device if that suits. Where memory is known and suffices, the running one stays until the
    /// new one works. Else the new one's headers are checked first, the old one makes room, and is opened again should the new one fail.
    async fn open(&mut self, ticket: Ticket, options: OpenOptions) {
        let model = options.model.as_deref();
        if let Err(error) = B::check(model) {
            let kept = self.engine.is_some();
            return (self.tell)(Report::OpenFailed { ticket, reason: error.to_string(), kept });
        }
        let device = self.engine.as_ref().and_then(Backend::device);
        if let Some(beside) = self.beside(device.as_ref(), &options) {
            match self.open_now(ticket, device.clone(), beside).await {
                Ok(engine) => return self.install(ticket, engine, options),
                Err(error) if !error.is_out_of_memory() => return self.open_failed(ticket, &error),
                Err(_) => {}
            }
        }
        let had = self.engine.take().is_some();
        match self.open_now(ticket, device.clone(), options.clone()).await {
            Ok(engine) => self.install(ticket, engine, options),
            Err(error) => {
                if had {
                    let again = OpenOptions { cancel: Cancel::default(), ..self.options.clone() };
                    self.engine = B::open(device, again, &mut |_| ()).await.ok();
                }
                self.open_failed(ticket, &error);
            }
        }
    }

    /// How to open a model beside the running one, if that can be tried: a limit that is set holds for both together, as it does by
    /// itself where they share a device.
    fn beside(&self, device: Option<&Device>, options: &OpenOptions) -> Option<OpenOptions> {
        let info = self.engine.as_ref()?.info();
        info.memory_limit_bytes?;
        let mut beside = options.clone();
        if device.is_some_and(|device| device.suits(&options.gpu)) {
            return Some(beside);
        }
        if let Some(limit) = options.gpu.memory_bytes {
            beside.gpu.memory_bytes = Some(limit.checked_sub(info.held_bytes).filter(|&rest| rest > 0)?);
        }
        Some(beside)
    }

    async fn open_now(&self, ticket: Ticket, device: Option<Device>, options: OpenOptions) -> Result<B, EngineError> {
        let on_event = &mut |event: OpenEvent| match event {
            OpenEvent::TurnedOff(what) => (self.tell)(Report::TurnedOff { ticket, what: what.to_string() }),
            OpenEvent::Tune { done, total } => (self.tell)(Report::Measuring { ticket, done, total }),
            OpenEvent::Device(_) => {}
            OpenEvent::Load(progress) => (self.tell)(Report::Loading { ticket, progress }),
        };
        B::open(device, options, on_event).await
    }

    fn install(&mut self, ticket: Ticket, engine: B, options: OpenOptions) {
        let model = Box::new(engine.info());
        if let Some(old) = self.engine.replace(engine) {
            drop_quietly(old);
        }
        self.options = OpenOptions { cancel: Cancel::default(), ..options };
        (self.tell)(Report::Opened { ticket, model });
    }

    fn open_failed(&self, ticket: Ticket, error: &EngineError) {
        let kept = self.engine.is_some();
        (self.tell)(match error {
            EngineError::Cancelled => Report::OpenCancelled { ticket, kept },
            error => Report::OpenFailed { ticket, reason: error.to_string(), kept },
        });
    }

    async fn answer(&mut self, ticket: Ticket, request: Request, context: Option<usize>, cancel: &Cancel) {
        let failed = |reason: String| Report::Answer { ticket, event: Event::Failed(reason) };
        let Some(engine) = &mut self.engine else {
            return (self.tell)(failed("no model is open: choose one".into()));
        };
        let before = engine.info().context;
        let sized = engine.set_context(context.or(self.options.context));
        let now = engine.info().context;
        if now != before {
            (self.tell)(Report::Context { context: now });
        }
        if let Err(error) = sized {
            (self.tell)(failed(error.to_string()));
            return self.look_after().await;
        }
        let (input, thinking) = (request.input.clone(), request.thinking);
        let tell = self.tell;
        let on_event = &mut |event| match event {
            // What went wrong decides what is told.
            Event::Failed(_) => {}
            event => tell(Report::Answer { ticket, event }),
        };
        let result = engine.run(request, cancel, on_event).await;
        let held_bytes = engine.info().held_bytes;
        tell(Report::Memory { held_bytes });
        match result {
            Ok(_) => {}
            Err(EngineError::PromptTooLong { tokens, context }) if matches!(input, Input::Chat(_)) => {
                let Input::Chat(messages) = input else { return };
                let drop = surplus(engine, &messages, thinking, context);
                tell(Report::TooLong { ticket, tokens, context, drop });
            }
            Err(error) if engine.fault().is_some() => self.rebuild(Some(ticket), error.to_string()).await,
            Err(error) => tell(failed(error.to_string())),
        }
    }

    /// Builds the engine anew if its device broke.
    async fn look_after(&mut self) {
        if let Some(reason) = self.engine.as_ref().and_then(Backend::fault) {
            self.rebuild(None, reason).await;
        }
    }

    async fn rebuild(&mut self, ticket: Option<Ticket>, reason: String) {
        let Some(broken) = self.engine.take() else {
            if let Some(ticket) = ticket {
                (self.tell)(Report::Answer { ticket, event: Event::Failed(reason) });
            }
            return;
        };
        (self.tell)(Report::Broken { ticket, reason });
        drop_quietly(broken);
        let options = self.options.clone();
        let opened = caught(B::open(None, options, &mut |_| ())).await;
        match opened.and_then(|opened| opened.map_err(|error| error.to_string())) {
            Ok(engine) => {
                let model: Box<ModelInfo> = Box::new(engine.info());
                self.engine = Some(engine);
                (self.tell)(Report::Rebuilt { model });
            }
            Err(reason) => (self.tell)(Report::RebuildFailed { reason }),
        }
    }
}

/// How many of the oldest messages, the instructions apart, must be left out so that the rest fits with room for an answer.
/// As many as there are before the last question, if even that is too long; 0 if the last question alone does not fit at all.
fn surplus<B: Backend>(engine: &B, messages: &[Message], thinking: Option<bool>, context: usize) -> usize {
    let system = messages.iter().take_while(|message| message.role == crate::text::Role::System).count();
    let (kept, turns) = messages.split_at(system);
    let room = crate::app::ROOM_TOKENS.min(context / 4);
    let tokens = |drop: usize| {
        let rest: Vec<Message> = kept.iter().chain(&turns[drop..]).cloned().collect();
        engine.count(&rest, thinking).unwrap_or(usize::MAX)
    };
    // A conversation begins with a question.
    let starts: Vec<usize> = (1..turns.len()).filter(|&at| turns[at].role == crate::text::Role::User).collect();
    let first = starts.partition_point(|&start| tokens(start) > context - room);
    match starts.get(first).or(starts.last()) {
        Some(&start) if tokens(start) <= context => start,
        _ => 0,
    }
}

impl<B: Backend> Drop for Hall<'_, B> {
    fn drop(&mut self) {
        drop_quietly(self.engine.take());
    }
}
