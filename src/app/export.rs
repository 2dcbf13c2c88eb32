//! Chats as files: Markdown to be read, JSON to be imported again with all its branches.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chat::{Attachment, Chat, ChatHead, Message, MessageState};
use super::ids::{Ids, MessageId};
use super::settings::ChatSettings;
use crate::engine::Stats;
use crate::sampler::Sampling;
use crate::text::Role;

/// What a JSON file says it is.
const FORMAT: &str = "fathom-chats";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    chats: Vec<ChatFile>,
}

#[derive(Serialize, Deserialize)]
struct ChatFile {
    title: String,
    created_ms: i64,
    updated_ms: i64,
    #[serde(default)]
    pinned: bool,
    #[serde(default)]
    settings: ChatSettings,
    /// Of the first messages, the place of the one shown.
    #[serde(default)]
    selected: Option<usize>,
    /// By age: parents come before their children.
    messages: Vec<MessageFile>,
}

#[derive(Serialize, Deserialize)]
struct MessageFile {
    /// The parent's place among the messages.
    #[serde(default)]
    parent: Option<usize>,
    /// The place of the child that is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selected: Option<usize>,
    role: RoleFile,
    content: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reasoning: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning_ms: Option<i64>,
    state: StateFile,
    created_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampling: Option<Sampling>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleFile {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateFile {
    Finished,
    Stopped,
    Cut,
    Failed(String),
}

/// What is shown of a chat, a heading a turn, files folded away.
pub fn markdown(chat: &Chat) -> String {
    let mut out = format!("# {}\n\n", if chat.head.title.is_empty() { "Chat" } else { &chat.head.title });
    for message in chat.path() {
        out += &format!("## {}\n\n", heading(message.role));
        for file in &message.attachments {
            out += &super::answer::fenced(file);
        }
        out += message.content.trim_end();
        out += "\n\n";
    }
    out
}

fn heading(role: Role) -> &'static str {
    match role {
        Role::System => "System",
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::Tool => "Tool",
    }
}

/// Whole chats, to be imported again.
pub fn json(chats: &[&Chat]) -> Result<String, String> {
    let chats = chats.iter().map(|chat| chat_file(chat)).collect();
    let file = File { format: FORMAT.into(), version: VERSION, chats };
    serde_json::to_string_pretty(&file).map_err(|error| error.to_string())
}

fn chat_file(chat: &Chat) -> ChatFile {
    let place: HashMap<MessageId, usize> = chat.messages().iter().enumerate().map(|(at, message)| (message.id, at)).collect();
    let at = |id: Option<MessageId>| id.and_then(|id| place.get(&id).copied());
    let message = |message: &Message| MessageFile {
        parent: at(message.parent),
        selected: at(message.selected_child),
        role: match message.role {
            Role::System => RoleFile::System,
            Role::User => RoleFile::User,
            Role::Assistant => RoleFile::Assistant,
            Role::Tool => RoleFile::Tool,
        },
        content: message.content.clone(),
        reasoning: message.reasoning.clone(),
        reasoning_ms: message.reasoning_ms,
        state: match &message.state {
            MessageState::Finished => StateFile::Finished,
            MessageState::Streaming | MessageState::Stopped => StateFile::Stopped,
            MessageState::Cut => StateFile::Cut,
            MessageState::Failed(reason) => StateFile::Failed(reason.clone()),
        },
        created_ms: message.created_ms,
        model: message.model.clone(),
        sampling: message.sampling,
        stats: message.stats,
        attachments: message.attachments.clone(),
    };
    let head = &chat.head;
    ChatFile {
        title: head.title.clone(),
        created_ms: head.created_ms,
        updated_ms: head.updated_ms,
        pinned: head.pinned,
        settings: head.settings.clone(),
        selected: at(head.selected_root),
        messages: chat.messages().iter().map(message).collect(),
    }
}

/// Chats from a file, under new ids: JSON as exported, else Markdown with a heading a turn.
///
/// # Errors
/// One line: what the file is instead.
pub fn import(path: &Path, bytes: &[u8], ids: &mut Ids, now_ms: i64) -> Result<Vec<Chat>, String> {
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("expected text in UTF-8, found other bytes".into()))?;
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md")) {
        return from_markdown(text, ids, now_ms).map(|chat| vec![chat]).map_err(wrong);
    }
    let file: File = serde_json::from_str(text).map_err(|error| wrong(format!("expected chats as Fathom exports them, found {error}")))?;
    if file.format != FORMAT {
        return Err(wrong(format!("format: expected {FORMAT:?}, found {:?}", file.format)));
    }
    if file.version > VERSION {
        return Err(wrong(format!("version: expected {VERSION} or older, found {}; a newer Fathom wrote it", file.version)));
    }
    file.chats.into_iter().map(|chat| from_file(chat, ids, now_ms).map_err(wrong)).collect()
}

