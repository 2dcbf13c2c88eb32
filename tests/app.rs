//! The chat window without its drawing: every command with a scripted worker, what is stored when, and the native worker over
//! a tiny model.

#[path = "support/talking.rs"]
#[expect(dead_code, reason = "each integration test uses its own part of this module")]
mod talking;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fathom::app::store::{Change, FILE, Hit, MemoryStore, SqliteStore, Store, StoreError};
use fathom::app::worker::{EngineWorker, Job, ModelInfo, Report, Script, ScriptedWorker, Ticket};
use fathom::app::{
    App, Attachment, Chat, ChatId, ChatSettings, ChatSummary, Command, Fit, Format, Language, Message, MessageId, MessageState,
    ModelHeader, ModelRef, Notice, Phase, Places, Settings, Theme, Thinking,
};
use fathom::engine::{Event, Input, Request, Stats, StopReason, TokenInside};
use fathom::text::Role;

/// A store whose refusals a test decides.
#[derive(Clone, Default)]
struct Moody {
    inner: Rc<RefCell<MemoryStore>>,
    refusal: Rc<RefCell<Option<StoreError>>>,
    writes: Rc<Cell<usize>>,
}

impl Moody {
    fn ask(&self) -> Result<(), StoreError> {
        self.refusal.borrow().clone().map_or(Ok(()), Err)
    }
}

impl Store for Moody {
    fn chats(&mut self) -> Result<Vec<ChatSummary>, StoreError> {
        self.inner.borrow_mut().chats()
    }

    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>, StoreError> {
        self.inner.borrow_mut().chat(id)
    }

    fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.inner.borrow_mut().setting(key)
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.ask()?;
        self.writes.set(self.writes.get() + 1);
        self.inner.borrow_mut().write(changes)
    }

    fn search(&mut self, query: &str, limit: usize) -> Result<Vec<Hit>, StoreError> {
        self.inner.borrow_mut().search(query, limit)
    }

    fn move_to(&mut self, folder: &Path) -> Result<(), StoreError> {
        self.inner.borrow_mut().move_to(folder)
    }

    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

struct Desk {
    app: App,
    script: Script,
    store: Moody,
    now: Rc<Cell<i64>>,
}

fn model() -> ModelInfo {
    ModelInfo::on_paper("small").unwrap()
}

impl Desk {
    fn new() -> Self {
        Self::over(Moody::default())
    }

    fn over(store: Moody) -> Self {
        let (app, script, now) = app_over(Box::new(store.clone()));
        Self { app, script, store, now }
    }

    /// With an open model.
    fn open() -> Self {
        let mut desk = Self::new();
        desk.app.start();
        assert!(desk.script.open(model()));
        desk.app.poll();
        desk
    }

    /// The program ends and begins anew over the same store.
    fn restart(self) -> Self {
        let mut desk = Self::over(self.store.clone());
        desk.now.set(self.now.get() + 10_000);
        desk.app.start();
        desk.script.open(model());
        desk.app.poll();
        desk
    }

    fn wait(&mut self, ms: i64) {
        self.now.set(self.now.get() + ms);
        self.app.poll();
    }

    fn ask(&mut self, question: &str) {
        self.app.apply(Command::SetDraft(question.into()));
        self.app.apply(Command::Send);
    }

    /// Asks and answers.
    fn talk(&mut self, question: &str, answer: &str) {
        self.ask(question);
        assert!(self.script.answer(answer), "a request");
        self.wait(10);
    }

    fn request(&self) -> (Ticket, Request) {
        self.script.next_answer().expect("a request")
    }

    fn shown(&self) -> Vec<String> {
        self.app.chat().path().map(|message| message.content.clone()).collect()
    }

    fn leaf(&self) -> &Message {
        self.app.chat().leaf().unwrap()
    }

    fn at(&self, place: usize) -> MessageId {
        self.app.chat().path_message(place).unwrap().id
    }

    /// What the store has of the current chat.
    fn stored(&self) -> Chat {
        self.store.inner.borrow_mut().chat(self.app.chat().id()).unwrap().expect("a stored chat")
    }

    fn notices(&self) -> Vec<Notice> {
        self.app.notices.iter().map(|(_, notice)| notice.clone()).collect()
    }
}

fn app_over(store: Box<dyn Store>) -> (App, Script, Rc<Cell<i64>>) {
    let (worker, script) = ScriptedWorker::new();
    let now = Rc::new(Cell::new(1_764_000_000_000));
    let clock = now.clone();
    let places = Places { data: Some("/nowhere/fathom".into()), pointer: Some("/nowhere/pointer".into()) };
    (App::new(store, Box::new(worker), Box::new(move || clock.get()), places), script, now)
}

fn turns(request: &Request) -> Vec<(Role, String)> {
    let Input::Chat(messages) = &request.input else { panic!("a chat") };
    messages.iter().map(|message| (message.role, message.content.clone())).collect()
}

fn contents(request: &Request) -> Vec<String> {
    turns(request).into_iter().map(|(_, content)| content).collect()
}

fn stats(prompt_tokens: usize, new_tokens: usize) -> Stats {
    Stats { prompt_tokens, new_tokens, first_token_secs: 0.5, decode_secs: 1.0, ..Stats::default() }
}

// Asking and answering.

#[test]
fn a_question_is_answered_as_it_comes() {
    let mut desk = Desk::open();
    desk.ask("  What is\na fathom?  ");
    assert_eq!(desk.app.answering().unwrap().phase, Phase::Waiting);
    let (ticket, request) = desk.request();
    assert_eq!(turns(&request), [(Role::User, "What is\na fathom?".to_string())]);
    assert_eq!((request.sampling.temperature, request.sampling.top_p, request.watch), (0.6, 0.95, false));
    desk.script.event(ticket, Event::Prefill { done: 4, total: 9 });
    desk.wait(5);
    assert_eq!(desk.app.answering().unwrap().phase, Phase::Reading { done: 4, total: 9 });
    desk.script.reasoning(ticket, "Let me ");
    desk.script.reasoning(ticket, "think.");
    desk.wait(5);
    assert_eq!(desk.app.answering().unwrap().phase, Phase::Reasoning);
    desk.wait(695);
    desk.script.text(ticket, "Six ");
    desk.script.text(ticket, "feet.");
    desk.wait(5);
    assert_eq!((desk.app.answering().unwrap().phase, desk.leaf().content.as_str()), (Phase::Writing, "Six feet."));
    desk.script.event(ticket, Event::Stats(stats(9, 2)));
    desk.wait(5);
    assert_eq!(desk.app.answering().unwrap().stats, Some(stats(9, 2)));
    assert_eq!(desk.app.context.unwrap().tokens, 11);
    desk.script.done(ticket, StopReason::Eos, stats(9, 5));
    desk.wait(5);
    let leaf = desk.leaf();
    assert_eq!((leaf.content.as_str(), leaf.reasoning.as_str(), &leaf.state), ("Six feet.", "Let me think.", &MessageState::Finished));
    assert_eq!((leaf.reasoning_ms, leaf.stats, leaf.model.as_deref()), (Some(700), Some(stats(9, 5)), Some("small")));
    assert_eq!(leaf.sampling.unwrap(), request.sampling);
    assert!(desk.app.answering().is_none());
    assert_eq!(desk.app.chat().head.title, "What is");
    assert_eq!(desk.app.chats[0].title, "What is");
    let before = desk.app.chat().clone();
    assert_eq!(desk.stored(), before);
    // The next question takes the answer along, without its reasoning.
    desk.ask("And two?");
    let (_, request) = desk.request();
    assert_eq!(contents(&request), ["What is\na fathom?", "Six feet.", "And two?"]);
}

