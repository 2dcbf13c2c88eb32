//! Chats and files: attachments, exports, imports, and the data folder.

use std::path::{Path, PathBuf};

use super::chat::{Attachment, Chat};
use super::command::Format;
use super::ids::{ChatId, MessageId};
use super::worker::{Job, Ticket};
use super::{App, Notice, export};

impl App {
    pub(super) fn attached(&mut self, ticket: Ticket, result: Result<Attachment, String>) {
        let Some(at) = self.pending.attach.iter().position(|(other, _)| *other == ticket) else { return };
        let (_, chat) = self.pending.attach.remove(at);
        match result {
            Ok(file) if self.load_chat(chat) => {
                if let Some(chat) = self.open.get_mut(&chat) {
                    chat.head.draft.attachments.push(file);
                }
                self.keep_head(chat);
                self.count_soon();
            }
            Ok(_) => {}
            Err(reason) => self.notify(Notice::FileFailed { reason }),
        }
    }

    pub(super) fn move_data(&mut self, folder: PathBuf) {
        // Answers are written where their questions are.
        while let Some(chat) = self.answers.first().map(|answer| answer.chat) {
            self.stop_answer(chat);
        }
        self.keep_draft_now();
        match self.store.move_to(&folder) {
            Ok(()) => {
                if let Some(path) = self.places.pointer.clone() {
                    let ticket = self.ticket();
                    self.pending.pointer = Some(ticket);
                    let bytes = folder.to_string_lossy().into_owned().into_bytes();
                    self.worker.send(Job::Write { ticket, path, bytes });
                }
                self.places.data = Some(folder);
                self.undo = None;
                self.too_long = None;
                self.read_anew();
                self.scan();
            }
            Err(error) => self.notify(Notice::FileFailed { reason: error.to_string() }),
        }
    }

    pub(super) fn export_chat(&mut self, id: ChatId, format: Format, path: PathBuf) {
        if !self.load_chat(id) {
            return;
        }
        let Some(chat) = self.open.get(&id) else { return };
        let text = match format {
            Format::Markdown => Ok(export::markdown(chat)),
            Format::Json => export::json(&[chat]),
        };
        self.write_file(path, text);
        self.close_chats();
    }

    pub(super) fn export_all(&mut self, path: PathBuf) {
        let mut chats = vec![];
        for id in self.chats.iter().map(|chat| chat.id).collect::<Vec<_>>() {
            let loaded = match self.open.get(&id) {
                Some(chat) => Ok(Some(chat.clone())),
                None => self.store.chat(id),
            };
            match loaded {
                Ok(chat) => chats.extend(chat),
                Err(error) => return self.notify(Notice::FileFailed { reason: error.to_string() }),
            }
        }
        let text = export::json(&chats.iter().collect::<Vec<_>>());
        self.write_file(path, text);
    }

    fn write_file(&mut self, path: PathBuf, text: Result<String, String>) {
        match text {
            Ok(text) => {
                let ticket = self.ticket();
                self.pending.export.push(ticket);
                self.worker.send(Job::Write { ticket, path, bytes: text.into_bytes() });
            }
            Err(reason) => self.notify(Notice::FileFailed { reason }),
        }
    }

    pub(super) fn imported(&mut self, path: &Path, read: Result<Vec<u8>, String>) {
        let now = self.now_ms();
        let chats = read.and_then(|bytes| export::import(path, &bytes, &mut self.ids, now));
        match chats {
            Ok(chats) => {
                let count = chats.len();
                let last = chats.last().map(Chat::id);
                for chat in chats {
                    let id = chat.id();
                    let ids: Vec<MessageId> = chat.messages().iter().map(|message| message.id).collect();
                    self.open.insert(id, chat);
                    self.keep_head(id);
                    self.keep_messages(id, &ids);
                }
                self.notify(Notice::Imported { chats: count });
                if let Some(id) = last {
                    self.show_chat(id);
                }
            }
            Err(reason) => self.notify(Notice::FileFailed { reason }),
        }
    }
}
