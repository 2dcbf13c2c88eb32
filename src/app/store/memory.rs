//! A store that lasts as long as the program: where there is no disk to write to, and in tests.

use std::collections::{BTreeMap, HashMap};

use super::{Change, Hit, Store, StoreError, excerpt};
use crate::app::chat::{Chat, ChatHead, ChatSummary, Message};
use crate::app::ids::{ChatId, MessageId};

#[derive(Default)]
pub struct MemoryStore {
    heads: BTreeMap<ChatId, ChatHead>,
    messages: BTreeMap<MessageId, (ChatId, Message)>,
    settings: HashMap<String, String>,
}

impl Store for MemoryStore {
    fn chats(&mut self) -> Result<Vec<ChatSummary>, StoreError> {
        Ok(self.heads.keys().filter_map(|&id| Some(self.read(id)?.summary())).collect())
    }

    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>, StoreError> {
        Ok(self.read(id))
    }

    fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.settings.get(key).cloned())
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            match change {
                Change::Head(head) => drop(self.heads.insert(head.id, (**head).clone())),
                Change::Message(chat, message) => drop(self.messages.insert(message.id, (*chat, (**message).clone()))),
                Change::DeleteMessages(_, ids) => self.messages.retain(|id, _| !ids.contains(id)),
                Change::DeleteChat(id) => {
                    self.heads.remove(id);
                    self.messages.retain(|_, (chat, _)| chat != id);
                }
                Change::Setting(key, value) => drop(self.settings.insert((*key).to_string(), value.clone())),
            }
        }
        Ok(())
    }

    fn search(&mut self, query: &str, limit: usize) -> Result<Vec<Hit>, StoreError> {
        let titles = self.heads.values().filter_map(|head| {
            let (excerpt, found) = excerpt(&head.title, query)?;
            Some(Hit { chat: head.id, message: None, title: head.title.clone(), excerpt, found, created_ms: head.updated_ms })
        });
        let messages = self.messages.values().filter_map(|(chat, message)| {
            let (excerpt, found) = excerpt(&message.content, query)?;
            let title = self.heads.get(chat)?.title.clone();
            Some(Hit { chat: *chat, message: Some(message.id), title, excerpt, found, created_ms: message.created_ms })
        });
        let mut hits: Vec<Hit> = titles.chain(messages).collect();
        hits.sort_by_key(|hit| (hit.message.is_some(), std::cmp::Reverse(hit.created_ms)));
        hits.truncate(limit);
        Ok(hits)
    }

    fn move_to(&mut self, folder: &std::path::Path) -> Result<(), StoreError> {
        Err(StoreError::Other(format!("{}: the chats are in memory only and cannot be moved", folder.display())))
    }

    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

impl MemoryStore {
    fn read(&self, id: ChatId) -> Option<Chat> {
        let head = self.heads.get(&id)?.clone();
        let messages = self.messages.values().filter(|(chat, _)| *chat == id).map(|(_, message)| message.clone()).collect();
        Some(Chat::new(head, messages))
    }
}