fn from_file(file: ChatFile, ids: &mut Ids, now_ms: i64) -> Result<Chat, String> {
    let mut head = ChatHead::new(ids.chat(now_ms), file.settings, file.created_ms);
    (head.title, head.titled_by_hand) = (file.title, true);
    (head.updated_ms, head.pinned) = (file.updated_ms, file.pinned);
    let made: Vec<MessageId> = file.messages.iter().map(|_| ids.message(now_ms)).collect();
    let place = |at: Option<usize>| at.and_then(|at| made.get(at).copied());
    head.selected_root = place(file.selected);
    let mut messages = vec![];
    for (at, message) in file.messages.into_iter().enumerate() {
        if let Some(parent) = message.parent.filter(|&parent| parent >= at) {
            return Err(format!("message {at}: parent: expected one before it, found {parent}"));
        }
        let role = match message.role {
            RoleFile::System => Role::System,
            RoleFile::User => Role::User,
            RoleFile::Assistant => Role::Assistant,
            RoleFile::Tool => Role::Tool,
        };
        messages.push(Message {
            selected_child: place(message.selected),
            reasoning: message.reasoning,
            reasoning_ms: message.reasoning_ms,
            state: match message.state {
                StateFile::Finished => MessageState::Finished,
                StateFile::Stopped => MessageState::Stopped,
                StateFile::Cut => MessageState::Cut,
                StateFile::Failed(reason) => MessageState::Failed(reason),
            },
            model: message.model,
            sampling: message.sampling,
            stats: message.stats,
            attachments: message.attachments,
            ..Message::new(made[at], place(message.parent), role, message.content, message.created_ms)
        });
    }
    Ok(Chat::new(head, messages))
}

