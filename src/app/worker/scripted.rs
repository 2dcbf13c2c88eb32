//! A worker whose reports a test writes: nothing happens that the script does not say.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Job, ModelInfo, Report, Ticket, Worker};
use crate::engine::{Event, ModelInside, Stats, StopReason, Summary};
use crate::gpu::Caps;
use crate::kernels::CacheFormat;
use crate::model::ModelConfig;
use crate::sampler::Sampling;

#[derive(Default)]
struct Shared {
    jobs: Vec<Job>,
    reports: VecDeque<Report>,
}

/// The app's end.
pub struct ScriptedWorker(Arc<Mutex<Shared>>);

/// The test's end.
#[derive(Clone)]
pub struct Script(Arc<Mutex<Shared>>);

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScriptedWorker {
    pub fn new() -> (Self, Script) {
        let shared = Arc::new(Mutex::new(Shared::default()));
        (Self(shared.clone()), Script(shared))
    }
}

impl Worker for ScriptedWorker {
    fn send(&mut self, job: Job) {
        lock(&self.0).jobs.push(job);
    }

    fn poll(&mut self) -> Vec<Report> {
        lock(&self.0).reports.drain(..).collect()
    }
}

impl Script {
    /// What the app asked for since the last call.
    pub fn jobs(&self) -> Vec<Job> {
        std::mem::take(&mut lock(&self.0).jobs)
    }

    /// The next poll finds this.
    pub fn report(&self, report: Report) {
        lock(&self.0).reports.push_back(report);
    }

    /// Takes the first job that `wanted` accepts; the others stay.
    pub fn take<T>(&self, wanted: impl Fn(&Job) -> Option<T>) -> Option<T> {
        let mut shared = lock(&self.0);
        let (at, found) = shared.jobs.iter().enumerate().find_map(|(at, job)| Some((at, wanted(job)?)))?;
        shared.jobs.remove(at);
        Some(found)
    }

    /// Opens the model that was asked for; false if none was.
    pub fn open(&self, model: ModelInfo) -> bool {
        let ticket = self.take(|job| if let Job::Open { ticket, .. } = job { Some(*ticket) } else { None });
        ticket.map(|ticket| self.report(Report::Opened { ticket, model: Box::new(model) })).is_some()
    }

    /// The next answer that was asked for.
    pub fn next_answer(&self) -> Option<(Ticket, crate::engine::Request)> {
        self.take(|job| if let Job::Answer { ticket, request, .. } = job { Some((*ticket, request.clone())) } else { None })
    }

    pub fn event(&self, ticket: Ticket, event: Event) {
        self.report(Report::Answer { ticket, event });
    }

    pub fn text(&self, ticket: Ticket, text: &str) {
        self.event(ticket, Event::Text(text.into()));
    }

    pub fn reasoning(&self, ticket: Ticket, text: &str) {
        self.event(ticket, Event::Reasoning(text.into()));
    }

    /// Ends an answer.
    pub fn done(&self, ticket: Ticket, stop: StopReason, stats: Stats) {
        let summary = Summary { stop, ids: vec![], text: String::new(), reasoning: String::new(), stats };
        self.event(ticket, Event::Done(summary));
    }

    /// Answers the next request with `text` at once; false if there is none.
    pub fn answer(&self, text: &str) -> bool {
        let Some((ticket, _)) = self.next_answer() else { return false };
        self.text(ticket, text);
        let stats = Stats { prompt_tokens: 12, reused_tokens: 0, new_tokens: 8, first_token_secs: 0.4, decode_secs: 0.5 };
        self.done(ticket, StopReason::Eos, stats);
        true
    }
}

impl ModelInfo {
    /// A small Mixture-of-Experts model that exists only on paper, for tests and pictures; none for an unknown shape.
    pub fn on_paper(shape: &str) -> Option<Self> {
        let config = ModelConfig::named_shape(shape)?;
        let weight_bytes = config.parameters() / 2;
        let caps = Caps {
            adapter: "Paper GPU".into(),
            backend: "Vulkan".into(),
            driver: "paper 1.0".into(),
            is_cpu: false,
            subgroups: true,
            coop: vec![],
            f16: false,
            timestamps: true,
            timestamp_period_ns: 1.0,
            images: false,
            barriers: true,
            max_image_rows: 16384,
            subgroup_min: 32,
            subgroup_max: 32,
            max_binding_bytes: 2 << 30,
            max_buffer_bytes: 4 << 30,
            max_workgroups: 65535,
            max_shared_bytes: 32 << 10,
            uniform_alignment: 256,
        };
        Some(Self {
            path: PathBuf::from("/models").join(shape),
            name: shape.to_string(),
            is_default: false,
            architecture: config.model_type.clone(),
            inside: ModelInside::of(&config, CacheFormat::default()),
            max_positions: config.max_positions,
            caps,
            context: 4096,
            weight_bytes,
            held_bytes: weight_bytes + (64 << 20),
            memory_limit_bytes: Some(8 << 30),
            default_sampling: Sampling { temperature: 0.6, top_p: 0.95, ..Sampling::default() },
            reasons: true,
            thinking_is_a_choice: true,
        })
    }
}
