//! The worker's reports, and what time brings.

use super::answer::{ROOM_TOKENS, TooLong, lineage};
use super::chat::MessageState;
use super::ids::{ChatId, MessageId};
use super::worker::{Job, ModelInfo, Report, Ticket};
use super::{App, Notice, Phase, Stage, answer};
use crate::engine::{Event, StopReason};
use crate::text::Role;

/// Jobs whose reports are still to come.
#[derive(Default)]
pub(super) struct Pending {
    /// Answers that were stopped here and may not have ended there.
    pub stopped: Vec<(Ticket, ChatId, MessageId)>,
    pub count: Option<Ticket>,
    pub count_due_ms: Option<i64>,
    pub scan: Option<Ticket>,
    pub adapters: Option<Ticket>,
    pub measures: bool,
    /// Files to attach, and the chat they were for.
    pub attach: Vec<(Ticket, ChatId)>,
    pub import: Vec<Ticket>,
    pub export: Vec<Ticket>,
    /// The note of where the data folder is.
    pub pointer: Option<Ticket>,
    /// An answer that broke with the engine, to go on once that works again.
    pub resume: Option<(ChatId, MessageId)>,
    /// The last answer that was resumed: one that breaks the engine again is left alone.
    pub resumed: Option<MessageId>,
}

/// Counting waits until typing pauses.
const COUNT_MS: i64 = 400;

impl App {
    /// Takes in what the worker did and what is due. Never blocks; call it before every frame.
    pub fn poll(&mut self) {
        for report in self.worker.poll() {
            self.report(report);
        }
        let now = self.now_ms();
        if self.undo.as_ref().is_some_and(|undo| undo.until_ms <= now) {
            self.undo = None;
        }
        self.keep_time();
        if self.pending.count_due_ms.is_some_and(|due| due <= now) {
            self.count_now();
        }
    }

    fn opening_is_at(&mut self, ticket: Ticket, stage: Stage) {
        if let Some(opening) = self.opening.as_mut().filter(|opening| opening.ticket == ticket) {
            opening.stage = stage;
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::TurnedOff { what, .. } => self.notify(Notice::TurnedOff { what }),
            Report::Measuring { ticket, done, total } => self.opening_is_at(ticket, Stage::Measuring(done, total)),
            Report::Loading { ticket, progress } => self.opening_is_at(ticket, Stage::Loading(progress)),
            Report::Opened { ticket, model } => self.opened(ticket, *model),
            Report::OpenFailed { ticket, reason, kept } => self.open_failed(ticket, Some(reason), kept),
            Report::OpenCancelled { ticket, kept } => self.open_failed(ticket, None, kept),
            Report::Unloaded => {
                self.model = None;
                self.context = None;
            }
            Report::Answer { ticket, event } => self.event(ticket, event),
            Report::TooLong { ticket, tokens, context, drop } => self.too_long(ticket, tokens, context, drop),
            Report::Broken { ticket, reason } => self.broken(ticket, reason),
            Report::Rebuilt { model } => self.rebuilt(*model),
            Report::RebuildFailed { reason } => {
                self.model = None;
                self.settle(|notice| matches!(notice, Notice::Rebuilding { .. }));
                self.notify(Notice::RebuildFailed { reason: reason.clone() });
                self.fail_all(&reason);
            }
            Report::Counted { ticket, tokens } => self.counted(ticket, tokens),
            Report::Context { context } => {
                if let Some(model) = &mut self.model {
                    model.context = context;
                }
            }
            Report::Memory { held_bytes } => {
                if let Some(model) = &mut self.model {
                    model.held_bytes = held_bytes;
                }
            }
            Report::Models { ticket, models } if self.pending.scan == Some(ticket) => {
                self.pending.scan = None;
                self.library.models = models;
                self.library.scanning = false;
            }
            Report::Models { .. } => {}
            Report::KernelTimes { times } => {
                self.kernel_times = times;
                self.pending.measures = false;
            }
            Report::Adapters { ticket, adapters } if self.pending.adapters == Some(ticket) => {
                self.pending.adapters = None;
                self.library.adapters = Some(adapters);
            }
            Report::Adapters { .. } => {}
            Report::Attached { ticket, result } => self.attached(ticket, result),
            Report::Read { ticket, path, result } => {
                if let Some(at) = self.pending.import.iter().position(|other| *other == ticket) {
                    self.pending.import.remove(at);
                    self.imported(&path, result);
                }
            }
            Report::Written { ticket, result, .. } if self.pending.pointer == Some(ticket) => {
                self.pending.pointer = None;
                if let Err(reason) = result {
                    self.notify(Notice::FileFailed { reason });
                }
            }
            Report::Written { ticket, path, result } => {
                if let Some(at) = self.pending.export.iter().position(|other| *other == ticket) {
                    self.pending.export.remove(at);
                    match result {
                        Ok(()) => self.notify(Notice::Exported { path }),
                        Err(reason) => self.notify(Notice::FileFailed { reason }),
                    }
                }
            }
            Report::Downloading { ticket, done_bytes, total_bytes } => self.opening_is_at(ticket, Stage::Download(done_bytes, total_bytes)),
            Report::Space { space, .. } => self.library.space = Some(space),
            // What is stored is told by a scan.
            Report::Added { .. } => {}
            Report::Removed { result, .. } => {
                if let Err(reason) = result {
                    self.notify(Notice::FileFailed { reason });
                }
                self.scan();
            }
        }
    }

