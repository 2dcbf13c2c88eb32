//! Chats as files: Markdown to be read, JSON to be imported again.

use std::path::Path;

use super::chat::{Chat, Message, MessageState};
use super::ids::Ids;

/// What is shown of a chat, a heading a turn.
pub fn markdown(chat: &Chat) -> String {
    let mut out = format!("# {}\n\n", if chat.head.title.is_empty() { "Chat" } else { &chat.head.title });
    for message in chat.path() {
        out += &turn(message);
    }
    out
}

fn turn(message: &Message) -> String {
    format!("## {}\n\n{}\n\n", message.role.as_str(), message.content.trim_end())
}

pub fn json(chats: &[&Chat]) -> Result<String, String> {
    let _ = (chats, MessageState::Finished);
    Err("not yet".into())
}

pub fn import(path: &Path, _bytes: &[u8], _ids: &mut Ids, _now_ms: i64) -> Result<Vec<Chat>, String> {
    Err(format!("{}: not yet", path.display()))
}
