//! The reducer: what each command does.

use super::answer::lineage;
use super::chat::{Chat, ChatHead, Draft, Message, MessageState};
use super::command::Command;
use super::ids::{ChatId, MessageId};
use super::settings::{ModelRef, Preset, Settings};
use super::store::Change;
use super::worker::Job;
use super::{App, Deleted, Opening, Search, Stage, Undo};
use crate::engine::{Cancel, OpenOptions};
use crate::gpu::GpuOptions;
use crate::text::Role;

/// How long a deletion can be taken back.
const UNDO_MS: i64 = 15_000;
/// Hits that a search shows.
const HITS: usize = 200;
/// Characters of an automatic title.
const TITLE_CHARS: usize = 60;

impl App {
    /// Carries out a command. Never blocks on the model; one that no longer makes sense does nothing.
    pub fn apply(&mut self, command: Command) {
        match command {
            Command::NewChat => self.new_chat(),
            Command::OpenChat(id) => self.show_chat(id),
            Command::PreviousChat => self.step_chat(-1),
            Command::NextChat => self.step_chat(1),
            Command::RenameChat(id, title) => self.change_head(id, |head| {
                head.title = one_line(&title, TITLE_CHARS * 4);
                head.titled_by_hand = !head.title.is_empty();
            }),
            Command::PinChat(id, pinned) => self.change_head(id, |head| head.pinned = pinned),
            Command::DeleteChat(id) => self.delete_chat(id),
            Command::Undo => self.undo(),
            Command::Search(query) => self.search(query),
            Command::OpenMessage(chat, message) => self.open_message(chat, message),
            Command::ExportChat { chat, format, path } => self.export_chat(chat, format, path),
            Command::ExportAll(path) => self.export_all(path),
            Command::Import(path) => {
                let ticket = self.ticket();
                self.pending.import.push(ticket);
                self.worker.send(Job::Read { ticket, path });
            }

            Command::SetDraft(text) => {
                if self.chat().head.draft.text != text {
                    self.current_head(|head| head.draft.text = text);
                    self.draft_changed();
                }
            }
            Command::Attach(path) => {
                let ticket = self.ticket();
                self.pending.attach.push((ticket, self.current));
                self.worker.send(Job::Attach { ticket, path });
            }
            Command::RemoveAttachment(at) => {
                if at < self.chat().head.draft.attachments.len() {
                    self.current_head(|head| drop(head.draft.attachments.remove(at)));
                    self.draft_changed();
                }
            }
            Command::Send => self.send(),
            Command::Stop => self.stop_answer(self.current),

            Command::Edit(id, text) => self.edit(id, text),
            Command::Regenerate(id) => self.regenerate(id),
            Command::Continue(id) => {
                if !self.is_answering(self.current) && self.chat().message(id).is_some_and(Message::can_continue) {
                    self.select(id);
                    self.begin_answer(self.current, id, true);
                }
            }
            Command::StepBranch(id, by) => self.step_branch(id, by),
            Command::DeleteMessage(id) => self.delete_message(id),
            Command::ShowReasoning(shown) => {
                self.current_head(|head| head.shows_reasoning = shown);
                self.keep_current_head();
            }

            Command::DropOldest => self.drop_oldest(),
            Command::RaiseContext => self.raise_context(),
            Command::DismissTooLong => self.too_long = None,
            Command::ReadAll => {
                self.current_head(|head| head.context_start = None);
                self.keep_current_head();
                self.count_soon();
            }

            Command::OpenModel(model) => self.open_model(model),
            Command::CancelOpening => {
                if let Some(opening) = &self.opening {
                    opening.cancel.cancel();
                }
            }
            Command::UnloadModel => self.unload(),
            Command::ScanModels => self.scan(),
            Command::ForgetModel(path) => {
                self.settings.recent_models.retain(|other| *other != path);
                self.keep_settings();
                self.scan();
            }
            Command::RemoveModel(path) => {
                self.settings.recent_models.retain(|other| *other != path);
                self.keep_settings();
                let ticket = self.ticket();
                self.worker.send(Job::RemoveModel { ticket, path });
            }
            Command::Persist => {
                let ticket = self.ticket();
                self.worker.send(Job::Persist { ticket });
            }
            Command::AddModelFolder(path) => {
                if !self.settings.model_folders.contains(&path) {
                    self.settings.model_folders.push(path);
                    self.keep_settings();
                }
                self.scan();
            }
            Command::RemoveModelFolder(path) => {
                self.settings.model_folders.retain(|other| *other != path);
                self.keep_settings();
                self.scan();
            }
            Command::MeasureKernels => {
                if self.model.is_some() && !self.pending.measures {
                    self.pending.measures = true;
                    self.worker.send(Job::MeasureKernels);
                }
            }
            Command::ListAdapters => {
                let ticket = self.ticket();
                self.pending.adapters = Some(ticket);
                self.worker.send(Job::Adapters { ticket, backend: self.settings.backend.clone() });
            }

            Command::SetChatSettings(settings) => {
                self.current_head(|head| head.settings = settings);
                self.keep_current_head();
                self.count_soon();
            }
            Command::SavePreset(name) => self.save_preset(&name),
            Command::ApplyPreset(name) => {
                if let Some(preset) = self.presets.iter().find(|preset| preset.name == name).cloned() {
                    self.apply(Command::SetChatSettings(preset.settings));
                }
            }
            Command::DeletePreset(name) => {
                self.presets.retain(|preset| preset.name != name);
                self.keep_presets();
            }
            Command::SetSettings(settings) => self.set_settings(*settings),
            Command::MoveData(folder) => self.move_data(folder),
            Command::DismissNotice(id) => self.notices.retain(|(other, _)| *other != id),
        }
    }

