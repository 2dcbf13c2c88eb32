//! Chats in a tab: all of them in memory, every list of changes written through to IndexedDB in one transaction.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use fathom::app::store::{Change, Hit, MemoryStore, Store, StoreError};
use fathom::app::{Chat, ChatHead, ChatId, ChatSummary, Message};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::page::Page;

/// A row as it is stored; keys are texts, since JavaScript's numbers do not hold an id.
#[derive(Serialize, Deserialize)]
enum Row {
    Head(String),
    Message { chat: ChatId, message: String },
    Setting(String),
}

/// A change to a table of rows by key.
#[derive(Serialize, Deserialize)]
struct Edit {
    key: String,
    /// None deletes.
    row: Option<String>,
}

const HEAD: &str = "head/";
const MESSAGE: &str = "message/";
const SETTING: &str = "setting/";

/// Settings have names known at compile time; those stored by a later version are passed over.
const SETTINGS: [&str; 2] = ["settings", "presets"];

pub struct WebStore {
    page: Rc<Page>,
    mirror: Rc<RefCell<MemoryStore>>,
    changed: Rc<Cell<bool>>,
    failed: Rc<RefCell<Option<String>>>,
}

impl WebStore {
    /// Everything that is stored.
    pub fn open(page: Rc<Page>, repaint: impl Fn() + 'static) -> Self {
        let mirror = Rc::new(RefCell::new(MemoryStore::default()));
        let (changed, failed) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
        for pair in page.chats().iter() {
            let pair = js_sys::Array::from(&pair);
            if let (Some(key), Some(row)) = (pair.get(0).as_string(), pair.get(1).as_string()) {
                apply(&mut mirror.borrow_mut(), &Edit { key, row: Some(row) });
            }
        }
        let repaint = Rc::new(repaint);
        let (into, flag, again) = (mirror.clone(), changed.clone(), repaint.clone());
        let take = Closure::<dyn Fn(String)>::new(move |edits: String| {
            for edit in serde_json::from_str::<Vec<Edit>>(&edits).unwrap_or_default() {
                apply(&mut into.borrow_mut(), &edit);
            }
            flag.set(true);
            again();
        });
        let reason = failed.clone();
        let fail = Closure::<dyn Fn(String)>::new(move |why: String| {
            *reason.borrow_mut() = Some(why);
            repaint();
        });
        page.watch_chats(take.as_ref().unchecked_ref(), fail.as_ref().unchecked_ref());
        // The page keeps them for as long as it lives.
        take.forget();
        fail.forget();
        Self { page, mirror, changed, failed }
    }

    fn edits(&self, change: &Change) -> Result<Vec<Edit>, StoreError> {
        Ok(match change {
            Change::Head(head) => {
                let row = Row::Head(text(head)?);
                vec![Edit { key: format!("{HEAD}{}", head.id.0), row: Some(text(&row)?) }]
            }
            Change::Message(chat, message) => {
                let row = Row::Message { chat: *chat, message: text(message)? };
                vec![Edit { key: format!("{MESSAGE}{}", message.id.0), row: Some(text(&row)?) }]
            }
            Change::Setting(name, value) => vec![Edit { key: format!("{SETTING}{name}"), row: Some(text(&Row::Setting(value.clone()))?) }],
            Change::DeleteMessages(_, ids) => ids.iter().map(|id| Edit { key: format!("{MESSAGE}{}", id.0), row: None }).collect(),
            Change::DeleteChat(id) => {
                let chat = self.mirror.borrow_mut().chat(*id)?;
                let messages = chat.iter().flat_map(Chat::messages).map(|message| format!("{MESSAGE}{}", message.id.0));
                messages.chain([format!("{HEAD}{}", id.0)]).map(|key| Edit { key, row: None }).collect()
            }
        })
    }
}

fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Other(error.to_string()))
}

/// Takes an edit into the mirror; rows that cannot be read are left alone.
fn apply(mirror: &mut MemoryStore, edit: &Edit) {
    let id = |prefix: &str| edit.key.strip_prefix(prefix).and_then(|id| id.parse().ok());
    let row = edit.row.as_ref().map(|row| serde_json::from_str::<Row>(row));
    let change = match row {
        Some(Ok(Row::Head(head))) => serde_json::from_str::<ChatHead>(&head).ok().map(|head| Change::Head(Box::new(head))),
        Some(Ok(Row::Message { chat, message })) => {
            serde_json::from_str::<Message>(&message).ok().map(|message| Change::Message(chat, Box::new(message)))
        }
        Some(Ok(Row::Setting(value))) => {
            let name = SETTINGS.into_iter().find(|name| edit.key.strip_prefix(SETTING) == Some(name));
            name.map(|name| Change::Setting(name, value))
        }
        Some(Err(_)) => None,
        None => match (id(HEAD), id(MESSAGE)) {
            (Some(id), _) => Some(Change::DeleteChat(ChatId(id))),
            (_, Some(id)) => Some(Change::DeleteMessages(ChatId(0), vec![fathom::app::MessageId(id)])),
            _ => None,
        },
    };
    if let Some(change) = change {
        // Memory refuses nothing.
        let _ = mirror.write(&[change]);
    }
}

impl Store for WebStore {
    fn chats(&mut self) -> Result<Vec<ChatSummary>, StoreError> {
        self.mirror.borrow_mut().chats()
    }

    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>, StoreError> {
        self.mirror.borrow_mut().chat(id)
    }

    fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.mirror.borrow_mut().setting(key)
    }

    /// What an earlier list met with is told here: the page tries it again with this one.
    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut edits = vec![];
        for change in changes {
            edits.extend(self.edits(change)?);
        }
        let json = text(&edits)?;
        self.mirror.borrow_mut().write(changes)?;
        self.page.keep_chats(&json);
        match self.failed.take() {
            Some(reason) => Err(StoreError::Other(reason)),
            None => Ok(()),
        }
    }

    fn search(&mut self, query: &str, limit: usize) -> Result<Vec<Hit>, StoreError> {
        self.mirror.borrow_mut().search(query, limit)
    }

    fn move_to(&mut self, folder: &Path) -> Result<(), StoreError> {
        Err(StoreError::Other(format!("{}: chats of a page stay in the browser", folder.display())))
    }

    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        Ok(self.changed.take())
    }
}