/// Turns under `## User` and `## Assistant`, whatever the language of the heading's case; a `#` line before them is the title.
fn from_markdown(text: &str, ids: &mut Ids, now_ms: i64) -> Result<Chat, String> {
    let mut head = ChatHead::new(ids.chat(now_ms), ChatSettings::default(), now_ms);
    let mut turns: Vec<(Role, String)> = vec![];
    let mut fence: Option<String> = None;
    for line in text.lines() {
        let ticks: String = line.trim_start().chars().take_while(|&c| c == '`').collect();
        match &fence {
            None if ticks.len() >= 3 => fence = Some(ticks),
            Some(open) if ticks.len() >= open.len() && line.trim() == ticks => fence = None,
            _ => {}
        }
        let role = line.strip_prefix("## ").filter(|_| fence.is_none()).and_then(|name| match name.trim().to_lowercase().as_str() {
            "user" => Some(Role::User),
            "assistant" => Some(Role::Assistant),
            "system" => Some(Role::System),
            "tool" => Some(Role::Tool),
            _ => None,
        });
        match (role, turns.last_mut()) {
            (Some(role), _) => turns.push((role, String::new())),
            (None, Some((_, content))) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix("# ") {
                    head.title = title.trim().to_string();
                }
            }
        }
    }
    if turns.is_empty() {
        return Err("expected turns under `## User` and `## Assistant`, found none".into());
    }
    head.titled_by_hand = !head.title.is_empty();
    let mut parent = None;
    let mut messages = vec![];
    for (role, content) in turns {
        let message = Message::new(ids.message(now_ms), parent, role, content.trim().to_string(), now_ms);
        parent = Some(message.id);
        messages.push(message);
    }
    Ok(Chat::new(head, messages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::ids::ChatId;

    fn sample() -> Chat {
        let mut head = ChatHead::new(ChatId(1), ChatSettings { system: "Be brief.".into(), ..ChatSettings::default() }, 5);
        head.title = "Fences".into();
        let message = |id, parent: Option<i64>, role, content: &str| {
            Message::new(MessageId(id), parent.map(MessageId), role, content.to_string(), 10 + id)
        };
        let mut chat = Chat::new(head, vec![]);
        chat.insert(Message {
            attachments: vec![Attachment { name: "a.rs".into(), text: "## User\n".into() }],
            ..message(1, None, Role::User, "What?")
        });
        chat.insert(Message {
            reasoning: "Hm.".into(),
            reasoning_ms: Some(700),
            ..message(2, Some(1), Role::Assistant, "```\n## User\n```")
        });
        chat.insert(Message { state: MessageState::Failed("lost".into()), ..message(3, Some(1), Role::Assistant, "An") });
        chat.select(MessageId(2));
        chat
    }

    /// All but ids, which are new.
    fn essence(chat: &Chat) -> String {
        let mut file = chat_file(chat);
        file.updated_ms = 0;
        serde_json::to_string(&file).unwrap()
    }

    #[test]
    fn json_brings_back_every_branch() {
        let chat = sample();
        let text = json(&[&chat, &chat]).unwrap();
        let back = import(Path::new("x.json"), text.as_bytes(), &mut Ids::default(), 99).unwrap();
        assert_eq!(back.len(), 2);
        assert_eq!(essence(&back[0]), essence(&chat));
        assert_ne!(back[0].id(), back[1].id());
        assert_eq!(back[0].path().map(|message| message.content.as_str()).collect::<Vec<_>>(), ["What?", "```\n## User\n```"]);
    }

    #[test]
    fn markdown_brings_back_what_is_shown() {
        let text = markdown(&sample());
        let back = import(Path::new("x.MD"), text.as_bytes(), &mut Ids::default(), 99).unwrap();
        let turns: Vec<(Role, &str)> = back[0].path().map(|message| (message.role, message.content.as_str())).collect();
        assert_eq!(turns, [(Role::User, "a.rs\n```\n## User\n```\n\nWhat?"), (Role::Assistant, "```\n## User\n```")]);
        assert_eq!(back[0].head.title, "Fences");
    }

    #[test]
    fn hostile_files_are_refused_in_one_line() {
        let import = |name: &str, text: &[u8]| import(Path::new(name), text, &mut Ids::default(), 1).unwrap_err();
        assert!(import("x.json", b"[]").starts_with("x.json: expected chats as Fathom exports them, found "));
        assert!(import("x.json", b"\xFF").contains("expected text in UTF-8"));
        assert!(import("x.json", br#"{"format":"other","version":1,"chats":[]}"#).contains("format: expected \"fathom-chats\""));
        assert!(import("x.json", br#"{"format":"fathom-chats","version":9,"chats":[]}"#).contains("found 9; a newer Fathom"));
        let circle = br#"{"format":"fathom-chats","version":1,"chats":[{"title":"","created_ms":0,"updated_ms":0,"messages":[
            {"parent":0,"role":"user","content":"","state":"finished","created_ms":0}]}]}"#;
        assert_eq!(import("x.json", circle), "x.json: message 0: parent: expected one before it, found 0");
        assert!(import("x.md", b"# only\ntext").contains("found none"));
    }
}
