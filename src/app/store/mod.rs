//! Where chats are kept. The app writes lists of changes, each list whole or not at all, and keeps what a store refused until
//! it takes it. Natively it is SQLite; without a disk, memory.

mod memory;
#[cfg(not(target_arch = "wasm32"))]
mod schema;
#[cfg(not(target_arch = "wasm32"))]
mod sqlite;

use std::path::{Path, PathBuf};

pub use memory::MemoryStore;
#[cfg(not(target_arch = "wasm32"))]
pub use sqlite::{FILE, SqliteStore};

use super::chat::{Chat, ChatHead, ChatSummary, Message};
use super::ids::{ChatId, MessageId};

/// One line: what, expected, found, hint.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// Another window writes, or the system refuses for now; a later try may work.
    #[error("{0}")]
    Busy(String),
    #[error("the disk is full: {0}")]
    Full(String),
    #[error("the chats cannot be written: {0}")]
    ReadOnly(String),
    /// The file was damaged and is now at `set_aside`; a new one was begun.
    #[error("the chats' file was damaged ({reason}) and is kept as {}; a new one was begun", .set_aside.display())]
    Damaged { set_aside: PathBuf, reason: String },
    #[error("{0}")]
    Other(String),
}

/// One thing to remember.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A chat's head, new or changed.
    Head(Box<ChatHead>),
    /// A message, new or changed.
    Message(ChatId, Box<Message>),
    /// These messages are gone.
    DeleteMessages(ChatId, Vec<MessageId>),
    /// A chat is gone, with its messages.
    DeleteChat(ChatId),
    Setting(&'static str, String),
}

/// A message that a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    pub chat: ChatId,
    /// None when the title was found.
    pub message: Option<MessageId>,
    pub title: String,
    /// Words around the find, on one line.
    pub excerpt: String,
    /// Where in `excerpt` the find is, in bytes.
    pub found: std::ops::Range<usize>,
    pub created_ms: i64,
}

/// Keeps chats and settings.
pub trait Store {
    /// All chats, pinned first, then by last change.
    fn chats(&mut self) -> Result<Vec<ChatSummary>, StoreError>;
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>, StoreError>;
    fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError>;
    /// Writes all changes or none.
    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError>;
    /// Finds messages and titles that have every word of `query`, newest first.
    fn search(&mut self, query: &str, limit: usize) -> Result<Vec<Hit>, StoreError>;
    /// Moves to another folder: to the chats that are there, else with a copy of everything.
    ///
    /// # Errors
    /// A folder that cannot be used; the store then stays where it is.
    fn move_to(&mut self, folder: &Path) -> Result<(), StoreError>;
    /// Whether another window wrote since the last call.
    fn changed_elsewhere(&mut self) -> Result<bool, StoreError>;
}

/// Characters of an excerpt before and after the find.
const EXCERPT_CHARS: usize = 40;

/// The words around the first find, on one line, and where it is; none unless every word of the query occurs.
fn excerpt(text: &str, query: &str) -> Option<(String, std::ops::Range<usize>)> {
    let folded = Folded::new(text);
    let words: Vec<String> = query.split_whitespace().map(fold).collect();
    let places: Option<Vec<usize>> = words.iter().map(|word| folded.text.find(word.as_str())).collect();
    let places = places?;
    let (first, word) = places.into_iter().zip(&words).min_by_key(|(place, _)| *place)?;
    let (begin, end) = (folded.origin(first), folded.origin(first + word.len()));
    let from = text[..begin].char_indices().rev().take(EXCERPT_CHARS).last().map_or(begin, |(at, _)| at);
    let to = text[end..].char_indices().nth(EXCERPT_CHARS).map_or(text.len(), |(at, _)| end + at);
    let line = |part: &str| part.chars().map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c }).collect::<String>();
    let mut out = if from > 0 { "…".to_string() } else { String::new() };
    out += line(&text[from..begin]).trim_start();
    let found_from = out.len();
    out += &line(&text[begin..end]);
    let found = found_from..out.len();
    out += line(&text[end..to]).trim_end();
    if to < text.len() {
        out.push('…');
    }
    Some((out, found))
}

fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// A text in lower case that knows where each byte came from.
struct Folded {
    text: String,
    /// Per byte of `text`, and one past its end: the byte of the original.
    origins: Vec<usize>,
}

impl Folded {
    fn new(original: &str) -> Self {
        let (mut text, mut origins) = (String::with_capacity(original.len()), Vec::with_capacity(original.len() + 1));
        for (at, c) in original.char_indices() {
            for lower in c.to_lowercase() {
                text.push(lower);
                origins.resize(text.len(), at);
            }
        }
        origins.push(original.len());
        Self { text, origins }
    }

    fn origin(&self, at: usize) -> usize {
        self.origins[at]
    }
}

#[cfg(test)]
mod tests;
