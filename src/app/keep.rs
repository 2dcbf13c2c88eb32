//! What is to be stored, and when: every change at once, a streaming message every second, and all of it again later when the
//! store refuses. Also takes in what other windows wrote.

use std::collections::HashSet;

use super::chat::{Chat, ChatHead, MessageState};
use super::ids::{ChatId, MessageId};
use super::store::{Change, StoreError};
use super::{App, Notice, Settings};

/// A streaming message is written this often.
const STREAM_MS: i64 = 1000;
/// A streaming message that nobody wrote to for so long has lost its window.
const ORPHAN_MS: i64 = 5000;
/// A refusing store is asked again after this.
const RETRY_MS: i64 = 3000;
/// Other windows are looked for this often.
const WATCH_MS: i64 = 500;
/// A draft is written when typing pauses.
const DRAFT_MS: i64 = 700;

const SETTINGS: &str = "settings";
const PRESETS: &str = "presets";

/// What is not stored yet.
#[derive(Default)]
pub(super) struct Keeper {
    /// Refused by the store so far, in order.
    unsaved: Vec<Change>,
    retry_ms: Option<i64>,
    watched_ms: i64,
    draft_due_ms: Option<i64>,
}

impl Keeper {
    /// Puts a change behind the others, in place of one it makes needless.
    fn push(&mut self, change: Change) {
        self.unsaved.retain(|old| match (old, &change) {
            (Change::Head(old), Change::Head(new)) => old.id != new.id,
            (Change::Message(_, old), Change::Message(_, new)) => old.id != new.id,
            (Change::Setting(old, _), Change::Setting(new, _)) => old != new,
            (Change::Head(old), Change::DeleteChat(id)) => old.id != *id,
            (Change::Message(chat, _), Change::DeleteChat(id)) => chat != id,
            _ => true,
        });
        self.unsaved.push(change);
    }

    /// Chats with something that is not stored.
    fn holds(&self) -> HashSet<ChatId> {
        let chat_of = |change: &Change| match change {
            Change::Head(head) => Some(head.id),
            Change::Message(chat, _) | Change::DeleteMessages(chat, _) | Change::DeleteChat(chat) => Some(*chat),
            Change::Setting(..) => None,
        };
        self.unsaved.iter().filter_map(chat_of).collect()
    }
}

impl App {
    /// Everything at start.
    pub(super) fn read_store(&mut self) {
        if let Some(text) = self.read_setting(SETTINGS) {
            // What an older or newer version wrote and cannot be read is as if it were not set.
            self.settings = serde_json::from_str::<Settings>(&text).unwrap_or_default().sound();
        }
        if let Some(text) = self.read_setting(PRESETS) {
            self.presets = serde_json::from_str(&text).unwrap_or_default();
        }
        self.read_chats();
        let current = self.current;
        if let Some(chat) = self.open.get_mut(&current) {
            chat.head.settings = self.settings.new_chat.clone();
        }
        if let Some(last) = self.settings.last_chat.filter(|last| self.chats.iter().any(|chat| chat.id == *last)) {
            self.show_chat(last);
        }
    }

    /// Everything again, from a store that moved.
    pub(super) fn read_anew(&mut self) {
        let now = self.now_ms();
        let chat = Chat::new(ChatHead::new(self.ids.chat(now), Default::default(), now), vec![]);
        self.current = chat.id();
        self.open = std::collections::HashMap::from([(chat.id(), chat)]);
        self.search = Default::default();
        self.presets.clear();
        self.read_store();
        self.count_soon();
    }

    fn read_setting(&mut self, key: &str) -> Option<String> {
        match self.store.setting(key) {
            Ok(text) => text,
            Err(error) => {
                self.store_refused(&error);
                None
            }
        }
    }

    pub(super) fn read_chats(&mut self) {
        match self.store.chats() {
            Ok(mut chats) => {
                let deleted = |id: ChatId| self.keeper.unsaved.contains(&Change::DeleteChat(id));
                chats.retain(|chat| !deleted(chat.id));
                for id in self.keeper.holds() {
                    if let Some(chat) = self.open.get(&id) {
                        chats.retain(|other| other.id != id);
                        chats.push(chat.summary());
                    }
                }
                self.chats = chats;
                self.sort_chats();
            }
            Err(error) => self.store_refused(&error),
        }
    }

    pub(super) fn sort_chats(&mut self) {
        self.chats.sort_by_key(|chat| (!chat.pinned, std::cmp::Reverse(chat.updated_ms), chat.id));
    }

    /// The chat in memory, read from the store if need be.
    pub(super) fn load_chat(&mut self, id: ChatId) -> bool {
        if self.open.contains_key(&id) {
            return true;
        }
        match self.store.chat(id) {
            Ok(Some(chat)) => {
                let chat = self.without_orphans(chat);
                self.open.insert(id, chat);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.store_refused(&error);
                false
            }
        }
    }

