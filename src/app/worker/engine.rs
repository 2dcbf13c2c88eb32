//! The native worker: one thread owns the engine, another reads and writes files. A panic, a lost device or memory that ran
//! out ends an answer, never a thread: the engine is built anew from what it was opened with.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::files::Files;
use super::{Job, ModelInfo, Report, Ticket, Worker};
use crate::engine::{Cancel, Engine, EngineError, Event, Input, OpenEvent, OpenOptions, Request};
use crate::text::Message;

/// How long the end of the program waits for a step that still runs.
const FAREWELL: Duration = Duration::from_secs(3);

/// Asks the window for a frame, from any thread.
pub type Repaint = Arc<dyn Fn() + Send + Sync>;

/// Where threads put their reports.
#[derive(Clone)]
pub(super) struct Reports {
    sender: Sender<Report>,
    repaint: Repaint,
}

impl Reports {
    pub fn send(&self, report: Report) {
        // An app that is gone needs no report.
        if self.sender.send(report).is_ok() {
            (self.repaint)();
        }
    }

    /// Asks for a frame without a report.
    pub fn wake(&self) {
        (self.repaint)();
    }
}

/// Threads for the engine and for files.
pub struct EngineWorker {
    engine: Option<Sender<Job>>,
    files: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    reports: Receiver<Report>,
    /// To report that a thread could not be begun.
    own: Reports,
    /// Of whatever runs: ended when the app is.
    running: Vec<Cancel>,
}

impl EngineWorker {
    /// Begins the threads; nothing is opened yet. When a file of `watched` changes, a frame is asked for.
    pub fn new(repaint: Repaint, watched: Option<PathBuf>) -> Self {
        Self::over::<Engine>(repaint, watched)
    }

    pub(super) fn over<B: Backend + 'static>(repaint: Repaint, watched: Option<PathBuf>) -> Self {
        let (sender, reports) = channel();
        let own = Reports { sender, repaint };
        let mut worker = Self { engine: None, files: None, threads: vec![], reports, own: own.clone(), running: vec![] };
        let told = own.clone();
        worker.engine = worker.begin("engine", move |jobs| Hall::<B>::new(told).work(&jobs));
        worker.files = worker.begin("files", move |jobs| Files::new(own, watched).work(&jobs));
        worker
    }

    fn begin(&mut self, name: &str, work: impl FnOnce(Receiver<Job>) + Send + 'static) -> Option<Sender<Job>> {
        let (jobs, taken) = channel();
        match std::thread::Builder::new().name(format!("fathom-{name}")).spawn(move || work(taken)) {
            Ok(thread) => {
                self.threads.push(thread);
                Some(jobs)
            }
            Err(error) => {
                self.own.send(Report::RebuildFailed { reason: format!("the {name} thread: {error}") });
                None
            }
        }
    }
}

impl Worker for EngineWorker {
    fn send(&mut self, job: Job) {
        self.running.retain(|cancel| !cancel.is_cancelled());
        if let Job::Open { cancel, .. } | Job::Answer { cancel, .. } = &job {
            self.running.push(cancel.clone());
            // Those long done are let go of.
            let surplus = self.running.len().saturating_sub(32);
            self.running.drain(..surplus);
        }
        let thread = match job {
            Job::Open { .. } | Job::Unload | Job::Answer { .. } | Job::Count { .. } | Job::MeasureKernels => &self.engine,
            Job::Scan { .. } | Job::Adapters { .. } | Job::Attach { .. } | Job::Read { .. } | Job::Write { .. } => &self.files,
        };
        if let Some(thread) = thread {
            // A thread ends only with the worker.
            let _ = thread.send(job);
        }
    }

    fn poll(&mut self) -> Vec<Report> {
        self.reports.try_iter().collect()
    }
}

impl Drop for EngineWorker {
    /// Ends what runs and waits a little, so that no driver is still at work when the program ends.
    fn drop(&mut self) {
        self.running.iter().for_each(Cancel::cancel);
        (self.engine, self.files) = (None, None);
        let until = Instant::now() + FAREWELL;
        while self.threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("internal: {}; please report this", text.unwrap_or_else(|| "something unexpected".into()).replace('\n', " "))
}

/// Drops something whose drop may itself panic.
fn drop_quietly<T>(thing: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(thing)));
}

