//! The native worker: one thread owns the engine, another reads and writes files.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pollster::block_on;

use super::backend::Backend;
use super::files::Files;
use super::hall::{Hall, is_stale};
use super::{Job, Report, Worker};
use crate::engine::{Cancel, Engine};

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
        worker.engine = worker.begin("engine", move |jobs| work::<B>(&jobs, &|report| told.send(report)));
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
        if let Some((_, cancel)) = job.running() {
            self.running.push(cancel.clone());
            // Those long done are let go of.
            let surplus = self.running.len().saturating_sub(32);
            self.running.drain(..surplus);
        }
        let thread = if job.is_for_engine() { &self.engine } else { &self.files };
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

/// The engine's thread: one job after another, until the worker is gone.
fn work<B: Backend>(jobs: &Receiver<Job>, tell: &dyn Fn(Report)) {
    let mut hall = Hall::<B>::new(tell);
    let mut queue = VecDeque::new();
    while let Some(job) = next(&mut queue, jobs) {
        if !is_stale(&job, queue.iter()) {
            block_on(hall.work(job));
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