    /// Messages being written elsewhere, and when the window that writes them must have died if nothing comes.
    fn written_elsewhere<'a>(&'a self, chat: &'a Chat) -> impl Iterator<Item = (MessageId, i64)> + 'a {
        let ours = |id: MessageId| self.answers.iter().any(|answer| answer.message == id);
        let foreign = move |message: &&super::Message| message.is_streaming() && !ours(message.id);
        chat.messages().iter().filter(foreign).map(|message| (message.id, message.updated_ms + ORPHAN_MS))
    }

    /// Messages that a window left unfinished when it died are stopped ones.
    fn without_orphans(&self, mut chat: Chat) -> Chat {
        let now = self.now_ms();
        let orphans: Vec<MessageId> = self.written_elsewhere(&chat).filter(|(_, due)| *due <= now).map(|(id, _)| id).collect();
        for id in orphans {
            if let Some(message) = chat.message_mut(id) {
                message.state = MessageState::Stopped;
            }
        }
        chat
    }

    /// Lets go of chats that nobody needs in memory.
    pub(super) fn close_chats(&mut self) {
        let held = self.keeper.holds();
        let answers = &self.answers;
        let too_long = self.too_long.as_ref().map(|too_long| too_long.chat);
        let current = self.current;
        self.open.retain(|id, _| {
            *id == current || held.contains(id) || too_long == Some(*id) || answers.iter().any(|answer| answer.chat == *id)
        });
    }

    pub(super) fn keep_head(&mut self, id: ChatId) {
        let Some(chat) = self.open.get(&id) else { return };
        let head = chat.head.clone();
        let summary = chat.summary();
        match self.chats.iter_mut().find(|chat| chat.id == id) {
            Some(known) => *known = summary,
            None => self.chats.push(summary),
        }
        self.sort_chats();
        self.write(vec![Change::Head(Box::new(head))]);
    }

    pub(super) fn keep_message(&mut self, chat: ChatId, id: MessageId) {
        self.keep_messages(chat, &[id]);
    }

    pub(super) fn keep_messages(&mut self, chat: ChatId, ids: &[MessageId]) {
        let Some(open) = self.open.get(&chat) else { return };
        let messages = ids.iter().filter_map(|&id| open.message(id));
        let changes = messages.map(|message| Change::Message(chat, Box::new(message.clone()))).collect();
        self.write(changes);
    }

    pub(super) fn keep_settings(&mut self) {
        match serde_json::to_string(&self.settings) {
            Ok(text) => self.write(vec![Change::Setting(SETTINGS, text)]),
            Err(error) => self.notify(Notice::StoreFailing { reason: error.to_string() }),
        }
    }

    pub(super) fn keep_presets(&mut self) {
        match serde_json::to_string(&self.presets) {
            Ok(text) => self.write(vec![Change::Setting(PRESETS, text)]),
            Err(error) => self.notify(Notice::StoreFailing { reason: error.to_string() }),
        }
    }

    pub(super) fn keep_draft_soon(&mut self) {
        let due = self.now_ms() + DRAFT_MS;
        self.keeper.draft_due_ms.get_or_insert(due);
    }

    /// Writes a draft that waits for a pause.
    pub(super) fn keep_draft_now(&mut self) {
        if self.keeper.draft_due_ms.take().is_some() {
            let chat = self.chat();
            // An empty chat that was never stored needs no place in the sidebar.
            if !chat.head.draft.is_empty() || self.chats.iter().any(|other| other.id == chat.id()) {
                self.keep_head(self.current);
            }
        }
    }

    /// Stores changes, behind those that wait.
    pub(super) fn write(&mut self, changes: Vec<Change>) {
        changes.into_iter().for_each(|change| self.keeper.push(change));
        if self.keeper.retry_ms.is_none() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.keeper.unsaved.is_empty() {
            return;
        }
        match self.store.write(&self.keeper.unsaved) {
            Ok(()) => {
                self.keeper.unsaved.clear();
                self.keeper.retry_ms = None;
                self.settle(|notice| matches!(notice, Notice::StoreFailing { .. }));
            }
            Err(error) => {
                self.keeper.retry_ms = Some(self.now_ms() + RETRY_MS);
                self.store_refused(&error);
            }
        }
    }

