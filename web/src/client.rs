//! The page's side of the engine's worker. What is about the user's files is done in the page itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fathom::app::worker::{ATTACHMENT_BYTES, IMPORT_BYTES, Job, Report, Ticket, Worker, attachment_of};
use fathom::engine::{Cancel, Event, OpenOptions};
use js_sys::{Object, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{ErrorEvent, MessageEvent};

use crate::page::{Page, words};

/// What came back and was not taken yet.
#[derive(Clone)]
struct Inbox {
    reports: Rc<RefCell<VecDeque<Report>>>,
    /// Why the worker died, if it did.
    death: Rc<RefCell<Option<String>>>,
    repaint: Rc<dyn Fn()>,
}

impl Inbox {
    fn put(&self, report: Report) {
        self.reports.borrow_mut().push_back(report);
        (self.repaint)();
    }
}

/// Ticket of the job that opens the last model again after the worker died.
const REVIVAL: Ticket = Ticket(u64::MAX >> 12);

pub struct Client {
    page: Rc<Page>,
    inbox: Inbox,
    worker: web_sys::Worker,
    /// It died, and no other one was begun.
    is_dead: bool,
    listeners: Vec<Closure<dyn Fn(JsValue)>>,
    running: Vec<(Ticket, Cancel)>,
    /// How the running model was opened, none after a revival that is not known to have worked, and what is being opened.
    opened: Option<OpenOptions>,
    opening: Option<(Ticket, OpenOptions)>,
    /// What a revival opens.
    revived: Option<OpenOptions>,
}

impl Client {
    pub fn new(page: Rc<Page>, repaint: Rc<dyn Fn()>) -> Self {
        let inbox = Inbox { reports: Rc::default(), death: Rc::default(), repaint };
        let worker = page.spawn();
        let mut client =
            Self { page, inbox, worker, is_dead: false, listeners: vec![], running: vec![], opened: None, opening: None, revived: None };
        client.listen();
        client
    }

    fn begin(&mut self) {
        self.worker = self.page.spawn();
        self.listen();
        self.is_dead = false;
    }

    fn listen(&mut self) {
        let inbox = self.inbox.clone();
        let message = Closure::<dyn Fn(JsValue)>::new(move |event: JsValue| {
            let data = event.unchecked_into::<MessageEvent>().data();
            let field = |name: &str| Reflect::get(&data, &name.into()).ok().and_then(|value| value.as_string());
            match (field("report"), field("fatal")) {
                (Some(report), _) => match serde_json::from_str(&report) {
                    Ok(report) => inbox.put(report),
                    Err(error) => *inbox.death.borrow_mut() = Some(format!("a report that cannot be read: {error}")),
                },
                (None, fatal) => *inbox.death.borrow_mut() = fatal,
            }
            (inbox.repaint)();
        });
        let inbox = self.inbox.clone();
        let error = Closure::<dyn Fn(JsValue)>::new(move |event: JsValue| {
            let text = event.dyn_ref::<ErrorEvent>().map(ErrorEvent::message).filter(|text| !text.is_empty());
            *inbox.death.borrow_mut() = Some(text.unwrap_or_else(|| "the engine's worker ended".into()));
            (inbox.repaint)();
        });
        self.worker.set_onmessage(Some(message.as_ref().unchecked_ref()));
        self.worker.set_onerror(Some(error.as_ref().unchecked_ref()));
        self.listeners = vec![message, error];
    }

    fn post(&self, fields: &[(&str, &JsValue)]) {
        let message = Object::new();
        for (name, value) in fields {
            // A plain object takes any field.
            let _ = Reflect::set(&message, &(*name).into(), value);
        }
        if let Err(error) = self.worker.post_message(&message) {
            *self.inbox.death.borrow_mut() = Some(words(&error));
        }
    }

    fn post_job(&mut self, job: &Job) {
        if self.is_dead {
            self.begin();
        }
        let Ok(text) = serde_json::to_string(job) else { return };
        let picked = match job {
            Job::Open { options, .. } => options.model.as_deref().and_then(Path::to_str).and_then(|path| self.page.files(path)),
            _ => None,
        };
        match picked {
            Some(files) => self.post(&[("job", &text.into()), ("files", &files)]),
            None => self.post(&[("job", &text.into())]),
        }
    }

    /// A worker that died took its engine along: a new one opens the same model; answers end with what they have.
    fn revive(&mut self, reason: String) {
        self.worker.terminate();
        self.inbox.reports.borrow_mut().clear();
        if self.revived.take().is_some() {
            // The new one died before it was of use: the next job begins another.
            self.is_dead = true;
            self.inbox.put(Report::RebuildFailed { reason });
            return;
        }
        self.begin();
        if let Some((ticket, _)) = self.opening.take() {
            self.opened = None;
            self.inbox.put(Report::OpenFailed { ticket, reason, kept: false });
            return;
        }
        let answering = self.running.first().map(|(ticket, _)| *ticket);
        for (ticket, _) in self.running.drain(..).skip(1) {
            self.inbox.put(Report::Answer { ticket, event: Event::Failed(reason.clone()) });
        }
        // Once: a model that kills its worker again is left alone until it is asked for.
        match self.opened.take() {
            Some(options) => {
                self.opening = None;
                self.revived = Some(options.clone());
                self.inbox.put(Report::Broken { ticket: answering, reason });
                self.post_job(&Job::Open { ticket: REVIVAL, options, cancel: Cancel::default() });
            }
            None => {
                self.worker.terminate();
                self.is_dead = true;
                self.inbox.put(Report::RebuildFailed { reason });
            }
        }
    }

    /// Keeps account of what a report means for this side.
    fn note(&mut self, report: Report) -> Report {
        match report {
            Report::Opened { ticket: REVIVAL, model } => {
                self.opened = self.revived.take();
                Report::Rebuilt { model }
            }
            Report::OpenFailed { ticket: REVIVAL, reason, .. } => {
                self.revived = None;
                Report::RebuildFailed { reason }
            }
            Report::Opened { ticket, model } => {
                if let Some((_, options)) = self.opening.take_if(|(opening, _)| *opening == ticket) {
                    self.opened = Some(options);
                }
                Report::Opened { ticket, model }
            }
            Report::OpenFailed { ticket, .. } | Report::OpenCancelled { ticket, .. } => {
                self.opening.take_if(|(opening, _)| *opening == ticket);
                self.running.retain(|(running, _)| *running != ticket);
                report
            }
            Report::Answer { ticket, event: Event::Done(_) | Event::Failed(_) } | Report::TooLong { ticket, .. } => {
                self.running.retain(|(running, _)| *running != ticket);
                report
            }
            report => report,
        }
    }

    fn read(&self, path: PathBuf, most: u64, make: impl FnOnce(PathBuf, Result<Vec<u8>, String>) -> Report + 'static) {
        let (page, inbox) = (self.page.clone(), self.inbox.clone());
        spawn_local(async move {
            let bytes = JsFuture::from(page.read(&path.to_string_lossy(), most as f64)).await;
            let bytes = bytes.map(|bytes| js_sys::Uint8Array::new(&bytes).to_vec()).map_err(|error| words(&error));
            inbox.put(make(path, bytes));
        });
    }
}

impl Worker for Client {
    fn send(&mut self, job: Job) {
        self.running.extend(job.running().map(|(ticket, cancel)| (ticket, cancel.clone())));
        match &job {
            Job::Open { ticket, options, .. } => self.opening = Some((*ticket, options.clone())),
            Job::Unload => self.opened = None,
            _ => {}
        }
        match job {
            Job::Attach { ticket, path } => self.read(path, ATTACHMENT_BYTES, move |path, bytes| {
                let result = bytes.and_then(|bytes| attachment_of(&path, bytes));
                Report::Attached { ticket, result }
            }),
            Job::Read { ticket, path } => self.read(path, IMPORT_BYTES, move |path, result| Report::Read { ticket, path, result }),
            Job::Write { ticket, path, bytes } => {
                self.page.save(&path.to_string_lossy(), &bytes);
                self.inbox.put(Report::Written { ticket, path, result: Ok(()) });
            }
            Job::Persist { ticket } => {
                let (page, worker) = (self.page.clone(), self.worker.clone());
                spawn_local(async move {
                    // Refused or granted: the space that is asked for next tells.
                    let _ = JsFuture::from(page.persist()).await;
                    if let Ok(job) = serde_json::to_string(&Job::Space { ticket }) {
                        let message = Object::new();
                        let _ = Reflect::set(&message, &"job".into(), &job.into());
                        let _ = worker.post_message(&message);
                    }
                });
            }
            job => self.post_job(&job),
        }
    }

    fn poll(&mut self) -> Vec<Report> {
        let cancelled: Vec<Ticket> = self.running.iter().filter(|(_, cancel)| cancel.is_cancelled()).map(|(ticket, _)| *ticket).collect();
        self.running.retain(|(ticket, _)| !cancelled.contains(ticket));
        for ticket in cancelled {
            self.post(&[("cancel", &(ticket.0 as f64).into())]);
        }
        let death = self.inbox.death.borrow_mut().take();
        let reports: Vec<Report> = self.inbox.reports.borrow_mut().drain(..).collect();
        let mut reports: Vec<Report> = reports.into_iter().map(|report| self.note(report)).collect();
        if let Some(reason) = death {
            self.revive(reason);
            reports.extend(self.inbox.reports.borrow_mut().drain(..));
        }
        reports
    }
}