    // Chats.

    pub(super) fn is_answering(&self, chat: ChatId) -> bool {
        self.answers.iter().any(|answer| answer.chat == chat)
    }

    fn current_head(&mut self, change: impl FnOnce(&mut ChatHead)) {
        let current = self.current;
        if let Some(chat) = self.open.get_mut(&current) {
            change(&mut chat.head);
        }
    }

    /// Stores the current chat's head, unless the chat is still nothing but an empty page.
    fn keep_current_head(&mut self) {
        let id = self.current;
        if self.chat().path_len() > 0 || self.chats.iter().any(|chat| chat.id == id) {
            self.keep_head(id);
        }
    }

    fn change_head(&mut self, id: ChatId, change: impl FnOnce(&mut ChatHead)) {
        if self.load_chat(id)
            && let Some(chat) = self.open.get_mut(&id)
        {
            change(&mut chat.head);
            self.keep_head(id);
            self.close_chats();
        }
    }

    fn draft_changed(&mut self) {
        self.keep_draft_soon();
        self.count_soon();
    }

    fn new_chat(&mut self) {
        let now = self.now_ms();
        self.keep_draft_now();
        // An empty page is as new as a chat can be.
        if self.chat().path_len() == 0 && self.chat().head.draft.is_empty() {
            return;
        }
        let chat = Chat::new(ChatHead::new(self.ids.chat(now), self.settings.new_chat.clone(), now), vec![]);
        let id = chat.id();
        self.open.insert(id, chat);
        self.show_chat(id);
    }

    /// Puts a chat in front.
    pub(super) fn show_chat(&mut self, id: ChatId) {
        self.keep_draft_now();
        if !self.load_chat(id) {
            return;
        }
        self.current = id;
        self.reveal = None;
        self.context = None;
        if self.settings.last_chat != Some(id) && self.chats.iter().any(|chat| chat.id == id) {
            self.settings.last_chat = Some(id);
            self.keep_settings();
        }
        self.close_chats();
        self.count_soon();
    }

    fn step_chat(&mut self, by: isize) {
        let at = self.chats.iter().position(|chat| chat.id == self.current);
        let to = match at {
            Some(at) => at.checked_add_signed(by),
            None => Some(0),
        };
        if let Some(id) = to.and_then(|to| self.chats.get(to)).map(|chat| chat.id) {
            self.show_chat(id);
        }
    }