    /// Tells the user. After damage, what is in memory goes into the new file.
    pub(super) fn store_refused(&mut self, error: &StoreError) {
        match error {
            StoreError::Busy(_) => {}
            StoreError::Damaged { .. } => {
                self.notify(Notice::StoreDamaged { reason: error.to_string() });
                self.keeper.retry_ms = Some(self.now_ms());
                let chats: Vec<ChatId> = self.open.keys().copied().filter(|id| self.chats.iter().any(|chat| chat.id == *id)).collect();
                for id in chats {
                    let Some(chat) = self.open.get(&id) else { continue };
                    let head = Change::Head(Box::new(chat.head.clone()));
                    let messages: Vec<Change> =
                        chat.messages().iter().map(|message| Change::Message(id, Box::new(message.clone()))).collect();
                    self.keeper.push(head);
                    messages.into_iter().for_each(|message| self.keeper.push(message));
                }
                // The sidebar shows what there is; all of it is written with the next poll, not now: the store may refuse again.
                let open = &self.open;
                self.chats.retain(|chat| open.contains_key(&chat.id));
                self.keep_settings();
                self.keep_presets();
            }
            StoreError::Full(_) | StoreError::ReadOnly(_) | StoreError::Other(_) => {
                self.settle(|notice| matches!(notice, Notice::StoreFailing { .. }));
                self.notify(Notice::StoreFailing { reason: error.to_string() });
            }
        }
    }

    /// What time brings: streaming messages are written, a refusing store is asked again, other windows' changes come in.
    pub(super) fn keep_time(&mut self) {
        let now = self.now_ms();
        let due: Vec<(ChatId, MessageId)> =
            self.answers.iter().filter(|answer| now - answer.saved_ms >= STREAM_MS).map(|answer| (answer.chat, answer.message)).collect();
        for (chat, id) in due {
            if let Some(message) = self.open.get_mut(&chat).and_then(|chat| chat.message_mut(id)) {
                message.updated_ms = now;
            }
            if let Some(answer) = self.answers.iter_mut().find(|answer| answer.message == id) {
                answer.saved_ms = now;
            }
            self.keep_message(chat, id);
        }
        if self.keeper.draft_due_ms.is_some_and(|due| due <= now) {
            self.keep_draft_now();
        }
        if self.keeper.retry_ms.is_some_and(|due| due <= now) {
            self.keeper.retry_ms = None;
            self.flush();
        }
        if now - self.keeper.watched_ms >= WATCH_MS {
            self.keeper.watched_ms = now;
            let orphaned = |chat: &&Chat| self.written_elsewhere(chat).any(|(_, due)| due <= now);
            let orphaned: Vec<ChatId> = self.open.values().filter(orphaned).map(Chat::id).collect();
            for id in orphaned {
                if let Some(chat) = self.open.remove(&id) {
                    let chat = self.without_orphans(chat);
                    self.open.insert(id, chat);
                }
            }
            match self.store.changed_elsewhere() {
                Ok(true) => self.take_in(),
                Ok(false) => {}
                Err(error) => self.store_refused(&error),
            }
        }
    }

    /// Reads again what another window may have changed. The draft in front of the user and answers written here are ours.
    fn take_in(&mut self) {
        self.read_chats();
        if let Some(text) = self.read_setting(PRESETS) {
            self.presets = serde_json::from_str(&text).unwrap_or_default();
        }
        let held = self.keeper.holds();
        let ids: Vec<ChatId> = self.open.keys().copied().filter(|id| !held.contains(id)).collect();
        for id in ids {
            match self.store.chat(id) {
                Ok(Some(fresh)) => {
                    let mut fresh = self.without_orphans(fresh);
                    let Some(ours) = self.open.get(&id) else { continue };
                    if id == self.current {
                        fresh.head.draft = ours.head.draft.clone();
                    }
                    for answer in self.answers.iter().filter(|answer| answer.chat == id) {
                        let Some(own) = ours.message(answer.message) else { continue };
                        match fresh.message_mut(answer.message) {
                            Some(stored) => stored.clone_from(own),
                            None => fresh.insert(own.clone()),
                        }
                    }
                    self.open.insert(id, fresh);
                }
                // Deleted in another window, unless it was never stored.
                Ok(None) if self.open.get(&id).is_some_and(|chat| chat.path_len() > 0) => self.lose_chat(id),
                Ok(None) => {}
                Err(error) => self.store_refused(&error),
            }
        }
    }

    /// When [`App::poll`] should be called again at the latest; none while nothing waits for time alone.
    pub fn next_wake_ms(&self) -> Option<i64> {
        let stream = self.answers.iter().map(|answer| answer.saved_ms + STREAM_MS).min();
        let undo = self.undo.as_ref().map(|undo| undo.until_ms);
        let orphan = self.open.values().flat_map(|chat| self.written_elsewhere(chat)).map(|(_, due)| due).min();
        [stream, undo, orphan, self.keeper.draft_due_ms, self.keeper.retry_ms, self.pending.count_due_ms].into_iter().flatten().min()
    }
}
