//! The chat window without its drawing: state, one reducer, and the two small interfaces to what is slow or native, [`Store`]
//! and [`Worker`]. Views read [`App`] and push [`Command`]s; [`App::apply`] carries them out; [`App::poll`] takes in what the
//! worker did. A page can use all of it but the SQLite store and the threads.
//!
//! In dependency order: `ids`, `settings`, `chat`, `library`, `worker`, `store`, `command`, then the app itself: `answer` (from
//! chats to requests and back), `keep` (what is to be stored), `transfer` (files), `reduce` (commands), `report` (the worker's
//! reports). `View` in `ui` draws it.

mod answer;
mod chat;
mod command;
mod export;
mod fonts;
pub mod i18n;
mod ids;
mod keep;
mod library;
pub mod markdown;
mod notice;
mod reduce;
mod report;
mod settings;
pub mod store;
pub mod theme;
mod transfer;
pub mod ui;
pub mod worker;

use std::collections::HashMap;
use std::path::PathBuf;

use answer::ROOM_TOKENS;
pub use answer::{Answering, ContextUse, Phase, TooLong};
pub use chat::{Attachment, Chat, ChatHead, ChatSummary, Draft, Message, MessageState};
pub use command::{Command, Format};
pub use ids::{ChatId, MessageId};
pub use library::{Fit, ModelEntry, ModelHeader, scan};
pub use notice::{Notice, NoticeId};
pub use settings::{ChatSettings, Language, ModelRef, Preset, RECENT_MODELS, Settings, Theme, Thinking, ZOOM};

use crate::engine::{Cancel, OpenOptions, TokenInside};
use crate::gpu::{AdapterSummary, KernelTime};
use ids::Ids;
use keep::Keeper;
use store::{Hit, Store};
use worker::{ModelInfo, StorageSpace, Ticket, Worker};

/// Milliseconds since 1970, UTC: the app's only clock.
pub type Clock = Box<dyn Fn() -> i64>;

/// A model on its way.
#[derive(Clone, Debug)]
pub struct Opening {
    pub model: ModelRef,
    /// To show.
    pub name: String,
    pub stage: Stage,
    ticket: Ticket,
    cancel: Cancel,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Stage {
    /// The device is being opened.
    Device,
    /// Bytes that are here and, where the server tells, of how many; in a tab.
    Download(u64, Option<u64>),
    /// So many of so many ways in which kernels can work are measured; on first use of a device.
    Measuring(usize, usize),
    Loading(crate::model::LoadProgress),
}

/// A search in all chats.
#[derive(Clone, Default, Debug)]
pub struct Search {
    /// Empty when there is none.
    pub query: String,
    pub hits: Vec<Hit>,
}

/// What can be taken back.
#[derive(Clone, Debug)]
pub enum Deleted {
    Chat(Box<Chat>),
    Messages(ChatId, Vec<Message>),
}

/// The last deletion, while it can be taken back.
#[derive(Clone, Debug)]
pub struct Undo {
    pub deleted: Deleted,
    pub until_ms: i64,
}

/// What is known of this machine.
#[derive(Clone, Default, Debug)]
pub struct Library {
    pub models: Vec<ModelEntry>,
    pub scanning: bool,
    /// None until asked for.
    pub adapters: Option<Vec<AdapterSummary>>,
    /// Memory for models, to tell what fits; none where it is unknown.
    pub memory_bytes: Option<u64>,
    /// What the browser lets a tab store; none natively, and until asked for.
    pub space: Option<StorageSpace>,
}

/// Where things are on this machine.
#[derive(Clone, Default, Debug)]
pub struct Places {
    /// Holds the chats and the folder `models`.
    pub data: Option<PathBuf>,
    /// The file that names the data folder if it is not the usual one.
    pub pointer: Option<PathBuf>,
}

impl Places {
    pub fn models(&self) -> Option<PathBuf> {
        self.data.as_ref().map(|data| data.join("models"))
    }
}

/// The whole state of a chat window.
pub struct App {
    pub settings: Settings,
    pub presets: Vec<Preset>,
    /// The sidebar: pinned chats first, then by last change.
    pub chats: Vec<ChatSummary>,
    /// The running model.
    pub model: Option<ModelInfo>,
    pub opening: Option<Opening>,
    /// Answers being written: the first one runs, the others wait.
    pub answers: Vec<Answering>,
    /// How full the current chat's context is, draft included.
    pub context: Option<ContextUse>,
    pub too_long: Option<TooLong>,
    /// Banners, the oldest first.
    pub notices: Vec<(NoticeId, Notice)>,
    pub search: Search,
    pub library: Library,
    pub undo: Option<Undo>,
    /// How the tokens of answers came about, for those written while the inside view was open; not stored.
    inside: HashMap<MessageId, Vec<TokenInside>>,
    /// GPU time by kernel of a decoded token; none until measured, or where the device has no clock.
    pub kernel_times: Option<Vec<KernelTime>>,
    /// A message to bring into view, until a view has taken it.
    pub reveal: Option<MessageId>,
    pub places: Places,
    /// How the command line wants models opened, over the settings; not stored, and over when the device's settings change.
    pub launch: OpenOptions,
    current: ChatId,
    /// Chats in memory: the current one, those being answered, and whatever is not stored yet.
    open: HashMap<ChatId, Chat>,
    store: Box<dyn Store>,
    worker: Box<dyn Worker>,
    clock: Clock,
    ids: Ids,
    tickets: u64,
    next_notice: u64,
    keeper: Keeper,
    pending: report::Pending,
}

impl App {
    /// An app over a store and a worker. Reads the chats, opens nothing else: see [`App::start`].
    pub fn new(store: Box<dyn Store>, worker: Box<dyn Worker>, clock: Clock, places: Places) -> Self {
        let mut ids = Ids::default();
        let now = clock();
        let chat = Chat::new(ChatHead::new(ids.chat(now), ChatSettings::default(), now), vec![]);
        let mut app = Self {
            settings: Settings::default(),
            presets: vec![],
            chats: vec![],
            model: None,
            opening: None,
            answers: vec![],
            context: None,
            too_long: None,
            notices: vec![],
            search: Search::default(),
            library: Library::default(),
            undo: None,
            inside: HashMap::new(),
            kernel_times: None,
            reveal: None,
            places,
            launch: OpenOptions::default(),
            current: chat.id(),
            open: HashMap::from([(chat.id(), chat)]),
            store,
            worker,
            clock,
            ids,
            tickets: 0,
            next_notice: 0,
            keeper: Keeper::default(),
            pending: report::Pending::default(),
        };
        app.read_store();
        app
    }

    /// Opens the model of the last time. Called after the first frame, so that the window is there at once.
    pub fn start(&mut self) {
        if let Some(model) = self.settings.model.clone() {
            self.open_model(model);
        }
        self.apply(Command::ScanModels);
    }

    /// The program ends: answers are stopped, what waits is stored.
    pub fn close(&mut self) {
        while let Some(chat) = self.answers.first().map(|answer| answer.chat) {
            self.stop_answer(chat);
        }
        self.keep_draft_now();
    }

    /// The chat in front.
    pub fn chat(&self) -> &Chat {
        &self.open[&self.current]
    }

    /// The answer being written in the current chat, or waiting to be.
    pub fn answering(&self) -> Option<&Answering> {
        self.answers.iter().find(|answer| answer.chat == self.current)
    }

    /// How the tokens of an answer came about; none unless it was written while the inside view was open.
    pub fn inside(&self, message: MessageId) -> Option<&[TokenInside]> {
        self.inside.get(&message).map(Vec::as_slice)
    }

    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}
