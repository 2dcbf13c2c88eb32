//! From a chat to a request: what the model reads, in which context, and how far the answer is.

use super::chat::{Attachment, Chat, Message, MessageState};
use super::ids::{ChatId, MessageId};
use super::worker::{Job, Ticket};
use super::{App, ModelRef};
use crate::engine::{Begun, Cancel, Input, Request, Stats};
use crate::sampler::Sampling;
use crate::text::{self, Role};

/// An answer being written, or waiting to be.
#[derive(Clone, Debug)]
pub struct Answering {
    pub chat: ChatId,
    pub message: MessageId,
    pub phase: Phase,
    pub started_ms: i64,
    /// The newest numbers.
    pub stats: Option<Stats>,
    /// Goes on after what the message holds.
    pub(super) continues: bool,
    /// Bytes of reasoning and answer that it goes on after.
    pub(super) begun: (usize, usize),
    pub(super) ticket: Option<Ticket>,
    pub(super) cancel: Cancel,
    pub(super) saved_ms: i64,
    /// When its reasoning began.
    pub(super) reasoning_since_ms: Option<i64>,
}

/// How far an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// For the model to be opened, or for another answer to end.
    Waiting,
    /// The prompt is read, in tokens.
    Reading {
        done: usize,
        total: usize,
    },
    Reasoning,
    Writing,
}

/// How full a context is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContextUse {
    pub tokens: usize,
    pub context: usize,
}

impl ContextUse {
    /// Little room is left: an eighth of the context.
    pub fn is_near(self) -> bool {
        self.tokens + self.context / 8 > self.context
    }

    pub fn is_full(self) -> bool {
        self.tokens >= self.context
    }
}

/// A chat that is longer than its context, and what can be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TooLong {
    pub chat: ChatId,
    /// The answer that was wanted.
    pub message: MessageId,
    pub tokens: usize,
    pub context: usize,
    /// What dropping would leave out, oldest first; empty when even the last question alone is too long.
    pub drop: Vec<MessageId>,
    /// A context that would do and that model and memory allow.
    pub raise_to: Option<usize>,
    pub(super) continues: bool,
}

/// Room for the answer when a context is raised or messages are dropped.
pub(super) const ROOM_TOKENS: usize = 512;

/// A question with the text of its files before it.
pub(super) fn with_files(question: &str, files: &[Attachment]) -> String {
    files.iter().map(fenced).chain([question.to_string()]).collect()
}

/// A file between fences longer than any in it.
pub(super) fn fenced(file: &Attachment) -> String {
    let longest = file.text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let end = if file.text.ends_with('\n') { "" } else { "\n" };
    format!("{}\n{fence}\n{}{end}{fence}\n\n", file.name, file.text)
}

/// Messages from `context_start` (or the root) to `last`, oldest first.
pub(super) fn lineage(chat: &Chat, last: Option<MessageId>) -> Vec<&Message> {
    let mut lineage = vec![];
    let mut next = last;
    while let Some(message) = next.and_then(|id| chat.message(id)) {
        lineage.push(message);
        if chat.head.context_start == Some(message.id) {
            break;
        }
        next = message.parent;
    }
    lineage.reverse();
    lineage
}

/// What the model reads before it answers: the instructions and the turns up to `last`.
pub(super) fn conversation(chat: &Chat, last: Option<MessageId>) -> Vec<text::Message> {
    let system = &chat.head.settings.system;
    let system = (!system.trim().is_empty()).then(|| text::Message { role: Role::System, content: system.clone() });
    let turns = lineage(chat, last)
        .into_iter()
        .map(|message| text::Message { role: message.role, content: with_files(&message.content, &message.attachments) });
    system.into_iter().chain(turns).collect()
}

