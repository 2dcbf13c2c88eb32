//! The worker's side: an engine that does the page's jobs, one after another, and tells what happens.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::task::{Poll, Waker};

use fathom::app::scan;
use fathom::app::worker::{Hall, Job, Report, Ticket, is_stale};
use fathom::engine::{Cancel, DEFAULT_MODEL, Engine};
use fathom::files;
use fathom::gpu::{GpuOptions, adapters};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;

/// Jobs that wait, and what can be given up.
#[derive(Default)]
struct Desk {
    jobs: RefCell<VecDeque<Job>>,
    waker: RefCell<Option<Waker>>,
    running: RefCell<Vec<(Ticket, Cancel)>>,
}

impl Desk {
    async fn next(&self) -> Job {
        std::future::poll_fn(|context| match self.jobs.borrow_mut().pop_front() {
            Some(job) => Poll::Ready(job),
            None => {
                *self.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// An engine that takes [`Job`]s as JSON and gives [`Report`]s as JSON.
#[wasm_bindgen]
pub struct EngineHost {
    desk: Rc<Desk>,
    report: js_sys::Function,
}

#[wasm_bindgen]
impl EngineHost {
    /// `report` is called with each report's text.
    #[wasm_bindgen(constructor)]
    pub fn new(report: js_sys::Function) -> Self {
        console_error_panic_hook::set_once();
        let desk = Rc::new(Desk::default());
        let host = Self { desk: desk.clone(), report: report.clone() };
        spawn_local(async move {
            let tell = |told: Report| tell(&report, &told);
            let mut hall = Hall::<Engine>::new(&tell);
            loop {
                let job = desk.next().await;
                if is_stale(&job, desk.jobs.borrow().iter()) {
                    continue;
                }
                let ticket = job.running().map(|(ticket, _)| ticket);
                hall.work(job).await;
                desk.running.borrow_mut().retain(|(running, _)| Some(*running) != ticket);
            }
        });
        host
    }

    /// Takes a job; returns at once.
    ///
    /// # Errors
    /// A text that is no job.
    pub fn send(&self, job: &str) -> Result<(), JsError> {
        let job: Job =
            serde_json::from_str(job).map_err(|error| JsError::new(&format!("job: expected one as JSON, found an error: {error}")))?;
        match job {
            Job::Scan { ticket, folders, paths } => tell(&self.report, &Report::Models { ticket, models: scan(&folders, &paths) }),
            Job::Adapters { ticket, backend } => {
                let report = self.report.clone();
                spawn_local(async move {
                    let adapters = adapters(&GpuOptions { backend, ..GpuOptions::default() }).await;
                    tell(&report, &Report::Adapters { ticket, adapters });
                });
            }
            job => {
                if let Some((ticket, cancel)) = job.running() {
                    self.desk.running.borrow_mut().push((ticket, cancel.clone()));
                }
                self.desk.jobs.borrow_mut().push_back(job);
                if let Some(waker) = self.desk.waker.take() {
                    waker.wake();
                }
            }
        }
        Ok(())
    }

    /// Gives up the job of a ticket, whether it runs or waits.
    pub fn cancel(&self, ticket: f64) {
        let ticket = Ticket(ticket as u64);
        self.desk.running.borrow().iter().filter(|(running, _)| *running == ticket).for_each(|(_, cancel)| cancel.cancel());
    }
}

fn tell(report: &js_sys::Function, told: &Report) {
    // Reports are made of text and numbers: what cannot be written does not occur, and nobody is left to hear of it.
    if let Ok(text) = serde_json::to_string(told) {
        let _ = report.call1(&JsValue::NULL, &text.into());
    }
}

/// Gives a file the path that jobs name it by.
#[wasm_bindgen]
pub fn mount(path: &str, blob: web_sys::Blob) {
    files::mount(Path::new(path), blob);
}

/// Takes a path, and all below it, away again.
#[wasm_bindgen]
pub fn unmount(path: &str) {
    files::unmount(Path::new(path));
}

/// Where the default model is looked for when a job names none.
#[wasm_bindgen]
pub fn default_model_path() -> String {
    format!("assets/{DEFAULT_MODEL}")
}
