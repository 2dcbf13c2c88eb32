//! The engine's thread over an engine that does what its model's name and its messages say.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::backend::Backend;
use super::*;
use crate::engine::{Device, EngineError, Input, OpenEvent, Stats, StopReason, Summary};
use crate::gpu::{GpuError, GpuOptions};
use crate::text::Role;

/// Engines alive now, and the most at once: tests that count hold this lock.
static ALIVE: AtomicU32 = AtomicU32::new(0);
static MOST_ALIVE: AtomicU32 = AtomicU32::new(0);
static COUNTING: Mutex<()> = Mutex::new(());
/// While set, no engine opens.
static NO_DEVICE: AtomicBool = AtomicBool::new(false);

struct Fake {
    name: String,
    context: Option<usize>,
    fault: Option<String>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

fn name(options: &OpenOptions) -> String {
    options.model.as_deref().map_or("default".into(), |path| path.to_string_lossy().into_owned())
}

fn broken(name: &str) -> EngineError {
    EngineError::NoDefaultModel { name: "broken", place: name.to_string() }
}

impl Backend for Fake {
    fn check(model: Option<&Path>) -> Result<(), EngineError> {
        match model.and_then(Path::to_str) {
            Some("bad header") => Err(broken("header")),
            Some("panics at once") => panic!("a header that nobody thought of"),
            _ => Ok(()),
        }
    }

    fn device(&self) -> Option<Device> {
        None
    }