#[test]
fn nothing_is_sent_while_there_is_nothing_to_say_or_an_answer_comes() {
    let mut desk = Desk::open();
    desk.ask("  \n ");
    assert!(desk.app.chat().path_len() == 0 && desk.script.next_answer().is_none());
    desk.ask("one");
    let (ticket, _) = desk.request();
    desk.ask("two");
    assert_eq!((desk.app.chat().path_len(), desk.app.chat().head.draft.text.as_str()), (2, "two"), "the draft is kept");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(5);
    desk.app.apply(Command::Send);
    assert_eq!(desk.app.chat().path_len(), 4);
}

#[test]
fn a_stop_keeps_what_was_written_and_what_comes_late_is_numbers_alone() {
    let mut desk = Desk::open();
    desk.ask("Count.");
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "one two");
    desk.wait(10);
    desk.app.apply(Command::Stop);
    assert_eq!((desk.leaf().content.as_str(), &desk.leaf().state), ("one two", &MessageState::Stopped));
    assert!(desk.app.answering().is_none(), "at once, whatever the engine does");
    desk.script.text(ticket, " three");
    desk.script.done(ticket, StopReason::Cancelled, stats(3, 3));
    desk.wait(10);
    assert_eq!((desk.leaf().content.as_str(), desk.leaf().stats), ("one two", Some(stats(3, 3))));
    assert_eq!(desk.stored().leaf(), desk.app.chat().leaf());
    desk.app.apply(Command::Stop);
    // What was never begun can be stopped too.
    desk.ask("Again.");
    let job = desk.script.take(|job| if let Job::Answer { cancel, .. } = job { Some(cancel.clone()) } else { None }).unwrap();
    desk.app.apply(Command::Stop);
    assert!(job.is_cancelled() && desk.leaf().content.is_empty());
}

#[test]
fn answers_of_several_chats_come_one_after_another() {
    let mut desk = Desk::open();
    desk.ask("first");
    let one = desk.app.chat().id();
    desk.app.apply(Command::NewChat);
    assert!(desk.app.answering().is_none() && desk.app.chat().path_len() == 0);
    desk.ask("second");
    let (ticket, request) = desk.request();
    assert_eq!(contents(&request), ["first"]);
    assert!(desk.script.next_answer().is_none(), "the engine has one sequence");
    assert_eq!(desk.app.answering().unwrap().phase, Phase::Waiting);
    desk.script.text(ticket, "1");
    desk.script.done(ticket, StopReason::Length, Stats::default());
    desk.wait(10);
    let (_, request) = desk.request();
    assert_eq!(contents(&request), ["second"]);
    desk.app.apply(Command::OpenChat(one));
    assert_eq!((desk.shown(), &desk.leaf().state), (vec!["first".into(), "1".into()], &MessageState::Cut));
}

#[test]
fn without_a_model_a_question_opens_one_and_waits() {
    let mut desk = Desk::new();
    desk.ask("early");
    assert!(desk.script.next_answer().is_none() && desk.app.opening.is_some());
    desk.script.open(model());
    desk.wait(10);
    let (_, request) = desk.request();
    assert_eq!((contents(&request), request.sampling.temperature), (vec!["early".to_string()], 0.6));
    // One that cannot be opened fails the question.
    let mut desk = Desk::new();
    desk.ask("early");
    let ticket = desk.script.take(|job| if let Job::Open { ticket, .. } = job { Some(*ticket) } else { None }).unwrap();
    desk.script.report(Report::OpenFailed { ticket, reason: "no such file".into(), kept: false });
    desk.wait(10);
    assert_eq!(desk.leaf().state, MessageState::Failed("no such file".into()));
    assert!(matches!(&desk.notices()[..], [Notice::ModelFailed { reason, kept: false, .. }] if reason == "no such file"));
    // Continuing opens it anew.
    let failed = desk.leaf().id;
    desk.app.apply(Command::Continue(failed));
    desk.script.open(model());
    desk.wait(10);
    assert!(desk.script.answer("now"));
    desk.wait(10);
    assert_eq!((desk.shown(), desk.notices()), (vec!["early".into(), "now".into()], vec![]));
}

#[test]
fn a_failed_answer_says_why_and_can_go_on() {
    let mut desk = Desk::open();
    desk.ask("q");
    let (ticket, first) = desk.request();
    desk.script.reasoning(ticket, "so ");
    desk.script.text(ticket, "half an ");
    desk.script.event(ticket, Event::Failed("out of device memory".into()));
    desk.wait(10);
    assert_eq!(desk.leaf().state, MessageState::Failed("out of device memory".into()));
    let id = desk.leaf().id;
    desk.app.apply(Command::Continue(id));
    let (ticket, request) = desk.request();
    let begun = request.begun.clone().unwrap();
    assert_eq!((begun.reasoning.as_str(), begun.text.as_str(), contents(&request)), ("so ", "half an ", vec!["q".to_string()]));
    assert_eq!(request.sampling.seed, first.sampling.seed, "it goes on as it began");
    desk.script.text(ticket, "answer");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(10);
    assert_eq!((desk.leaf().id, desk.leaf().content.as_str(), &desk.leaf().state), (id, "half an answer", &MessageState::Finished));
    let question = desk.at(0);
    desk.app.apply(Command::Continue(question));
    assert!(desk.script.next_answer().is_none(), "questions are not continued");
}

// Branches.

#[test]
fn every_new_try_is_a_branch() {
    let mut desk = Desk::open();
    desk.talk("q1", "a1");
    desk.talk("q2", "a2");
    let (q1, a1, a2) = (desk.at(0), desk.at(1), desk.at(3));
    desk.app.apply(Command::Regenerate(a2));
    let (ticket, request) = desk.request();
    assert_eq!(contents(&request), ["q1", "a1", "q2"]);
    desk.script.text(ticket, "a2b");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(10);
    let a2b = desk.leaf().id;
    assert_eq!(desk.app.chat().siblings(a2b), (1, [a2, a2b].as_slice()));
    desk.app.apply(Command::StepBranch(a2b, -1));
    assert_eq!(desk.shown(), ["q1", "a1", "q2", "a2"]);
    desk.app.apply(Command::StepBranch(a2, -1));
    desk.app.apply(Command::StepBranch(a2, 7));
    assert_eq!(desk.leaf().id, a2, "there is none further on");
    // An edited question is answered anew; the old one is a step away.
    desk.app.apply(Command::Edit(q1, "q1 better".into()));
    assert!(desk.script.answer("a1 better"));
    desk.wait(10);
    assert_eq!(desk.shown(), ["q1 better", "a1 better"]);
    let better = desk.at(0);
    desk.app.apply(Command::StepBranch(better, -1));
    assert_eq!(desk.shown(), ["q1", "a1", "q2", "a2"], "as it was left");
    // An edited answer is a branch that nobody is asked about.
    desk.app.apply(Command::Edit(a1, "a1 by hand".into()));
    assert_eq!((desk.shown(), desk.script.next_answer().is_none()), (vec!["q1".into(), "a1 by hand".into()], true));
    desk.app.apply(Command::Edit(a1, "  ".into()));
    assert_eq!(desk.shown().len(), 2);
    // Asked of a question, another answer to it is meant.
    desk.app.apply(Command::Regenerate(q1));
    assert!(desk.script.answer("a1 third"));
    desk.wait(10);
    assert_eq!(desk.shown(), ["q1", "a1 third"]);
    let stored = desk.stored();
    assert_eq!(&stored, desk.app.chat());
    let desk = desk.restart();
    assert_eq!(desk.app.chat(), &stored, "all of it after a restart, and the same chat in front");
}