    fn delete_chat(&mut self, id: ChatId) {
        if !self.load_chat(id) {
            return;
        }
        self.stop_answer(id);
        let at = self.chats.iter().position(|chat| chat.id == id);
        let Some(chat) = self.open.get(&id).cloned() else { return };
        self.lose_chat(id);
        if at.is_some() {
            self.write(vec![Change::DeleteChat(id)]);
            self.undo = Some(Undo { deleted: Deleted::Chat(Box::new(chat)), until_ms: self.now_ms() + UNDO_MS });
        }
    }

    /// Forgets a chat that is gone; the one below it, or a new one, comes to the front.
    pub(super) fn lose_chat(&mut self, id: ChatId) {
        let at = self.chats.iter().position(|chat| chat.id == id);
        self.chats.retain(|chat| chat.id != id);
        self.answers.retain(|answer| answer.chat != id);
        self.too_long.take_if(|too_long| too_long.chat == id);
        if self.current == id {
            let next = at.and_then(|at| self.chats.get(at).or_else(|| self.chats.last())).map(|chat| chat.id);
            if let Some(next) = next {
                self.show_chat(next);
            }
            if self.current == id {
                let now = self.now_ms();
                let chat = Chat::new(ChatHead::new(self.ids.chat(now), self.settings.new_chat.clone(), now), vec![]);
                self.current = chat.id();
                self.open.insert(chat.id(), chat);
            }
        }
        self.open.remove(&id);
    }

    fn undo(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        match undo.deleted {
            Deleted::Chat(chat) => {
                let id = chat.id();
                let ids: Vec<MessageId> = chat.messages().iter().map(|message| message.id).collect();
                self.open.insert(id, *chat);
                self.keep_head(id);
                self.keep_messages(id, &ids);
                self.show_chat(id);
            }
            Deleted::Messages(id, messages) => {
                if !self.load_chat(id) {
                    return;
                }
                let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
                let parent = messages.first().and_then(|message| message.parent);
                if let Some(chat) = self.open.get_mut(&id) {
                    chat.restore(messages);
                }
                self.keep_messages(id, &ids);
                self.keep_messages(id, parent.as_slice());
                self.keep_head(id);
                self.show_chat(id);
            }
        }
    }

    fn search(&mut self, query: String) {
        let hits = if query.trim().is_empty() { Ok(vec![]) } else { self.store.search(query.trim(), HITS) };
        match hits {
            Ok(hits) => self.search = Search { query, hits },
            Err(error) => {
                self.search = Search { query, hits: vec![] };
                self.store_refused(&error);
            }
        }
    }

    fn open_message(&mut self, chat: ChatId, message: MessageId) {
        self.show_chat(chat);
        if self.current == chat && self.chat().message(message).is_some() {
            self.select(message);
            self.reveal = Some(message);
        }
    }

    // Writing.

    fn send(&mut self) {
        let now = self.now_ms();
        let id = self.current;
        if self.is_answering(id) || self.chat().head.draft.is_empty() {
            return;
        }
        let mut draft = Draft::default();
        self.current_head(|head| draft = std::mem::take(&mut head.draft));
        let parent = self.chat().leaf().map(|message| message.id);
        let question = Message {
            attachments: draft.attachments,
            ..Message::new(self.ids.message(now), parent, Role::User, draft.text.trim().to_string(), now)
        };
        self.ask(question);
    }

    /// Adds a question to the current chat and answers it.
    fn ask(&mut self, question: Message) {
        let now = self.now_ms();
        let title = automatic_title(&question);
        self.current_head(|head| {
            head.updated_ms = now;
            if !head.titled_by_hand && head.title.is_empty() {
                head.title = title;
            }
        });
        let id = question.id;
        self.insert(question);
        self.answer_below(Some(id));
    }