    async fn open(_: Option<Device>, options: OpenOptions, on_event: &mut dyn FnMut(OpenEvent)) -> Result<Self, EngineError> {
        let name = name(&options);
        let load = |done_bytes| OpenEvent::Load(crate::model::LoadProgress { done_bytes, total_bytes: 100 });
        match name.as_str() {
            _ if NO_DEVICE.load(Ordering::SeqCst) => return Err(EngineError::Gpu(GpuError::NoAdapter { backend: String::new() })),
            "bad tensor" => return Err(broken("tensor")),
            "never fits" => return Err(EngineError::Gpu(GpuError::OutOfMemory(None))),
            "large" if ALIVE.load(Ordering::SeqCst) > 0 => return Err(EngineError::Gpu(GpuError::OutOfMemory(None))),
            "slow" => {
                while !options.cancel.is_cancelled() {
                    on_event(load(50));
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Err(EngineError::Cancelled);
            }
            _ => on_event(load(100)),
        }
        let alive = ALIVE.fetch_add(1, Ordering::SeqCst) + 1;
        MOST_ALIVE.fetch_max(alive, Ordering::SeqCst);
        Ok(Self { name, context: options.context, fault: None })
    }

    fn info(&self) -> ModelInfo {
        let info = ModelInfo::on_paper("small").unwrap();
        let memory_limit_bytes = info.memory_limit_bytes.filter(|_| self.name != "card");
        ModelInfo { name: self.name.clone(), context: self.context.unwrap_or(100), memory_limit_bytes, ..info }
    }

    async fn run(&mut self, request: Request, cancel: &Cancel, on_event: &mut dyn FnMut(Event)) -> Result<Summary, EngineError> {
        let Input::Chat(messages) = &request.input else { panic!("a chat") };
        let tokens = self.count(messages, None)?;
        if tokens > self.info().context {
            on_event(Event::Failed("too long".into()));
            return Err(EngineError::PromptTooLong { tokens, context: self.info().context });
        }
        on_event(Event::Text("some ".into()));
        let question = messages.last().map(|message| message.content.as_str()).unwrap_or_default();
        let failed = |error| Err(EngineError::Gpu(error));
        match question {
            "panic" => panic!("a bug"),
            "lose" => {
                self.fault = Some("the device was lost: gone".into());
                return failed(GpuError::Lost("gone".into()));
            }
            "fill" => return failed(GpuError::OutOfMemory(Some("8 GB".into()))),
            "forever" => {
                while !cancel.is_cancelled() {
                    on_event(Event::Text("word ".into()));
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            _ => {}
        }
        let stop = if cancel.is_cancelled() { StopReason::Cancelled } else { StopReason::Eos };
        let summary = Summary { stop, ids: vec![], text: String::new(), reasoning: String::new(), stats: Stats::default() };
        on_event(Event::Done(summary.clone()));
        Ok(summary)
    }

    /// A token a letter.
    fn count(&self, messages: &[Message], _thinking: Option<bool>) -> Result<usize, EngineError> {
        Ok(messages.iter().map(|message| message.content.len()).sum())
    }

    fn set_context(&mut self, context: Option<usize>) -> Result<(), EngineError> {
        if context.is_some_and(|context| context > 10_000) {
            return Err(EngineError::Gpu(GpuError::OutOfMemory(None)));
        }
        self.context = context;
        Ok(())
    }

    async fn kernel_times(&mut self) -> Result<Option<Vec<KernelTime>>, EngineError> {
        Ok(Some(vec![]))
    }

    fn fault(&self) -> Option<String> {
        self.fault.clone()
    }
}

struct Bench {
    worker: EngineWorker,
    tickets: u64,
}

impl Bench {
    fn new() -> Self {
        Self { worker: EngineWorker::over::<Fake>(Arc::new(|| ()), None), tickets: 0 }
    }

    fn open(&mut self, model: &str) -> Cancel {
        self.open_within(model, None)
    }

    fn open_within(&mut self, model: &str, memory_bytes: Option<u64>) -> Cancel {
        self.tickets += 1;
        let cancel = Cancel::default();
        let gpu = GpuOptions { memory_bytes, ..GpuOptions::default() };
        let options = OpenOptions { model: Some(model.into()), gpu, ..OpenOptions::default() };
        self.worker.send(Job::Open { ticket: Ticket(self.tickets), options, cancel: cancel.clone() });
        cancel
    }

    fn ask(&mut self, turns: &[&str], context: Option<usize>) -> Cancel {
        self.tickets += 1;
        let role = |at: usize| if at.is_multiple_of(2) { Role::User } else { Role::Assistant };
        let messages = turns.iter().enumerate().map(|(at, turn)| Message { role: role(at), content: (*turn).to_string() }).collect();
        let (request, cancel) = (Request::new(Input::Chat(messages)), Cancel::default());
        self.worker.send(Job::Answer { ticket: Ticket(self.tickets), request, context, cancel: cancel.clone() });
        cancel
    }

    /// Reports until one of them is wanted, all of them in words.
    fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut seen = vec![];
        for _ in 0..10_000 {
            for report in self.worker.poll() {
                seen.push(words(&report));
            }
            if seen.iter().any(|report| report.contains(wanted)) {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{wanted} was never reported, only {seen:?}");
    }
}

fn words(report: &Report) -> String {
    match report {
        Report::Opened { model, .. } => format!("opened {}", model.name),
        Report::OpenFailed { reason, kept, .. } => format!("failed kept={kept}: {reason}"),
        Report::OpenCancelled { kept, .. } => format!("cancelled kept={kept}"),
        Report::Answer { event: Event::Text(text), .. } => format!("text {text}"),
        Report::Answer { event: Event::Done(summary), .. } => format!("done {:?}", summary.stop),
        Report::Answer { event: Event::Failed(reason), .. } => format!("answer failed: {reason}"),
        Report::Broken { ticket, reason } => format!("broken {}: {reason}", ticket.is_some()),
        Report::Rebuilt { model } => format!("rebuilt {}", model.name),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_model_that_cannot_be_opened_leaves_the_running_one() {
    let _counting = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut bench = Bench::new();
    bench.open("bad header");
    bench.until("failed kept=false");
    bench.open("first");
    bench.until("opened first");
    for bad in ["bad header", "bad tensor", "never fits", "panics at once"] {
        bench.open(bad);
        bench.until("failed kept=true");
        bench.ask(&["hi"], None);
        bench.until("done Eos");
    }
    let cancel = bench.open("slow");
    bench.until("Loading");
    cancel.cancel();
    bench.until("cancelled kept=true");
    bench.ask(&["hi"], None);
    bench.until("done Eos");
}

#[test]
fn two_models_are_held_at_once_only_where_memory_is_known() {
    let _counting = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let most = |models: &[&str], memory: Option<u64>| {
        let mut bench = Bench::new();
        MOST_ALIVE.store(0, Ordering::SeqCst);
        for model in models {
            bench.open_within(model, memory);
            bench.until(&format!("opened {model}"));
        }
        bench.worker.send(Job::Unload);
        bench.until("Unloaded");
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
        MOST_ALIVE.load(Ordering::SeqCst)
    };
    assert_eq!(most(&["first", "second"], None), 2);
    assert_eq!(most(&["card", "second"], None), 1, "a card's memory is not known");
    assert_eq!(most(&["first", "second"], Some(1)), 1, "a limit holds for both");
    assert_eq!(most(&["first", "large"], None), 1, "the old one makes room");
}

#[test]
fn a_stop_acts_at_once_and_the_next_answer_works() {
    let _counting = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut bench = Bench::new();
    bench.open("first");
    let cancel = bench.ask(&["forever"], None);
    bench.until("text word");
    cancel.cancel();
    bench.until("done Cancelled");
    bench.ask(&["hi"], None);
    bench.until("done Eos");
    // The worker goes while an answer runs: it is ended and the thread with it.
    bench.ask(&["forever"], None);
    bench.until("text word");
    drop(bench);
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
}

#[test]
fn what_breaks_the_engine_builds_it_anew() {
    let _counting = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::panic::set_hook(Box::new(|_| ()));
    let mut bench = Bench::new();
    bench.open("first");
    for (question, reason) in
        [("panic", "broken true: internal: a bug; please report this"), ("lose", "broken true: the device was lost: gone")]
    {
        bench.ask(&[question], None);
        let seen = bench.until("rebuilt first");
        assert!(seen.iter().any(|report| report == reason), "{seen:?}");
        assert!(seen.iter().any(|report| report == "text some "), "what was written was told: {seen:?}");
        bench.ask(&["hi"], None);
        bench.until("done Eos");
    }
    // Memory that ran out without breaking the device fails the answer alone.
    bench.ask(&["fill"], None);
    let seen = bench.until("answer failed: the device ran out of memory (8 GB)");
    assert!(!seen.iter().any(|report| report.starts_with("broken")), "{seen:?}");
    // No way back: that is told, and the next opening may work again.
    NO_DEVICE.store(true, Ordering::SeqCst);
    bench.ask(&["lose"], None);
    bench.until("RebuildFailed");
    bench.ask(&["hi"], None);
    bench.until("answer failed: no model is open");
    NO_DEVICE.store(false, Ordering::SeqCst);
    bench.open("first");
    bench.until("opened first");
    let _ = std::panic::take_hook();
}

#[test]
fn what_is_too_long_is_told_with_what_would_have_to_go() {
    let _counting = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut bench = Bench::new();
    bench.open("first");
    let twenty = "x".repeat(20);
    // Five pairs and a question of 20 letters each: 220 do not fit 100, 60 do, with room for an answer.
    bench.ask(&[twenty.as_str(); 11], None);
    let seen = bench.until("TooLong");
    assert!(seen.iter().any(|report| report.contains("tokens: 220, context: 100, drop: 8")), "{seen:?}");
    assert!(!seen.iter().any(|report| report.contains("answer failed")), "{seen:?}");
    // The last question alone fits, though without much room.
    bench.ask(&[&twenty, &twenty, &"x".repeat(95)], None);
    bench.until("drop: 2");
    bench.ask(&[&twenty, &twenty, &"x".repeat(101)], None);
    bench.until("drop: 0");
    // Another context for one chat, and back.
    bench.ask(&[twenty.as_str(); 11], Some(1000));
    assert!(bench.until("done Eos").contains(&"Context { context: 1000 }".to_string()));
    bench.ask(&["hi"], None);
    assert!(bench.until("done Eos").contains(&"Context { context: 100 }".to_string()));
    bench.ask(&["hi"], Some(1_000_000));
    bench.until("answer failed: the device ran out of memory");
}

#[test]
fn only_the_newest_count_is_answered() {
    let _counting = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut bench = Bench::new();
    bench.open("first");
    let cancel = bench.ask(&["forever"], None);
    bench.until("text word");
    for tickets in 100..103 {
        let messages = vec![Message { role: Role::User, content: "x".repeat(tickets as usize) }];
        bench.worker.send(Job::Count { ticket: Ticket(tickets), messages, thinking: None });
    }
    cancel.cancel();
    let seen = bench.until("Counted { ticket: Ticket(102), tokens: 102 }");
    assert_eq!(seen.iter().filter(|report| report.starts_with("Counted")).count(), 1, "{seen:?}");
}

#[test]
fn files_go_beside_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let _counting = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut bench = Bench::new();
    bench.open("first");
    let cancel = bench.ask(&["forever"], None);
    bench.until("text word");
    let path = folder.path().join("a.md");
    bench.worker.send(Job::Write { ticket: Ticket(50), path: path.clone(), bytes: b"words".to_vec() });
    bench.until("Written { ticket: Ticket(50)");
    bench.worker.send(Job::Read { ticket: Ticket(51), path: path.clone() });
    bench.until("Read { ticket: Ticket(51)");
    bench.worker.send(Job::Attach { ticket: Ticket(52), path });
    bench.until("Attached { ticket: Ticket(52), result: Ok(Attachment { name: \"a.md\", text: \"words\" })");
    bench.worker.send(Job::Scan { ticket: Ticket(53), folders: vec![folder.path().into()], paths: vec![] });
    bench.until("Models { ticket: Ticket(53)");
    cancel.cancel();
    bench.until("done Cancelled");
}