#[test]
fn a_deleted_message_takes_what_follows_and_comes_back() {
    let mut desk = Desk::open();
    desk.talk("q1", "a1");
    desk.talk("q2", "a2");
    let before = desk.app.chat().messages().to_vec();
    let q2 = desk.at(2);
    desk.app.apply(Command::DeleteMessage(q2));
    assert_eq!((desk.shown(), desk.stored().messages().len()), (vec!["q1".into(), "a1".into()], 2));
    desk.app.apply(Command::Undo);
    assert_eq!((desk.app.chat().messages(), desk.stored().messages()), (before.as_slice(), before.as_slice()));
    desk.app.apply(Command::DeleteMessage(q2));
    desk.wait(20_000);
    assert!(desk.app.undo.is_none());
    desk.app.apply(Command::Undo);
    assert_eq!(desk.shown().len(), 2, "too late");
    // What is being written is ended first.
    desk.ask("q3");
    let (ticket, _) = desk.request();
    let q3 = desk.at(2);
    desk.app.apply(Command::DeleteMessage(q3));
    desk.script.text(ticket, "late");
    desk.script.done(ticket, StopReason::Cancelled, Stats::default());
    desk.wait(10);
    assert_eq!(desk.stored().messages().len(), 2);
    assert!(desk.app.answers.is_empty());
}

// Chats.

#[test]
fn chats_are_listed_named_pinned_deleted_and_brought_back() {
    let mut desk = Desk::open();
    desk.talk("alpha", "1");
    let alpha = desk.app.chat().id();
    desk.app.apply(Command::NewChat);
    desk.app.apply(Command::NewChat);
    assert_eq!(desk.app.chats.len(), 1, "an empty page is no chat yet");
    desk.wait(1000);
    desk.talk("beta", "2");
    let beta = desk.app.chat().id();
    let titles = |desk: &Desk| desk.app.chats.iter().map(|chat| chat.title.clone()).collect::<Vec<_>>();
    assert_eq!(titles(&desk), ["beta", "alpha"]);
    desk.app.apply(Command::PinChat(alpha, true));
    desk.app.apply(Command::RenameChat(alpha, " The\nfirst ".into()));
    assert_eq!(titles(&desk), ["The first", "beta"]);
    desk.app.apply(Command::PreviousChat);
    assert_eq!(desk.app.chat().id(), alpha);
    desk.app.apply(Command::PreviousChat);
    assert_eq!(desk.app.chat().id(), alpha);
    desk.talk("more", "3");
    assert_eq!(desk.app.chat().head.title, "The first", "a name given by hand stays");
    desk.app.apply(Command::NextChat);
    assert_eq!(desk.app.chat().id(), beta);
    let before = desk.app.chat().clone();
    desk.app.apply(Command::DeleteChat(beta));
    assert_eq!((desk.app.chat().id(), titles(&desk)), (alpha, vec!["The first".to_string()]));
    assert_eq!(desk.store.inner.borrow_mut().chat(beta).unwrap(), None);
    desk.app.apply(Command::Undo);
    assert_eq!((desk.app.chat(), desk.stored()), (&before, before.clone()));
    desk.app.apply(Command::DeleteChat(beta));
    desk.app.apply(Command::DeleteChat(alpha));
    assert!(desk.app.chats.is_empty() && desk.app.chat().path_len() == 0);
    desk.app.apply(Command::OpenChat(alpha));
    assert_ne!(desk.app.chat().id(), alpha, "gone");
    desk.talk("gamma", "4");
    assert_eq!(titles(&desk), ["gamma"]);
}

#[test]
fn drafts_and_folds_belong_to_their_chats() {
    let mut desk = Desk::open();
    desk.talk("alpha", "1");
    let alpha = desk.app.chat().id();
    desk.app.apply(Command::SetDraft("to alpha".into()));
    desk.app.apply(Command::ShowReasoning(true));
    desk.app.apply(Command::NewChat);
    assert_eq!((desk.app.chat().head.draft.text.as_str(), desk.app.chat().head.shows_reasoning), ("", false));
    desk.app.apply(Command::SetDraft("to a new chat".into()));
    let new = desk.app.chat().id();
    desk.app.apply(Command::OpenChat(alpha));
    assert_eq!((desk.app.chat().head.draft.text.as_str(), desk.app.chat().head.shows_reasoning), ("to alpha", true));
    desk.app.apply(Command::SetDraft("to alpha, longer".into()));
    desk.wait(1000);
    let mut desk = desk.restart();
    assert_eq!(desk.app.chat().head.draft.text, "to alpha, longer");
    desk.app.apply(Command::OpenChat(new));
    assert_eq!(desk.app.chat().head.draft.text, "to a new chat");
}

#[test]
fn searches_lead_to_the_message_on_its_branch() {
    let mut desk = Desk::open();
    desk.talk("where is the needle", "hay");
    let (chat, hay) = (desk.app.chat().id(), desk.at(1));
    desk.app.apply(Command::Regenerate(hay));
    assert!(desk.script.answer("more hay"));
    desk.wait(10);
    desk.app.apply(Command::NewChat);
    desk.app.apply(Command::Search("HAY".into()));
    assert_eq!(desk.app.search.hits.len(), 2);
    let hit = desk.app.search.hits.iter().find(|hit| hit.message == Some(hay)).unwrap().clone();
    assert_eq!(hit.title, "where is the needle");
    desk.app.apply(Command::OpenMessage(hit.chat, hit.message.unwrap()));
    assert_eq!((desk.app.chat().id(), desk.app.reveal, desk.leaf().id), (chat, Some(hay), hay));
    desk.app.apply(Command::Search(" ".into()));
    assert!(desk.app.search.hits.is_empty());
}