/// The engine's thread.
struct Hall<B> {
    reports: Reports,
    engine: Option<B>,
    /// How the running engine was opened.
    options: OpenOptions,
}

impl<B: Backend> Hall<B> {
    fn new(reports: Reports) -> Self {
        Self { reports, engine: None, options: OpenOptions::default() }
    }

    fn work(mut self, jobs: &Receiver<Job>) {
        let mut queue = VecDeque::new();
        while let Some(job) = next(&mut queue, jobs) {
            // Only the newest count is of use.
            let is_stale = matches!(job, Job::Count { .. }) && queue.iter().any(|other| matches!(other, Job::Count { .. }));
            if is_stale {
                continue;
            }
            let ticket = match &job {
                Job::Open { ticket, .. } | Job::Answer { ticket, .. } => Some(*ticket),
                _ => None,
            };
            let is_open = matches!(job, Job::Open { .. });
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.job(job))) {
                let reason = panic_text(&*panic);
                match ticket {
                    Some(ticket) if is_open => {
                        let kept = self.engine.is_some();
                        self.reports.send(Report::OpenFailed { ticket, reason, kept });
                    }
                    ticket => self.rebuild(ticket, reason),
                }
            }
        }
        drop_quietly(self.engine.take());
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::Open { ticket, options, cancel } => self.open(ticket, OpenOptions { cancel, ..options }),
            Job::Unload => {
                self.engine = None;
                self.reports.send(Report::Unloaded);
            }
            Job::Answer { ticket, request, context, cancel } => self.answer(ticket, request, context, &cancel),
            Job::Count { ticket, messages, thinking } => {
                // What cannot be counted cannot be asked either; the question will tell why.
                if let Some(Ok(tokens)) = self.engine.as_ref().map(|engine| engine.count(&messages, thinking)) {
                    self.reports.send(Report::Counted { ticket, tokens });
                }
            }
            Job::MeasureKernels => {
                let times = self.engine.as_mut().map(Backend::kernel_times).and_then(Result::ok).flatten();
                self.reports.send(Report::KernelTimes { times });
                self.look_after();
            }
            Job::Scan { .. } | Job::Adapters { .. } | Job::Attach { .. } | Job::Read { .. } | Job::Write { .. } => {}
        }
    }

    /// Opens a model. Where memory is known and suffices, the running one stays until the new one works. Else the new one's
    /// headers are checked first, the old one makes room, and is opened again should the new one fail.
    fn open(&mut self, ticket: Ticket, options: OpenOptions) {
        let model = options.model.as_deref();
        if let Err(error) = B::check(model) {
            let kept = self.engine.is_some();
            return self.reports.send(Report::OpenFailed { ticket, reason: error.to_string(), kept });
        }
        if let Some(beside) = self.beside(&options) {
            match self.open_now(ticket, beside) {
                Ok(engine) => return self.install(ticket, engine, options),
                Err(error) if !error.is_out_of_memory() => return self.open_failed(ticket, &error),
                Err(_) => {}
            }
        }
        let had = self.engine.take().is_some();
        match self.open_now(ticket, options.clone()) {
            Ok(engine) => self.install(ticket, engine, options),
            Err(error) => {
                if had {
                    let again = OpenOptions { cancel: Cancel::default(), ..self.options.clone() };
                    self.engine = B::open(again, &mut |_| ()).ok();
                }
                self.open_failed(ticket, &error);
            }
        }
    }

    /// How to open a model beside the running one, if that can be tried: a limit that is set holds for both together.
    fn beside(&self, options: &OpenOptions) -> Option<OpenOptions> {
        let info = self.engine.as_ref()?.info();
        info.memory_limit_bytes?;
        let mut beside = options.clone();
        if let Some(limit) = options.gpu.memory_bytes {
            beside.gpu.memory_bytes = Some(limit.checked_sub(info.held_bytes).filter(|&rest| rest > 0)?);
        }
        Some(beside)
    }

    fn open_now(&self, ticket: Ticket, options: OpenOptions) -> Result<B, EngineError> {
        let on_event = &mut |event: OpenEvent| match event {
            OpenEvent::TurnedOff(what) => self.reports.send(Report::TurnedOff { ticket, what: what.to_string() }),
            OpenEvent::Device(_) => {}
            OpenEvent::Load(progress) => self.reports.send(Report::Loading { ticket, progress }),
        };
        B::open(options, on_event)
    }

    fn install(&mut self, ticket: Ticket, engine: B, options: OpenOptions) {
        let model = Box::new(engine.info());
        if let Some(old) = self.engine.replace(engine) {
            drop_quietly(old);
        }
        self.options = OpenOptions { cancel: Cancel::default(), ..options };
        self.reports.send(Report::Opened { ticket, model });
    }

    fn open_failed(&self, ticket: Ticket, error: &EngineError) {
        let kept = self.engine.is_some();
        self.reports.send(match error {
            EngineError::Cancelled => Report::OpenCancelled { ticket, kept },
            error => Report::OpenFailed { ticket, reason: error.to_string(), kept },
        });
    }

    fn answer(&mut self, ticket: Ticket, request: Request, context: Option<usize>, cancel: &Cancel) {
        let failed = |reason: String| Report::Answer { ticket, event: Event::Failed(reason) };
        let Some(engine) = &mut self.engine else {
            return self.reports.send(failed("no model is open: choose one".into()));
        };
        let before = engine.info().context;
        let sized = engine.set_context(context.or(self.options.context));
        let now = engine.info().context;
        if now != before {
            self.reports.send(Report::Context { context: now });
        }
        if let Err(error) = sized {
            self.reports.send(failed(error.to_string()));
            return self.look_after();
        }
        let (input, thinking) = (request.input.clone(), request.thinking);
        let reports = &self.reports;
        let result = engine.run(request, cancel, &mut |event| match event {
            // What went wrong decides what is told.
            Event::Failed(_) => {}
            event => reports.send(Report::Answer { ticket, event }),
        });
        let held_bytes = engine.info().held_bytes;
        reports.send(Report::Memory { held_bytes });
        match result {
            Ok(_) => {}
            Err(EngineError::PromptTooLong { tokens, context }) if matches!(input, Input::Chat(_)) => {
                let Input::Chat(messages) = input else { return };
                let drop = surplus(engine, &messages, thinking, context);
                reports.send(Report::TooLong { ticket, tokens, context, drop });
            }
            Err(error) if engine.fault().is_some() => self.rebuild(Some(ticket), error.to_string()),
            Err(error) => reports.send(failed(error.to_string())),
        }
    }

    /// Builds the engine anew if its device broke.
    fn look_after(&mut self) {
        if let Some(reason) = self.engine.as_ref().and_then(Backend::fault) {
            self.rebuild(None, reason);
        }
    }

    fn rebuild(&mut self, ticket: Option<Ticket>, reason: String) {
        let Some(broken) = self.engine.take() else {
            if let Some(ticket) = ticket {
                self.reports.send(Report::Answer { ticket, event: Event::Failed(reason) });
            }
            return;
        };
        self.reports.send(Report::Broken { ticket, reason });
        drop_quietly(broken);
        let options = self.options.clone();
        let opened = catch_unwind(AssertUnwindSafe(|| B::open(options, &mut |_| ()).map_err(|error| error.to_string())));
        match opened.unwrap_or_else(|panic| Err(panic_text(&*panic))) {
            Ok(engine) => {
                let model: Box<ModelInfo> = Box::new(engine.info());
                self.engine = Some(engine);
                self.reports.send(Report::Rebuilt { model });
            }
            Err(reason) => self.reports.send(Report::RebuildFailed { reason }),
        }
    }
}

/// The next job; none when the worker is gone, whatever is left to do.
fn next(queue: &mut VecDeque<Job>, jobs: &Receiver<Job>) -> Option<Job> {
    if queue.is_empty() {
        queue.push_back(jobs.recv().ok()?);
    }
    loop {
        match jobs.try_recv() {
            Ok(job) => queue.push_back(job),
            Err(std::sync::mpsc::TryRecvError::Empty) => return queue.pop_front(),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return None,
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