    fn opened(&mut self, ticket: Ticket, model: ModelInfo) {
        // One that was given up too late runs all the same, until the next one is there.
        self.model = Some(model.clone());
        let Some(opening) = self.opening.take_if(|opening| opening.ticket == ticket) else { return };
        self.settings.model = Some(opening.model);
        if !model.is_default {
            self.settings.recent_models.retain(|path| *path != model.path);
            self.settings.recent_models.insert(0, model.path.clone());
            self.settings.recent_models.truncate(super::RECENT_MODELS);
        }
        self.library.memory_bytes = model.memory_limit_bytes.or(self.library.memory_bytes);
        self.settle(|notice| matches!(notice, Notice::ModelFailed { .. } | Notice::RebuildFailed { .. }));
        self.keep_settings();
        self.count_soon();
        self.dispatch();
    }

    fn open_failed(&mut self, ticket: Ticket, reason: Option<String>, kept: bool) {
        if !kept {
            self.model = None;
        }
        let Some(opening) = self.opening.take_if(|opening| opening.ticket == ticket) else { return };
        if let Some(reason) = &reason {
            self.notify(Notice::ModelFailed { name: opening.name, reason: reason.clone(), kept });
        }
        if self.model.is_none() {
            self.fail_all(reason.as_deref().unwrap_or("no model is open: choose one"));
        }
        self.dispatch();
    }

    /// All answers end: there is nothing to write them.
    fn fail_all(&mut self, reason: &str) {
        for answer in std::mem::take(&mut self.answers) {
            self.end_answer(&answer, MessageState::Failed(reason.to_string()), answer.stats);
        }
    }

    fn event(&mut self, ticket: Ticket, event: Event) {
        let now = self.now_ms();
        let Some(at) = self.answers.iter().position(|answer| answer.ticket == Some(ticket)) else {
            return self.late_event(ticket, event);
        };
        match &event {
            Event::Rebuild(reason) => return self.notify(Notice::Rebuilding { reason: reason.clone() }),
            // It went on, so the device works again.
            Event::Prefill { .. } | Event::Token(_) => self.mended(),
            _ => {}
        }
        let answer = &mut self.answers[at];
        let message = self.open.get_mut(&answer.chat).and_then(|chat| chat.message_mut(answer.message));
        match event {
            Event::Prefill { done, total } => {
                if matches!(answer.phase, Phase::Waiting | Phase::Reading { .. }) {
                    answer.phase = Phase::Reading { done, total };
                }
            }
            Event::Reasoning(text) => {
                answer.reasoning_since_ms.get_or_insert(now);
                answer.phase = Phase::Reasoning;
                if let Some(message) = message {
                    message.reasoning += &text;
                }
            }
            Event::Text(text) => {
                answer.phase = Phase::Writing;
                if let Some(message) = message {
                    message.content += &text;
                    if let Some(since) = answer.reasoning_since_ms.take() {
                        message.reasoning_ms = Some(message.reasoning_ms.unwrap_or(0) + now - since);
                    }
                }
            }
            Event::Token(_) | Event::Rebuild(_) => {}
            Event::Inside(mut token) => {
                // A continued answer is counted from its own beginning.
                token.reasoning_end += answer.begun.0;
                token.answer_end += answer.begun.1;
                self.inside.entry(answer.message).or_default().push(token);
            }
            Event::Stats(stats) => {
                answer.stats = Some(stats);
                if answer.chat == self.current {
                    self.context_from(stats.prompt_tokens + stats.new_tokens);
                }
            }
            Event::Done(summary) => {
                let answer = self.answers.remove(at);
                let state = match summary.stop {
                    StopReason::Eos | StopReason::Stop(_) => MessageState::Finished,
                    StopReason::Length => MessageState::Cut,
                    StopReason::Cancelled => MessageState::Stopped,
                };
                self.end_answer(&answer, state, Some(summary.stats));
                self.pending.resumed = None;
                self.dispatch();
            }
            Event::Failed(reason) => {
                let answer = self.answers.remove(at);
                self.end_answer(&answer, MessageState::Failed(reason), answer.stats);
                self.dispatch();
            }
        }
    }