#[test]
fn files_go_along_with_a_question() {
    let mut desk = Desk::open();
    desk.app.apply(Command::Attach("/tmp/a.rs".into()));
    desk.app.apply(Command::Attach("/tmp/b.png".into()));
    let tickets: Vec<Ticket> =
        desk.script.jobs().iter().filter_map(|job| if let Job::Attach { ticket, .. } = job { Some(*ticket) } else { None }).collect();
    let file = Attachment { name: "a.rs".into(), text: "fn main() {}\n".into() };
    desk.script.report(Report::Attached { ticket: tickets[0], result: Ok(file.clone()) });
    desk.script.report(Report::Attached { ticket: tickets[1], result: Err("/tmp/b.png: expected text".into()) });
    desk.wait(10);
    assert_eq!(desk.app.chat().head.draft.attachments, std::slice::from_ref(&file));
    assert_eq!(desk.notices(), [Notice::FileFailed { reason: "/tmp/b.png: expected text".into() }]);
    let banner = desk.app.notices[0].0;
    desk.app.apply(Command::DismissNotice(banner));
    assert!(desk.app.notices.is_empty());
    desk.app.apply(Command::RemoveAttachment(5));
    desk.app.apply(Command::RemoveAttachment(0));
    assert!(desk.app.chat().head.draft.attachments.is_empty());
    desk.app.apply(Command::Attach("/tmp/a.rs".into()));
    let ticket = desk.script.take(|job| if let Job::Attach { ticket, .. } = job { Some(*ticket) } else { None }).unwrap();
    desk.script.report(Report::Attached { ticket, result: Ok(file.clone()) });
    desk.wait(10);
    desk.ask("What does it do?");
    let (_, request) = desk.request();
    assert_eq!(contents(&request), ["a.rs\n```\nfn main() {}\n```\n\nWhat does it do?"]);
    assert_eq!(desk.app.chat().path_message(0).unwrap().attachments, [file]);
    assert!(desk.app.chat().head.draft.is_empty());
}

#[test]
fn chats_go_out_as_files_and_come_back() {
    let mut desk = Desk::open();
    desk.talk("q", "a");
    let id = desk.app.chat().id();
    let written = |desk: &mut Desk| {
        let write =
            |job: &Job| if let Job::Write { ticket, path, bytes } = job { Some((*ticket, path.clone(), bytes.clone())) } else { None };
        let (ticket, path, bytes) = desk.script.take(write).unwrap();
        desk.script.report(Report::Written { ticket, path, result: Ok(()) });
        desk.wait(10);
        bytes
    };
    desk.app.apply(Command::ExportChat { chat: id, format: Format::Markdown, path: "/tmp/q.md".into() });
    assert_eq!(String::from_utf8(written(&mut desk)).unwrap(), "# q\n\n## User\n\nq\n\n## Assistant\n\na\n\n");
    assert_eq!(desk.notices(), [Notice::Exported { path: "/tmp/q.md".into() }]);
    desk.app.apply(Command::ExportChat { chat: id, format: Format::Json, path: "/tmp/q.json".into() });
    let one = written(&mut desk);
    desk.app.apply(Command::NewChat);
    desk.talk("q2", "a2");
    desk.app.apply(Command::ExportAll("/tmp/all.json".into()));
    let all = written(&mut desk);
    for (bytes, count) in [(one, 1), (all, 2)] {
        let mut other = Desk::open();
        other.app.apply(Command::Import("/tmp/x.json".into()));
        let (ticket, path) =
            other.script.take(|job| if let Job::Read { ticket, path } = job { Some((*ticket, path.clone())) } else { None }).unwrap();
        other.script.report(Report::Read { ticket, path, result: Ok(bytes) });
        other.wait(10);
        assert_eq!((other.app.chats.len(), other.notices()), (count, vec![Notice::Imported { chats: count }]));
        assert_eq!(other.shown().len(), 2);
        assert_eq!(&other.stored(), other.app.chat());
    }
    desk.app.apply(Command::Import("/tmp/x.json".into()));
    let (ticket, path) =
        desk.script.take(|job| if let Job::Read { ticket, path } = job { Some((*ticket, path.clone())) } else { None }).unwrap();
    desk.script.report(Report::Read { ticket, path, result: Ok(b"{}".to_vec()) });
    desk.wait(10);
    assert!(matches!(desk.notices().last(), Some(Notice::FileFailed { reason }) if reason.starts_with("/tmp/x.json: expected chats")));
}

// The context.

#[test]
fn the_context_is_counted_as_one_types() {
    let mut desk = Desk::open();
    desk.app.apply(Command::SetChatSettings(ChatSettings { system: "Be brief.".into(), ..ChatSettings::default() }));
    desk.app.apply(Command::SetDraft("Hel".into()));
    desk.wait(100);
    desk.app.apply(Command::SetDraft("Hello".into()));
    let count = |job: &Job| if let Job::Count { ticket, messages, .. } = job { Some((*ticket, messages.clone())) } else { None };
    assert!(desk.script.take(count).is_none(), "while typing goes on");
    desk.wait(500);
    let (ticket, messages) = desk.script.take(count).unwrap();
    assert_eq!(messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>(), ["Be brief.", "Hello"]);
    desk.script.report(Report::Counted { ticket: Ticket(999), tokens: 1 });
    desk.script.report(Report::Counted { ticket, tokens: 3800 });
    desk.wait(10);
    let used = desk.app.context.unwrap();
    assert_eq!((used.tokens, used.context, used.is_near(), used.is_full()), (3800, 4096, true, false));
    desk.app.apply(Command::SetChatSettings(ChatSettings { context: Some(1000), ..ChatSettings::default() }));
    desk.wait(500);
    let (ticket, _) = desk.script.take(count).unwrap();
    desk.script.report(Report::Counted { ticket, tokens: 1001 });
    desk.wait(10);
    assert!(desk.app.context.unwrap().is_full());
    // An answer that is stopped lets the count go on.
    desk.app.apply(Command::NewChat);
    desk.wait(500);
    desk.ask("x");
    desk.wait(500);
    assert!(desk.script.take(count).is_none(), "the answer itself tells");
    desk.app.apply(Command::Stop);
    desk.wait(500);
    assert!(desk.script.take(count).is_some());
}

/// A chat of three pairs whose fourth question is too long.
fn too_long() -> Desk {
    let mut desk = Desk::open();
    for turn in 1..=3 {
        desk.talk(&format!("q{turn}"), &format!("a{turn}"));
    }
    desk.ask("q4");
    let (ticket, _) = desk.request();
    desk.script.report(Report::TooLong { ticket, tokens: 5000, context: 4096, drop: 4 });
    desk.wait(10);
    desk
}

#[test]
fn what_is_too_long_is_never_cut_without_being_asked() {
    let mut desk = too_long();
    let told = desk.app.too_long.clone().unwrap();
    assert_eq!((told.tokens, told.context, told.raise_to), (5000, 4096, Some(6144)));
    assert_eq!(told.drop, (0..4).map(|at| desk.at(at)).collect::<Vec<_>>());
    assert!(matches!(&desk.leaf().state, MessageState::Failed(reason) if reason.contains("5000 tokens") && reason.contains("4096")));
    desk.app.apply(Command::DismissTooLong);
    assert!(desk.app.too_long.is_none() && desk.script.next_answer().is_none());

    let mut desk = too_long();
    desk.app.apply(Command::DropOldest);
    let (ticket, request) = desk.request();
    assert_eq!(contents(&request), ["q3", "a3", "q4"]);
    desk.script.text(ticket, "a4");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(10);
    assert_eq!((desk.shown().len(), desk.shown()[7].as_str()), (8, "a4"), "nothing is deleted");
    assert_eq!(desk.app.chat().head.context_start, Some(desk.at(4)));
    desk.ask("q5");
    assert_eq!(contents(&desk.request().1), ["q3", "a3", "q4", "a4", "q5"], "from now on");
    desk.app.apply(Command::Stop);
    desk.app.apply(Command::ReadAll);
    let leaf = desk.leaf().id;
    desk.app.apply(Command::Regenerate(leaf));
    desk.script.done(Ticket(0), StopReason::Eos, Stats::default());
    desk.wait(10);
    assert_eq!(contents(&desk.request().1).len(), 9);

    let mut desk = too_long();
    desk.app.apply(Command::RaiseContext);
    let context = desk.script.take(|job| if let Job::Answer { context, .. } = job { Some(*context) } else { None }).unwrap();
    assert_eq!((context, desk.app.chat().head.settings.context), (Some(6144), Some(6144)));
}