    /// Adds a message to the current chat and stores it, with what it changed.
    fn insert(&mut self, message: Message) {
        let (current, id, parent) = (self.current, message.id, message.parent);
        if let Some(chat) = self.open.get_mut(&current) {
            chat.insert(message);
        }
        self.keep_head(current);
        self.keep_messages(current, &parent.into_iter().chain([id]).collect::<Vec<_>>());
        if self.settings.last_chat != Some(current) {
            self.settings.last_chat = Some(current);
            self.keep_settings();
        }
        self.count_soon();
    }

    fn answer_below(&mut self, parent: Option<MessageId>) {
        let now = self.now_ms();
        let answer =
            Message { state: MessageState::Streaming, ..Message::new(self.ids.message(now), parent, Role::Assistant, String::new(), now) };
        let id = answer.id;
        self.insert(answer);
        self.begin_answer(self.current, id, false);
    }

    // Messages.

    /// Shows a message of the current chat, and stores the choices that this changed.
    fn select(&mut self, id: MessageId) {
        let current = self.current;
        let Some(chat) = self.open.get_mut(&current) else { return };
        let changed = chat.select(id);
        if changed.contains(&None) {
            self.keep_head(current);
        }
        let messages: Vec<MessageId> = changed.into_iter().flatten().collect();
        if !messages.is_empty() {
            self.keep_messages(current, &messages);
        }
        self.count_soon();
    }

    fn edit(&mut self, id: MessageId, text: String) {
        let now = self.now_ms();
        let Some(old) = self.chat().message(id).cloned() else { return };
        if self.is_answering(self.current) || (text.trim().is_empty() && old.attachments.is_empty()) {
            return;
        }
        let new = Message {
            attachments: old.attachments,
            model: old.model,
            ..Message::new(self.ids.message(now), old.parent, old.role, text.trim().to_string(), now)
        };
        match old.role {
            Role::User => self.ask(new),
            Role::Assistant | Role::System | Role::Tool => self.insert(new),
        }
    }

    fn regenerate(&mut self, id: MessageId) {
        let Some(message) = self.chat().message(id) else { return };
        if self.is_answering(self.current) {
            return;
        }
        // Asked of a question, its answer is meant.
        let parent = if message.role == Role::User { Some(id) } else { message.parent };
        self.select(id);
        self.answer_below(parent);
    }

    fn step_branch(&mut self, id: MessageId, by: isize) {
        let (at, all) = self.chat().siblings(id);
        if let Some(&to) = at.checked_add_signed(by).and_then(|to| all.get(to)) {
            self.select(to);
        }
    }

    fn delete_message(&mut self, id: MessageId) {
        let current = self.current;
        self.stop_answer(current);
        let Some(chat) = self.open.get_mut(&current) else { return };
        let Some(parent) = chat.message(id).map(|message| message.parent) else { return };
        let removed = chat.remove(id);
        let ids: Vec<MessageId> = removed.iter().map(|message| message.id).collect();
        self.too_long.take_if(|too_long| ids.contains(&too_long.message));
        self.write(vec![Change::DeleteMessages(current, ids)]);
        self.keep_messages(current, parent.as_slice());
        self.keep_head(current);
        self.undo = Some(Undo { deleted: Deleted::Messages(current, removed), until_ms: self.now_ms() + UNDO_MS });
        self.count_soon();
    }

    // Too long for the context.

    fn drop_oldest(&mut self) {
        let Some(too_long) = self.too_long.take() else { return };
        if too_long.drop.is_empty() || self.is_answering(too_long.chat) {
            return;
        }
        let Some(chat) = self.open.get_mut(&too_long.chat) else { return };
        let parent = chat.message(too_long.message).and_then(|message| message.parent);
        let kept = lineage(chat, parent).get(too_long.drop.len()).map(|message| message.id);
        chat.head.context_start = kept;
        self.keep_head(too_long.chat);
        self.begin_answer(too_long.chat, too_long.message, too_long.continues);
    }