    /// An answer that was stopped here: of what comes after, only its numbers count.
    fn late_event(&mut self, ticket: Ticket, event: Event) {
        let stats = match event {
            Event::Done(summary) => Some(summary.stats),
            Event::Failed(_) => None,
            _ => return,
        };
        let Some(at) = self.pending.stopped.iter().position(|(other, ..)| *other == ticket) else { return };
        let (_, chat, id) = self.pending.stopped.remove(at);
        if let Some(message) = self.open.get_mut(&chat).and_then(|chat| chat.message_mut(id))
            && stats.is_some()
        {
            message.stats = stats;
            self.keep_message(chat, id);
        }
    }

    fn too_long(&mut self, ticket: Ticket, tokens: usize, context: usize, drop: usize) {
        let Some(at) = self.answers.iter().position(|answer| answer.ticket == Some(ticket)) else { return };
        let answer = self.answers.remove(at);
        let reason = format!("the chat has {tokens} tokens but the context holds {context}");
        let parent = self.open.get(&answer.chat).and_then(|chat| chat.message(answer.message)?.parent);
        let drop = match self.open.get(&answer.chat) {
            Some(chat) => lineage(chat, parent).iter().take(drop).map(|message| message.id).collect(),
            None => vec![],
        };
        let wanted = (tokens + ROOM_TOKENS).next_multiple_of(1024);
        let raise_to = self.model.as_ref().and_then(|model| {
            let most = model.max_positions;
            let free = model.memory_limit_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(model.held_bytes));
            let more = (wanted.min(most) as u64).saturating_sub(context as u64).saturating_mul(model.inside.latent_bytes_per_token);
            (tokens < most && more <= free).then_some(wanted.min(most))
        });
        self.end_answer(&answer, MessageState::Failed(reason), None);
        let (chat, message, continues) = (answer.chat, answer.message, answer.continues);
        self.too_long = Some(TooLong { chat, message, tokens, context, drop, raise_to, continues });
        self.dispatch();
    }

    fn broken(&mut self, ticket: Option<Ticket>, reason: String) {
        self.notify(Notice::Rebuilding { reason: reason.clone() });
        let at = self.answers.iter().position(|answer| answer.ticket.is_some() && answer.ticket == ticket);
        if let Some(at) = at {
            let answer = self.answers.remove(at);
            self.end_answer(&answer, MessageState::Failed(reason), answer.stats);
            if self.pending.resumed != Some(answer.message) {
                self.pending.resume = Some((answer.chat, answer.message));
            }
        }
        if let Some(ticket) = ticket {
            self.pending.stopped.retain(|(other, ..)| *other != ticket);
        }
    }

    /// The engine that was being built anew works.
    fn mended(&mut self) {
        let mut reasons = self.notices.iter().filter_map(|(_, notice)| match notice {
            Notice::Rebuilding { reason } => Some(reason.clone()),
            _ => None,
        });
        let reason = reasons.next_back();
        self.settle(|notice| matches!(notice, Notice::Rebuilding { .. }));
        if let Some(reason) = reason {
            self.notify(Notice::Rebuilt { reason });
        }
    }

    fn rebuilt(&mut self, model: ModelInfo) {
        self.mended();
        self.model = Some(model);
        if let Some((chat, message)) = self.pending.resume.take()
            && self.open.get(&chat).is_some_and(|chat| chat.message(message).is_some_and(|message| !message.is_streaming()))
        {
            self.pending.resumed = Some(message);
            self.begin_answer(chat, message, true);
        }
        self.dispatch();
    }

    fn counted(&mut self, ticket: Ticket, tokens: usize) {
        if self.pending.count == Some(ticket) {
            self.pending.count = None;
            self.context_from(tokens);
        }
    }

    fn context_from(&mut self, tokens: usize) {
        let own = self.chat().head.settings.context;
        self.context = self.model.as_ref().map(|model| answer::ContextUse { tokens, context: own.unwrap_or(model.context) });
    }

    pub(super) fn count_soon(&mut self) {
        let due = self.now_ms() + COUNT_MS;
        self.pending.count_due_ms = Some(due);
    }

    /// Asks for the tokens of what is shown and of the draft.
    fn count_now(&mut self) {
        self.pending.count_due_ms = None;
        // While this chat is answered, the answer itself tells.
        let is_answering = self.answers.iter().any(|answer| answer.chat == self.current);
        if self.model.is_none() || is_answering {
            return;
        }
        let chat = self.chat();
        let mut messages = answer::conversation(chat, chat.leaf().map(|message| message.id));
        if !chat.head.draft.is_empty() {
            let draft = &chat.head.draft;
            messages.push(crate::text::Message { role: Role::User, content: answer::with_files(&draft.text, &draft.attachments) });
        }
        let thinking = chat.head.settings.thinking.wish();
        if messages.is_empty() {
            self.pending.count = None;
            return self.context_from(0);
        }
        let ticket = self.ticket();
        self.pending.count = Some(ticket);
        self.worker.send(Job::Count { ticket, messages, thinking });
    }
}