// Models.

#[test]
fn models_are_opened_cancelled_and_unloaded() {
    let mut desk = Desk::open();
    let path = PathBuf::from("/models/DeepSeek-V2-Lite-Chat");
    desk.app.apply(Command::OpenModel(ModelRef::Path(path.clone())));
    let open =
        |job: &Job| if let Job::Open { ticket, options, cancel } = job { Some((*ticket, options.clone(), cancel.clone())) } else { None };
    let (ticket, options, cancel) = desk.script.take(open).unwrap();
    assert_eq!((options.model, desk.app.opening.as_ref().unwrap().name.as_str()), (Some(path.clone()), "DeepSeek-V2-Lite-Chat"));
    desk.script.report(Report::Loading { ticket, progress: fathom::model::LoadProgress { done_bytes: 3, total_bytes: 9 } });
    desk.wait(10);
    assert_eq!(desk.app.opening.as_ref().unwrap().progress.unwrap().done_bytes, 3);
    assert!(desk.app.model.is_some(), "the old one stays until then");
    desk.app.apply(Command::CancelOpening);
    assert!(cancel.is_cancelled());
    desk.script.report(Report::OpenCancelled { ticket, kept: true });
    desk.wait(10);
    assert!(desk.app.opening.is_none() && desk.app.model.is_some() && desk.app.notices.is_empty());
    assert_eq!(desk.app.settings.model, Some(ModelRef::Default));

    desk.app.apply(Command::OpenModel(ModelRef::Path(path.clone())));
    let (ticket, ..) = desk.script.take(open).unwrap();
    desk.script.report(Report::TurnedOff { ticket, what: "f16: wrong".into() });
    desk.script.report(Report::Opened { ticket, model: Box::new(ModelInfo { path: path.clone(), ..model() }) });
    desk.wait(10);
    assert_eq!((&desk.app.settings.model, &desk.app.settings.recent_models), (&Some(ModelRef::Path(path.clone())), &vec![path.clone()]));
    assert_eq!(desk.notices(), [Notice::TurnedOff { what: "f16: wrong".into() }]);
    desk.script.report(Report::Memory { held_bytes: 7 });
    desk.script.report(Report::Context { context: 77 });
    desk.wait(10);
    assert_eq!(desk.app.model.as_ref().map(|model| (model.held_bytes, model.context)), Some((7, 77)));

    // A broken file leaves the running model.
    desk.app.apply(Command::OpenModel(ModelRef::Path("/models/broken.gguf".into())));
    let (ticket, ..) = desk.script.take(open).unwrap();
    desk.script.report(Report::OpenFailed { ticket, reason: "broken.gguf: magic".into(), kept: true });
    desk.wait(10);
    assert!(desk.app.model.is_some());
    let failed = Notice::ModelFailed { name: "broken".into(), reason: "broken.gguf: magic".into(), kept: true };
    assert!(desk.notices().contains(&failed));

    desk.ask("q");
    desk.app.apply(Command::UnloadModel);
    desk.script.report(Report::Unloaded);
    desk.wait(10);
    assert!(desk.app.model.is_none() && desk.app.settings.model.is_none() && desk.leaf().state == MessageState::Stopped);
    let mut desk = desk.restart();
    assert!(desk.app.opening.is_none() && desk.app.model.is_none(), "it stays unloaded");
    desk.app.apply(Command::ForgetModel(path));
    assert!(desk.app.settings.recent_models.is_empty());
}

#[test]
fn the_library_is_looked_at_when_asked() {
    let mut desk = Desk::open();
    desk.script.jobs();
    desk.app.apply(Command::AddModelFolder("/big".into()));
    let scan = |job: &Job| if let Job::Scan { ticket, folders, .. } = job { Some((*ticket, folders.clone())) } else { None };
    let (ticket, folders) = desk.script.take(scan).unwrap();
    assert_eq!(folders, [Path::new("/nowhere/fathom/models"), Path::new("/big")]);
    assert!(desk.app.library.scanning);
    let header = ModelHeader {
        architecture: "deepseek_v2".into(),
        layout: "GGUF",
        formats: "Q4_0".into(),
        weight_bytes: 9 << 30,
        cache_bytes_per_token: 1,
        max_positions: 4096,
        layers: 27,
        experts: None,
    };
    assert_eq!(header.fit(desk.app.library.memory_bytes), Fit::TooLarge);
    let entry = fathom::app::ModelEntry { model: ModelRef::Default, path: "/big/m".into(), name: "m".into(), header: Ok(header) };
    desk.script.report(Report::Models { ticket: Ticket(0), models: vec![] });
    desk.script.report(Report::Models { ticket, models: vec![entry.clone()] });
    desk.wait(10);
    assert_eq!((&desk.app.library.models, desk.app.library.scanning), (&vec![entry], false));
    desk.app.apply(Command::RemoveModelFolder("/big".into()));
    desk.app.apply(Command::ScanModels);
    assert!(desk.app.settings.model_folders.is_empty());
    desk.app.apply(Command::ListAdapters);
    let ticket = desk.script.take(|job| if let Job::Adapters { ticket, .. } = job { Some(*ticket) } else { None }).unwrap();
    desk.script.report(Report::Adapters { ticket, adapters: vec![] });
    desk.wait(10);
    assert!(desk.app.library.adapters.is_some());
    desk.app.apply(Command::MeasureKernels);
    desk.app.apply(Command::MeasureKernels);
    assert_eq!(desk.script.jobs().iter().filter(|job| matches!(job, Job::MeasureKernels)).count(), 1);
    desk.script.report(Report::KernelTimes { times: Some(vec![]) });
    desk.wait(10);
    assert!(desk.app.kernel_times.is_some());
}