    fn raise_context(&mut self) {
        let Some(too_long) = self.too_long.take() else { return };
        let Some(context) = too_long.raise_to.filter(|_| !self.is_answering(too_long.chat)) else { return };
        if let Some(chat) = self.open.get_mut(&too_long.chat) {
            chat.head.settings.context = Some(context);
        }
        self.keep_head(too_long.chat);
        self.begin_answer(too_long.chat, too_long.message, too_long.continues);
    }

    // Models.

    /// Opens a model; one on its way is given up.
    pub(super) fn open_model(&mut self, model: ModelRef) {
        if let Some(opening) = &self.opening {
            opening.cancel.cancel();
        }
        let (ticket, cancel) = (self.ticket(), Cancel::default());
        let name = match &model {
            ModelRef::Default => crate::engine::DEFAULT_MODEL.trim_end_matches(".gguf").to_string(),
            ModelRef::Path(path) => super::library::model_name(path),
        };
        let options = self.settings.open(&model, &self.launch);
        self.opening = Some(Opening { model, name, stage: Stage::Device, ticket, cancel: cancel.clone() });
        self.worker.send(Job::Open { ticket, options, cancel });
    }

    fn unload(&mut self) {
        self.apply(Command::CancelOpening);
        while let Some(chat) = self.answers.first().map(|answer| answer.chat) {
            self.stop_answer(chat);
        }
        self.settings.model = None;
        self.keep_settings();
        self.worker.send(Job::Unload);
    }

    pub(super) fn scan(&mut self) {
        let ticket = self.ticket();
        self.pending.scan = Some(ticket);
        self.library.scanning = true;
        let folders = self.places.models().into_iter().chain(self.settings.model_folders.iter().cloned()).collect();
        self.worker.send(Job::Scan { ticket, folders, paths: self.settings.recent_models.clone() });
        if cfg!(target_arch = "wasm32") {
            let ticket = self.ticket();
            self.worker.send(Job::Space { ticket });
        }
    }

    // Settings.

    fn save_preset(&mut self, name: &str) {
        let name = one_line(name, TITLE_CHARS);
        if name.is_empty() {
            return;
        }
        let settings = self.chat().head.settings.clone();
        match self.presets.iter_mut().find(|preset| preset.name == name) {
            Some(preset) => preset.settings = settings,
            None => self.presets.push(Preset { name, settings }),
        }
        self.keep_presets();
    }

    fn set_settings(&mut self, settings: Settings) {
        let settings = settings.sound();
        let device = |s: &Settings| (s.adapter.clone(), s.backend.clone(), s.disabled.clone(), s.memory_bytes, s.deterministic);
        let is_other_device = device(&settings) != device(&self.settings);
        let reopens = is_other_device && (self.model.is_some() || self.opening.is_some());
        if is_other_device {
            let GpuOptions { cache_dir, autotune, .. } = std::mem::take(&mut self.launch.gpu);
            let gpu = GpuOptions { cache_dir, autotune, ..GpuOptions::default() };
            self.launch = OpenOptions { gpu, cache: self.launch.cache, ..OpenOptions::default() };
        }
        self.settings = settings;
        self.keep_settings();
        if reopens {
            let model = self.settings.model.clone().unwrap_or(ModelRef::Default);
            self.open_model(model);
        }
    }
}

/// A chat's name after its first question: its first line, cut between words.
fn automatic_title(question: &Message) -> String {
    let line = question.content.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.or_else(|| question.attachments.first().map(|file| file.name.as_str())).unwrap_or_default();
    one_line(line, TITLE_CHARS)
}

/// White space and control characters become single spaces; what is too long is cut, between words where there are some.
fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    if line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most).collect();
    let end = cut.rfind(' ').filter(|&at| at > cut.len() / 2).unwrap_or(cut.len());
    cut[..end].trim_end().to_string() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(one_line("  a\t b\u{7}\nc ", 9), "a b c");
        assert_eq!(one_line("alpha beta gamma delta", 12), "alpha beta…");
        assert_eq!(one_line(&"长".repeat(70), 60), "长".repeat(60) + "…");
    }
}