impl App {
    /// Begins an answer in `message`, which lies in the tree already. It waits for its turn and for a model.
    pub(super) fn begin_answer(&mut self, chat: ChatId, message: MessageId, continues: bool) {
        let now = self.now_ms();
        if let Some(message) = self.open.get_mut(&chat).and_then(|chat| chat.message_mut(message)) {
            message.state = MessageState::Streaming;
            message.updated_ms = now;
        }
        self.answers.push(Answering {
            chat,
            message,
            phase: Phase::Waiting,
            started_ms: now,
            stats: None,
            continues,
            begun: (0, 0),
            ticket: None,
            cancel: Cancel::default(),
            saved_ms: now,
            reasoning_since_ms: None,
        });
        self.keep_message(chat, message);
        if self.model.is_none() && self.opening.is_none() {
            let model = self.settings.model.clone().unwrap_or(ModelRef::Default);
            self.open_model(model);
        }
        self.dispatch();
    }

    /// Gives the worker the first waiting answer, if it has none and there is a model.
    pub(super) fn dispatch(&mut self) {
        let Some(info) = &self.model else { return };
        if self.opening.is_some() || self.answers.iter().any(|answer| answer.ticket.is_some()) {
            return;
        }
        let Some(answer) = self.answers.first() else { return };
        let (chat_id, id, continues, cancel) = (answer.chat, answer.message, answer.continues, answer.cancel.clone());
        let (name, recommended) = (info.name.clone(), info.default_sampling);
        let Some(chat) = self.open.get_mut(&chat_id) else { return };
        let Some(message) = chat.message(id) else { return };
        if continues {
            self.answers[0].begun = (message.reasoning.len(), message.content.len());
        } else {
            self.inside.remove(&id);
        }
        let begun = continues.then(|| Begun { reasoning: message.reasoning.clone(), text: message.content.clone() });
        let messages = conversation(chat, message.parent);
        let settings = chat.head.settings.clone();
        // An answer that goes on keeps its own seed, so that it can be told how it was made.
        let seed = message.sampling.filter(|_| continues).map(|sampling| sampling.seed);
        let sampling: Sampling = settings.sampling(recommended, || seed.unwrap_or_else(super::ids::short_chance));
        if let Some(message) = chat.message_mut(id) {
            message.model = Some(name);
            message.sampling = Some(sampling);
        }
        let request = Request {
            sampling,
            max_tokens: settings.max_tokens,
            thinking: settings.thinking.wish(),
            begun,
            watch: self.settings.inside,
            ..Request::new(Input::Chat(messages))
        };
        let ticket = self.ticket();
        self.answers[0].ticket = Some(ticket);
        self.worker.send(Job::Answer { ticket, request, context: settings.context, cancel });
    }

    /// Ends an answer that runs or waits; what was written stays.
    pub(super) fn stop_answer(&mut self, chat: ChatId) {
        let Some(at) = self.answers.iter().position(|answer| answer.chat == chat) else { return };
        let answer = self.answers.remove(at);
        answer.cancel.cancel();
        if let Some(ticket) = answer.ticket {
            // Its numbers are still to come.
            self.pending.stopped.push((ticket, answer.chat, answer.message));
        }
        self.end_answer(&answer, MessageState::Stopped, answer.stats);
        self.dispatch();
    }

    /// Writes an answer's end into its message and the store.
    pub(super) fn end_answer(&mut self, answer: &Answering, state: MessageState, stats: Option<Stats>) {
        let now = self.now_ms();
        let Some(chat) = self.open.get_mut(&answer.chat) else { return };
        chat.head.updated_ms = now;
        if let Some(message) = chat.message_mut(answer.message) {
            message.state = state;
            message.updated_ms = now;
            message.stats = stats.or(message.stats);
            if let Some(since) = answer.reasoning_since_ms {
                message.reasoning_ms.get_or_insert(now - since);
            }
        }
        self.keep_message(answer.chat, answer.message);
        self.keep_head(answer.chat);
        self.count_soon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_longer_than_any_within() {
        let file = |text: &str| fenced(&Attachment { name: "a.md".into(), text: text.into() });
        assert_eq!(file("x"), "a.md\n```\nx\n```\n\n");
        assert_eq!(file("````\nx\n````\n"), "a.md\n`````\n````\nx\n````\n`````\n\n");
    }

    #[test]
    fn a_context_warns_before_it_is_full() {
        let used = |tokens| ContextUse { tokens, context: 800 };
        assert!(!used(700).is_near() && used(701).is_near() && !used(799).is_full() && used(800).is_full());
    }
}