#[test]
fn an_engine_that_breaks_goes_on_where_it_was() {
    let mut desk = Desk::open();
    desk.ask("q");
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "so ");
    desk.script.report(Report::Broken { ticket: Some(ticket), reason: "the device was lost".into() });
    desk.wait(10);
    assert_eq!(desk.notices(), [Notice::Rebuilding { reason: "the device was lost".into() }]);
    assert_eq!(desk.leaf().state, MessageState::Failed("the device was lost".into()));
    desk.script.report(Report::Rebuilt { model: Box::new(model()) });
    desk.wait(10);
    assert_eq!(desk.notices(), [Notice::Rebuilt { reason: "the device was lost".into() }]);
    let (ticket, request) = desk.request();
    assert_eq!(request.begun.unwrap().text, "so ");
    // The same answer breaks it again: it is not tried for ever.
    desk.script.report(Report::Broken { ticket: Some(ticket), reason: "again".into() });
    desk.script.report(Report::Rebuilt { model: Box::new(model()) });
    desk.wait(10);
    assert!(desk.script.next_answer().is_none());
    assert_eq!((desk.leaf().content.as_str(), &desk.leaf().state), ("so ", &MessageState::Failed("again".into())));
    desk.ask("another");
    assert!(desk.script.answer("fine"));
    desk.wait(10);
    assert_eq!(desk.leaf().content, "fine");
    // The engine mends a lost device by itself: the answer goes on.
    desk.app.notices.clear();
    desk.ask("lost");
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "one ");
    desk.script.event(ticket, Event::Rebuild("the device was lost: reset".into()));
    desk.wait(10);
    assert_eq!(desk.notices(), [Notice::Rebuilding { reason: "the device was lost: reset".into() }]);
    desk.script.event(ticket, Event::Prefill { done: 0, total: 3 });
    desk.script.text(ticket, "two");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(10);
    assert_eq!(
        (desk.leaf().content.as_str(), desk.notices()),
        ("one two", vec![Notice::Rebuilt { reason: "the device was lost: reset".into() }])
    );
    desk.ask("last");
    let (ticket, _) = desk.request();
    desk.script.report(Report::Broken { ticket: Some(ticket), reason: "x".into() });
    desk.script.report(Report::RebuildFailed { reason: "no GPU adapter found".into() });
    desk.wait(10);
    assert!(desk.app.model.is_none());
    assert!(desk.notices().contains(&Notice::RebuildFailed { reason: "no GPU adapter found".into() }));
}

#[test]
fn the_inside_is_watched_only_while_it_is_shown() {
    let mut desk = Desk::open();
    desk.talk("q", "a");
    let plain = desk.leaf().id;
    assert!(desk.app.inside(plain).is_none());
    desk.app.apply(Command::SetSettings(Box::new(Settings { inside: true, ..desk.app.settings.clone() })));
    desk.app.apply(Command::Regenerate(plain));
    let (ticket, request) = desk.request();
    assert!(request.watch);
    let token = |answer_end| TokenInside {
        id: 7,
        text: "b".into(),
        reasoning_end: 0,
        answer_end,
        probability: 0.5,
        candidates: vec![],
        layers: vec![],
    };
    desk.script.text(ticket, "bb");
    desk.script.event(ticket, Event::Inside(token(2)));
    desk.script.done(ticket, StopReason::Length, Stats::default());
    desk.wait(10);
    let id = desk.leaf().id;
    desk.app.apply(Command::Continue(id));
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "ccc");
    desk.script.event(ticket, Event::Inside(token(3)));
    desk.wait(10);
    let ends: Vec<usize> = desk.app.inside(id).unwrap().iter().map(|token| token.answer_end).collect();
    assert_eq!(ends, [2, 5], "counted from the message's beginning");
}

// Settings.

#[test]
fn settings_of_chats_and_presets_reach_the_request() {
    let mut desk = Desk::open();
    let settings = ChatSettings {
        system: "Speak French.".into(),
        temperature: Some(0.0),
        top_k: Some(5),
        min_p: Some(0.1),
        seed: Some(42),
        max_tokens: Some(64),
        context: Some(512),
        thinking: Thinking::Off,
        ..ChatSettings::default()
    };
    desk.app.apply(Command::SetChatSettings(settings.clone()));
    desk.app.apply(Command::SavePreset(" French ".into()));
    desk.ask("Hi");
    let job = |job: &Job| if let Job::Answer { request, context, .. } = job { Some((request.clone(), *context)) } else { None };
    let (request, context) = desk.script.take(job).unwrap();
    assert_eq!(turns(&request)[0], (Role::System, "Speak French.".to_string()));
    let sampling = request.sampling;
    assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.seed), (0.0, 5, 0.95, 0.1, 42));
    assert_eq!((request.max_tokens, request.thinking, context), (Some(64), Some(false), Some(512)));
    desk.app.apply(Command::Stop);
    desk.app.apply(Command::NewChat);
    assert_eq!(desk.app.chat().head.settings, ChatSettings::default());
    desk.app.apply(Command::ApplyPreset("French".into()));
    desk.app.apply(Command::ApplyPreset("absent".into()));
    assert_eq!(desk.app.chat().head.settings, settings);
    desk.app.apply(Command::SetChatSettings(ChatSettings::default()));
    desk.app.apply(Command::SavePreset("French".into()));
    desk.app.apply(Command::SavePreset("".into()));
    let mut desk = desk.restart();
    assert_eq!((desk.app.presets.len(), &desk.app.presets[0].settings), (1, &ChatSettings::default()), "saved over");
    desk.app.apply(Command::DeletePreset("French".into()));
    assert!(desk.restart().app.presets.is_empty());
}

#[test]
fn the_programs_settings_are_kept_and_a_devices_change_opens_the_model_anew() {
    let mut desk = Desk::open();
    desk.script.jobs();
    let mut settings = desk.app.settings.clone();
    (settings.theme, settings.language, settings.zoom) = (Theme::Dark, Language::Chinese, 99.0);
    settings.new_chat.system = "Always kind.".into();
    desk.app.apply(Command::SetSettings(Box::new(settings)));
    assert_eq!((desk.app.settings.zoom, desk.script.jobs().len()), (3.0, 0), "within bounds, and nothing to open");
    desk.app.apply(Command::SetSettings(Box::new(Settings {
        adapter: Some("llvmpipe".into()),
        disabled: vec!["f16".into()],
        ..desk.app.settings.clone()
    })));
    let options = desk.script.take(|job| if let Job::Open { options, .. } = job { Some(options.clone()) } else { None }).unwrap();
    assert_eq!((options.gpu.adapter.as_deref(), options.gpu.disabled.0.len()), (Some("llvmpipe"), 1));
    let desk = desk.restart();
    assert_eq!((desk.app.settings.theme, desk.app.settings.language), (Theme::Dark, Language::Chinese));
    assert_eq!(desk.app.chat().head.settings.system, "Always kind.");
    // What another version wrote and cannot be read is as if it were not set.
    desk.store.inner.borrow_mut().write(&[Change::Setting("settings", "{\"zoom\": \"wide\"}".into())]).unwrap();
    assert_eq!(desk.restart().app.settings, Settings::default());
}

// Storage.

