//! An app at a test's command: a scripted worker, a store that refuses on demand, a clock that stands still.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use fathom::app::store::{Change, Hit, MemoryStore, Store, StoreError};
use fathom::app::worker::{ModelInfo, Script, ScriptedWorker, Ticket};
use fathom::app::{App, Chat, ChatId, ChatSummary, Command, Message, MessageId, Notice, Places};
use fathom::engine::{Input, Request, Stats};
use fathom::text::Role;

/// A store whose refusals a test decides.
#[derive(Clone, Default)]
pub struct Moody {
    pub inner: Rc<RefCell<MemoryStore>>,
    pub refusal: Rc<RefCell<Option<StoreError>>>,
    pub writes: Rc<Cell<usize>>,
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

pub struct Desk {
    pub app: App,
    pub script: Script,
    pub store: Moody,
    pub now: Rc<Cell<i64>>,
}

pub fn model() -> ModelInfo {
    ModelInfo { is_default: true, ..ModelInfo::on_paper("small").unwrap() }
}

impl Desk {
    pub fn new() -> Self {
        Self::over(Moody::default())
    }

    pub fn over(store: Moody) -> Self {
        let (app, script, now) = app_over(Box::new(store.clone()));
        Self { app, script, store, now }
    }

    /// With an open model.
    pub fn open() -> Self {
        let mut desk = Self::new();
        desk.app.start();
        assert!(desk.script.open(model()));
        desk.app.poll();
        desk
    }

    /// The program ends and begins anew over the same store.
    pub fn restart(self) -> Self {
        let mut desk = Self::over(self.store.clone());
        desk.now.set(self.now.get() + 10_000);
        desk.app.start();
        desk.script.open(model());
        desk.app.poll();
        desk
    }

    pub fn wait(&mut self, ms: i64) {
        self.now.set(self.now.get() + ms);
        self.app.poll();
    }

    pub fn ask(&mut self, question: &str) {
        self.app.apply(Command::SetDraft(question.into()));
        self.app.apply(Command::Send);
    }

    /// Asks and answers.
    pub fn talk(&mut self, question: &str, answer: &str) {
        self.ask(question);
        assert!(self.script.answer(answer), "a request");
        self.wait(10);
    }

    pub fn request(&self) -> (Ticket, Request) {
        self.script.next_answer().expect("a request")
    }

    pub fn shown(&self) -> Vec<String> {
        self.app.chat().path().map(|message| message.content.clone()).collect()
    }

    pub fn leaf(&self) -> &Message {
        self.app.chat().leaf().unwrap()
    }

    pub fn at(&self, place: usize) -> MessageId {
        self.app.chat().path_message(place).unwrap().id
    }

    /// What the store has of the current chat.
    pub fn stored(&self) -> Chat {
        self.store.inner.borrow_mut().chat(self.app.chat().id()).unwrap().expect("a stored chat")
    }

    pub fn notices(&self) -> Vec<Notice> {
        self.app.notices.iter().map(|(_, notice)| notice.clone()).collect()
    }
}

pub fn app_over(store: Box<dyn Store>) -> (App, Script, Rc<Cell<i64>>) {
    let (worker, script) = ScriptedWorker::new();
    let now = Rc::new(Cell::new(1_764_000_000_000));
    let clock = now.clone();
    let places = Places { data: Some("/nowhere/fathom".into()), pointer: Some("/nowhere/pointer".into()) };
    (App::new(store, Box::new(worker), Box::new(move || clock.get()), places), script, now)
}

pub fn turns(request: &Request) -> Vec<(Role, String)> {
    let Input::Chat(messages) = &request.input else { panic!("a chat") };
    messages.iter().map(|message| (message.role, message.content.clone())).collect()
}

pub fn contents(request: &Request) -> Vec<String> {
    turns(request).into_iter().map(|(_, content)| content).collect()
}

pub fn stats(prompt_tokens: usize, new_tokens: usize) -> Stats {
    Stats { prompt_tokens, new_tokens, first_token_secs: 0.5, decode_secs: 1.0, ..Stats::default() }
}