#[test]
fn a_streaming_answer_is_stored_every_second() {
    let mut desk = Desk::open();
    desk.ask("q");
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "one ");
    desk.wait(400);
    assert_eq!(desk.stored().leaf().unwrap().content, "");
    desk.script.text(ticket, "two ");
    desk.wait(600);
    assert_eq!(desk.stored().leaf().unwrap().content, "one two ");
    assert_eq!(desk.stored().leaf().unwrap().state, MessageState::Streaming);
    let writes = desk.store.writes.get();
    desk.script.text(ticket, "three ");
    desk.wait(999);
    assert_eq!(desk.store.writes.get(), writes, "not oftener");
    assert_eq!(desk.app.next_wake_ms(), Some(desk.now.get() + 1));
    // The program dies here: what was stored is there, as an answer that was stopped and can go on.
    let mut desk = desk.restart();
    assert_eq!((desk.leaf().content.as_str(), &desk.leaf().state), ("one two ", &MessageState::Stopped));
    let id = desk.leaf().id;
    desk.app.apply(Command::Continue(id));
    assert_eq!(desk.request().1.begun.unwrap().text, "one two ");
    // Seen right after its window died, it is not known to be dead yet.
    desk.wait(1000);
    let mut quick = Desk::over(desk.store.clone());
    quick.now.set(desk.now.get() + 100);
    quick.app.poll();
    assert!(quick.leaf().is_streaming() && quick.app.next_wake_ms().is_some());
    quick.wait(6000);
    assert_eq!((&quick.leaf().state, quick.app.next_wake_ms()), (&MessageState::Stopped, None));
}

#[test]
fn an_idle_app_waits_for_nothing() {
    let mut desk = Desk::open();
    desk.talk("q", "a");
    desk.wait(1000);
    desk.wait(1000);
    assert_eq!(desk.app.next_wake_ms(), None);
    desk.app.apply(Command::SetDraft("x".into()));
    assert!(desk.app.next_wake_ms().is_some());
}

#[test]
fn a_store_that_refuses_is_told_and_asked_again() {
    for refusal in [
        StoreError::Full("database or disk is full".into()),
        StoreError::ReadOnly("attempt to write a readonly database".into()),
        StoreError::Other("disk I/O error".into()),
    ] {
        let mut desk = Desk::open();
        desk.talk("before", "1");
        *desk.store.refusal.borrow_mut() = Some(refusal.clone());
        desk.talk("during", "2");
        assert_eq!(desk.notices(), [Notice::StoreFailing { reason: refusal.to_string() }], "told once");
        assert_eq!(desk.shown(), ["before", "1", "during", "2"], "the chat goes on in memory");
        let chat = desk.app.chat().id();
        desk.app.apply(Command::NewChat);
        desk.talk("elsewhere", "3");
        desk.app.apply(Command::OpenChat(chat));
        assert_eq!(desk.shown().len(), 4, "also when another was in front");
        assert_eq!(desk.app.chats.len(), 2);
        *desk.store.refusal.borrow_mut() = None;
        desk.wait(5000);
        assert!(desk.app.notices.is_empty());
        let desk = desk.restart();
        assert_eq!((desk.shown().len(), desk.app.chats.len()), (4, 2), "nothing was lost");
    }
}

#[test]
fn a_busy_store_is_no_news() {
    let mut desk = Desk::open();
    *desk.store.refusal.borrow_mut() = Some(StoreError::Busy("database is locked".into()));
    desk.talk("q", "a");
    assert!(desk.app.notices.is_empty());
    *desk.store.refusal.borrow_mut() = None;
    desk.wait(5000);
    assert_eq!(&desk.stored(), desk.app.chat());
}

#[test]
fn after_damage_what_is_in_memory_is_stored_anew() {
    let mut desk = Desk::open();
    desk.talk("q", "a");
    let chat = desk.app.chat().clone();
    // A new, empty file stands where the old one was.
    *desk.store.inner.borrow_mut() = MemoryStore::default();
    *desk.store.refusal.borrow_mut() = Some(StoreError::Damaged { set_aside: "/tmp/aside.db".into(), reason: "malformed".into() });
    let refusal = desk.store.refusal.clone();
    desk.app.apply(Command::SetSettings(Box::new(Settings { theme: Theme::Dark, ..desk.app.settings.clone() })));
    *refusal.borrow_mut() = None;
    desk.wait(5000);
    assert!(matches!(&desk.notices()[..], [Notice::StoreDamaged { reason }] if reason.contains("/tmp/aside.db")), "{:?}", desk.notices());
    assert_eq!(desk.stored(), chat);
    assert_eq!(desk.restart().app.settings.theme, Theme::Dark);
}

#[test]
fn two_windows_show_the_same_chats() {
    let folder = tempfile::tempdir().unwrap();
    let window = || {
        let (store, _) = SqliteStore::open(&folder.path().join(FILE)).unwrap();
        let (mut app, script, now) = app_over(Box::new(store));
        app.start();
        script.open(model());
        app.poll();
        (app, script, now)
    };
    let ((mut one, script, now_one), (mut two, _script_two, now_two)) = (window(), window());
    let tick = |one: &mut App, two: &mut App| {
        for now in [&now_one, &now_two] {
            now.set(now.get() + 1000);
        }
        one.poll();
        two.poll();
    };
    one.apply(Command::SetDraft("from one".into()));
    one.apply(Command::Send);
    let (ticket, _) = script.next_answer().unwrap();
    script.text(ticket, "half");
    tick(&mut one, &mut two);
    let chat = one.chat().id();
    assert_eq!(two.chats.len(), 1);
    two.apply(Command::OpenChat(chat));
    two.apply(Command::SetDraft("a draft of two".into()));
    let content = |app: &App| app.chat().leaf().unwrap().content.clone();
    assert_eq!((content(&two).as_str(), two.chat().leaf().unwrap().is_streaming()), ("half", true));
    script.text(ticket, " and half");
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert_eq!((content(&two).as_str(), two.chat().head.draft.text.as_str()), ("half and half", "a draft of two"));
    script.done(ticket, StopReason::Eos, Stats::default());
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert_eq!(two.chat().leaf().unwrap().state, MessageState::Finished);
    two.apply(Command::RenameChat(chat, "Renamed by two".into()));
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert_eq!((one.chat().head.title.as_str(), one.chats[0].title.as_str()), ("Renamed by two", "Renamed by two"));
    // What one deletes is gone in the other, whose answer for it ends.
    two.apply(Command::SetDraft("more".into()));
    two.apply(Command::Send);
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert_eq!(one.chat().path_len(), 4);
    one.apply(Command::DeleteChat(chat));
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert!(two.chats.is_empty() && two.answers.is_empty() && two.chat().id() != chat);
}

#[test]
fn chats_move_to_another_folder_and_stay_there() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = SqliteStore::open(&folder.path().join(FILE)).unwrap();
    let (mut app, script, _) = app_over(Box::new(store));
    app.start();
    script.open(model());
    app.poll();
    app.apply(Command::SetDraft("q".into()));
    app.apply(Command::Send);
    let chat = app.chat().id();
    let to = elsewhere.path().join("fathom");
    app.apply(Command::MoveData(to.clone()));
    assert_eq!((app.chat().id(), app.chat().leaf().unwrap().state.clone()), (chat, MessageState::Stopped));
    let write = |job: &Job| if let Job::Write { ticket, path, bytes } = job { Some((*ticket, path.clone(), bytes.clone())) } else { None };
    let (ticket, path, bytes) = script.take(write).unwrap();
    assert_eq!((path.as_path(), bytes.as_slice()), (Path::new("/nowhere/pointer"), to.to_str().unwrap().as_bytes()));
    script.report(Report::Written { ticket, path, result: Ok(()) });
    app.poll();
    assert!(app.notices.is_empty() && app.places.data == Some(to.clone()));
    app.apply(Command::RenameChat(chat, "moved".into()));
    let title = |folder: &Path| SqliteStore::open(&folder.join(FILE)).unwrap().0.chats().unwrap()[0].title.clone();
    assert_eq!((title(&to), title(folder.path())), ("moved".to_string(), "q".to_string()));
    // Memory has nowhere to move to.
    let mut desk = Desk::open();
    desk.app.apply(Command::MoveData(to));
    assert!(matches!(&desk.notices()[..], [Notice::FileFailed { .. }]));
}

// The native worker over a real engine.

/// Polls until something holds.
fn until(app: &mut App, what: &str, holds: impl Fn(&App) -> bool) {
    for _ in 0..60_000 {
        app.poll();
        if holds(app) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("{what}: {:?} {:?}", app.notices, app.chat().leaf());
}

#[test]
fn a_real_engine_answers_goes_on_and_outlives_broken_files() {
    let folder = talking::checkpoint();
    let data = tempfile::tempdir().unwrap();
    let (store, _) = SqliteStore::open(&data.path().join(FILE)).unwrap();
    let worker = EngineWorker::new(std::sync::Arc::new(|| ()), None);
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut app = App::new(Box::new(store), Box::new(worker), Box::new(clock), Places::default());
    app.settings.model = Some(ModelRef::Path(folder.path().to_path_buf()));
    app.apply(Command::SetChatSettings(ChatSettings { max_tokens: Some(8), context: Some(192), ..ChatSettings::default() }));
    app.start();
    app.apply(Command::SetDraft("Hi".into()));
    app.apply(Command::Send);
    until(&mut app, "an answer", |app| app.answers.is_empty());
    let leaf = app.chat().leaf().unwrap().clone();
    assert_eq!((&leaf.state, leaf.stats.unwrap().new_tokens, leaf.stats.unwrap().prompt_tokens), (&MessageState::Cut, 8, 5));
    assert_eq!(app.model.as_ref().unwrap().context, 192, "the chat's own context");
    app.apply(Command::Continue(leaf.id));
    until(&mut app, "more of it", |app| app.answers.is_empty());
    let longer = app.chat().leaf().unwrap().clone();
    assert!(longer.id == leaf.id && longer.content.starts_with(&leaf.content) && longer.content.len() > leaf.content.len(), "{longer:?}");
    assert!(longer.stats.unwrap().prompt_tokens > 5, "its beginning was fed");
    app.apply(Command::SetDraft("more".into()));
    until(&mut app, "a count", |app| app.context.is_some_and(|used| used.tokens > 12 && used.context == 192));

    // A broken file leaves the running model, which answers on.
    let broken = data.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF and then nothing of the sort").unwrap();
    app.apply(Command::OpenModel(ModelRef::Path(broken)));
    until(&mut app, "a failure", |app| app.opening.is_none());
    let notices: Vec<&Notice> = app.notices.iter().map(|(_, notice)| notice).collect();
    assert!(matches!(notices[..], [Notice::ModelFailed { kept: true, reason, .. }] if reason.contains("broken.gguf")), "{notices:?}");
    app.apply(Command::Send);
    until(&mut app, "an answer all the same", |app| app.answers.is_empty());
    assert_eq!(app.chat().leaf().unwrap().state, MessageState::Cut);

    // Too long: what would be dropped is told, and then it fits.
    app.apply(Command::SetDraft("x".repeat(150)));
    app.apply(Command::Send);
    until(&mut app, "too long", |app| app.too_long.is_some());
    assert_eq!(app.too_long.as_ref().unwrap().drop.len(), 4);
    app.apply(Command::DropOldest);
    until(&mut app, "an answer to the rest", |app| app.answers.is_empty());
    assert_eq!(app.chat().leaf().unwrap().state, MessageState::Cut);
    assert_eq!(app.chat().path_len(), 6);

    // A stop; the worker's end while an answer runs.
    app.apply(Command::SetChatSettings(ChatSettings { context: Some(4096), ..ChatSettings::default() }));
    app.apply(Command::NewChat);
    app.apply(Command::SetDraft("On and on.".into()));
    app.apply(Command::Send);
    until(&mut app, "words", |app| app.chat().leaf().is_some_and(|leaf| !leaf.content.is_empty()) || app.answers.is_empty());
    app.close();
    let chat = app.chat().clone();
    drop(app);
    let (mut store, _) = SqliteStore::open(&data.path().join(FILE)).unwrap();
    let stored = store.chat(chat.id()).unwrap().unwrap();
    assert_eq!((stored.messages(), stored.leaf().unwrap().is_streaming()), (chat.messages(), false));
}

// kill -9.

/// The program that is killed: it streams for ever and prints what it has shown, and when.
#[test]
fn streams_until_it_is_killed() {
    let Some(data) = std::env::var_os("FATHOM_TEST_DATA") else { return };
    let (store, _) = SqliteStore::open(&Path::new(&data).join(FILE)).unwrap();
    let (worker, script) = ScriptedWorker::new();
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut app = App::new(Box::new(store), Box::new(worker), Box::new(clock), Places::default());
    app.start();
    script.open(model());
    app.poll();
    app.apply(Command::SetDraft("finished question".into()));
    app.apply(Command::Send);
    assert!(script.answer("finished answer"));
    app.poll();
    app.apply(Command::SetDraft("endless question".into()));
    app.apply(Command::Send);
    let (ticket, _) = script.next_answer().unwrap();
    loop {
        script.text(ticket, "word ");
        app.poll();
        println!("shown {} {}", clock(), app.chat().leaf().unwrap().content.len());
        std::thread::sleep(std::time::Duration::from_millis(7));
    }
}

#[test]
fn a_kill_loses_nothing_but_the_last_second() {
    use std::io::{BufRead, BufReader};
    let data = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "streams_until_it_is_killed", "--nocapture"])
        .env("FATHOM_TEST_DATA", data.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut shown: Vec<(i64, usize)> = vec![];
    for line in lines {
        let line = line.unwrap();
        let Some(rest) = line.split("shown ").nth(1) else { continue };
        let (ms, len) = rest.split_once(' ').unwrap();
        shown.push((ms.parse().unwrap(), len.parse().unwrap()));
        if shown.last().unwrap().0 - shown[0].0 > 3500 {
            child.kill().unwrap();
            break;
        }
    }
    child.wait().unwrap();
    let (last, _) = *shown.last().unwrap();
    let owed = shown.iter().rev().find(|(ms, _)| *ms <= last - 1000).unwrap().1;
    assert!(owed > 0);
    let (store, damage) = SqliteStore::open(&data.path().join(FILE)).unwrap();
    assert_eq!(damage, None);
    let (mut app, _script, now) = app_over(Box::new(store));
    now.set(last + 10_000);
    app.poll();
    let chat = app.chats[0].id;
    app.apply(Command::NewChat);
    app.apply(Command::OpenChat(chat));
    let contents: Vec<&str> = app.chat().path().map(|message| message.content.as_str()).collect();
    assert_eq!(contents[..3], ["finished question", "finished answer", "endless question"]);
    assert!(contents[3].len() >= owed, "{} of at least {owed} bytes", contents[3].len());
}
