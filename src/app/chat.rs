//! A chat: a tree of messages, of which one path from the root is shown. Every edit and every new try is a sibling, so nothing
//! that was written is lost by going another way.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::ids::{ChatId, MessageId};
use super::settings::ChatSettings;
use crate::engine::Stats;
use crate::sampler::Sampling;
use crate::text::Role;

/// How far a message is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MessageState {
    /// Being written now.
    Streaming,
    Finished,
    /// Stopped by the user, or cut off with the program; it can be continued.
    Stopped,
    /// Ended at the length limit; it can be continued.
    Cut,
    /// The engine's one-line error; what was written stays, and can be continued.
    Failed(String),
}

/// A text file that goes with a question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    pub name: String,
    pub text: String,
}

/// One message of a chat.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Message {
    pub id: MessageId,
    /// None at the root.
    pub parent: Option<MessageId>,
    /// Which answer or question after this one is shown.
    pub selected_child: Option<MessageId>,
    pub role: Role,
    pub content: String,
    pub reasoning: String,
    /// How long the reasoning took, once it is over.
    pub reasoning_ms: Option<i64>,
    pub state: MessageState,
    pub created_ms: i64,
    /// When it was last written to; a streaming message is written to every second.
    pub updated_ms: i64,
    /// The name of the model that wrote it.
    pub model: Option<String>,
    pub sampling: Option<Sampling>,
    pub stats: Option<Stats>,
    pub attachments: Vec<Attachment>,
}

impl Message {
    /// A finished message without anything but its words.
    pub fn new(id: MessageId, parent: Option<MessageId>, role: Role, content: String, now_ms: i64) -> Self {
        Self {
            id,
            parent,
            selected_child: None,
            role,
            content,
            reasoning: String::new(),
            reasoning_ms: None,
            state: MessageState::Finished,
            created_ms: now_ms,
            updated_ms: now_ms,
            model: None,
            sampling: None,
            stats: None,
            attachments: vec![],
        }
    }

    pub fn is_streaming(&self) -> bool {
        self.state == MessageState::Streaming
    }

    /// Whether an answer may go on from where it ended.
    pub fn can_continue(&self) -> bool {
        self.role == Role::Assistant && !self.is_streaming()
    }
}

/// What is written but not sent.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Draft {
    pub text: String,
    pub attachments: Vec<Attachment>,
}

impl Draft {
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.attachments.is_empty()
    }
}

/// What there is to know of a chat beside its messages.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ChatHead {
    pub id: ChatId,
    /// Empty until the first question.
    pub title: String,
    /// The user named it, so it is not named after its first question any more.
    pub titled_by_hand: bool,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub pinned: bool,
    /// Reasoning is shown unfolded.
    pub shows_reasoning: bool,
    pub selected_root: Option<MessageId>,
    /// The model reads the path from this message on: the user chose to leave out what is before.
    pub context_start: Option<MessageId>,
    pub settings: ChatSettings,
    pub draft: Draft,
}

impl ChatHead {
    pub fn new(id: ChatId, settings: ChatSettings, now_ms: i64) -> Self {
        Self {
            id,
            title: String::new(),
            titled_by_hand: false,
            created_ms: now_ms,
            updated_ms: now_ms,
            pinned: false,
            shows_reasoning: false,
            selected_root: None,
            context_start: None,
            settings,
            draft: Draft::default(),
        }
    }
}

/// A line of the sidebar.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChatSummary {
    pub id: ChatId,
    pub title: String,
    pub pinned: bool,
    pub updated_ms: i64,
}

/// A chat with all its messages.
#[derive(Clone, PartialEq, Debug)]
pub struct Chat {
    pub head: ChatHead,
    /// By age.
    messages: Vec<Message>,
    index: HashMap<MessageId, usize>,
    children: HashMap<Option<MessageId>, Vec<MessageId>>,
    /// Places in `messages` of what is shown, from the root down.
    path: Vec<usize>,
}

impl Chat {
    /// A chat of these messages. Those whose parents are absent, or that form a circle, are shown at the root: a damaged store
    /// must not hide words.
    pub fn new(head: ChatHead, messages: Vec<Message>) -> Self {
        let mut chat = Self { head, messages, index: HashMap::new(), children: HashMap::new(), path: vec![] };
        chat.messages.sort_by_key(|message| message.id);
        chat.messages.dedup_by_key(|message| message.id);
        let mut known = std::collections::HashSet::new();
        for message in &mut chat.messages {
            // A parent is older than its child, which also rules out circles.
            if message.parent.is_some_and(|parent| !known.contains(&parent)) {
                message.parent = None;
            }
            known.insert(message.id);
        }
        chat.arrange();
        chat
    }

    pub fn id(&self) -> ChatId {
        self.head.id
    }

    pub fn summary(&self) -> ChatSummary {
        ChatSummary { id: self.head.id, title: self.head.title.clone(), pinned: self.head.pinned, updated_ms: self.head.updated_ms }
    }

    /// All messages, by age.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub fn message(&self, id: MessageId) -> Option<&Message> {
        self.index.get(&id).map(|&at| &self.messages[at])
    }

    /// To change a message's words and state; `parent` and `selected_child` are changed by the tree's own methods.
    pub fn message_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        self.index.get(&id).map(|&at| &mut self.messages[at])
    }

    /// What is shown, from the root down.
    pub fn path(&self) -> impl DoubleEndedIterator<Item = &Message> + ExactSizeIterator {
        self.path.iter().map(|&at| &self.messages[at])
    }

    /// The last message shown.
    pub fn leaf(&self) -> Option<&Message> {
        self.path().next_back()
    }

    /// The message at a place of the path, for views that lay out only what is visible.
    pub fn path_message(&self, at: usize) -> Option<&Message> {
        self.path.get(at).map(|&at| &self.messages[at])
    }

    pub fn path_len(&self) -> usize {
        self.path.len()
    }

    /// A message's place among its siblings, from 0, and all of them by age.
    pub fn siblings(&self, id: MessageId) -> (usize, &[MessageId]) {
        let parent = self.message(id).and_then(|message| message.parent);
        let all = self.children(parent);
        (all.iter().position(|&other| other == id).unwrap_or(0), all)
    }

    pub fn children(&self, of: Option<MessageId>) -> &[MessageId] {
        self.children.get(&of).map_or(&[], Vec::as_slice)
    }

    fn arrange(&mut self) {
        self.index = self.messages.iter().enumerate().map(|(at, message)| (message.id, at)).collect();
        self.children.clear();
        for message in &self.messages {
            self.children.entry(message.parent).or_default().push(message.id);
        }
        self.walk();
    }

    fn walk(&mut self) {
        self.path.clear();
        let (mut parent, mut selected) = (None, self.head.selected_root);
        loop {
            let among = self.children(parent);
            // Without a valid choice the newest is shown.
            let Some(id) = selected.filter(|id| among.contains(id)).or_else(|| among.last().copied()) else { return };
            let at = self.index[&id];
            self.path.push(at);
            (parent, selected) = (Some(id), self.messages[at].selected_child);
        }
    }

    /// Adds a message below its parent and shows it.
    pub fn insert(&mut self, message: Message) {
        let id = message.id;
        let at = self.messages.partition_point(|other| other.id < id);
        self.messages.insert(at, message);
        self.arrange();
        self.select(id);
    }

    /// Shows this message: it becomes the choice at its branch point, and so do its ancestors at theirs.
    /// Returns the messages whose choice changed; none is the chat's root.
    pub fn select(&mut self, id: MessageId) -> Vec<Option<MessageId>> {
        let (mut changed, mut id) = (vec![], Some(id));
        while let Some(message) = id.and_then(|id| self.message(id)) {
            let (child, parent) = (Some(message.id), message.parent);
            let selected = match parent.and_then(|parent| self.message_mut(parent)) {
                Some(parent) => &mut parent.selected_child,
                None => &mut self.head.selected_root,
            };
            if *selected != child {
                *selected = child;
                changed.push(parent);
            }
            id = parent;
        }
        self.walk();
        changed
    }

    /// Removes a message and all that follows it; gives back what was removed, by age.
    pub fn remove(&mut self, id: MessageId) -> Vec<Message> {
        let mut gone = std::collections::HashSet::from([id]);
        // Children are younger, so one pass by age finds all of them.
        for message in &self.messages {
            if message.parent.is_some_and(|parent| gone.contains(&parent)) {
                gone.insert(message.id);
            }
        }
        let (removed, kept) = std::mem::take(&mut self.messages).into_iter().partition(|message| gone.contains(&message.id));
        self.messages = kept;
        self.arrange();
        removed
    }

    /// Puts back what [`Chat::remove`] took.
    pub fn restore(&mut self, removed: Vec<Message>) {
        let first = removed.first().map(|message| message.id);
        self.messages.extend(removed);
        self.messages.sort_by_key(|message| message.id);
        self.arrange();
        if let Some(id) = first {
            self.select(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: i64, parent: Option<i64>, role: Role) -> Message {
        Message::new(MessageId(id), parent.map(MessageId), role, format!("m{id}"), id)
    }

    fn chat() -> Chat {
        Chat::new(ChatHead::new(ChatId(1), ChatSettings::default(), 0), vec![])
    }

    fn path(chat: &Chat) -> Vec<i64> {
        chat.path().map(|message| message.id.0).collect()
    }

    #[test]
    fn branches_are_chosen_at_every_level_and_remembered() {
        let mut chat = chat();
        for (id, parent, role) in [
            (1, None, Role::User),
            (2, Some(1), Role::Assistant),
            (3, Some(2), Role::User),
            (4, Some(3), Role::Assistant),
            (5, Some(1), Role::Assistant),
            (6, None, Role::User),
        ] {
            chat.insert(message(id, parent, role));
        }
        assert_eq!(path(&chat), [6]);
        assert_eq!(chat.select(MessageId(1)), [None]);
        assert_eq!(path(&chat), [1, 5]);
        assert_eq!(chat.select(MessageId(2)), [Some(MessageId(1))]);
        assert_eq!(path(&chat), [1, 2, 3, 4], "what was chosen below is remembered");
        assert_eq!(chat.siblings(MessageId(5)), (1, [MessageId(2), MessageId(5)].as_slice()));
        chat.select(MessageId(6));
        assert_eq!(chat.select(MessageId(4)), [None]);
        assert_eq!(path(&chat), [1, 2, 3, 4]);
        assert_eq!(chat.path_message(1).map(|m| m.id), Some(MessageId(2)));
    }

    #[test]
    fn what_is_removed_can_be_put_back() {
        let mut chat = chat();
        for (id, parent) in [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(1))] {
            chat.insert(message(id, parent, Role::User));
        }
        chat.select(MessageId(3));
        let before = chat.clone();
        let removed = chat.remove(MessageId(2));
        assert_eq!(removed.iter().map(|m| m.id.0).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(path(&chat), [1, 4]);
        chat.restore(removed);
        assert_eq!(chat, before);
        chat.remove(MessageId(1));
        assert_eq!((chat.path_len(), chat.messages().len()), (0, 0));
    }

    #[test]
    fn orphans_and_circles_are_shown_at_the_root() {
        let messages = vec![message(1, Some(2), Role::User), message(2, Some(1), Role::User), message(3, Some(99), Role::User)];
        let chat = Chat::new(ChatHead::new(ChatId(1), ChatSettings::default(), 0), messages);
        assert_eq!(chat.children(None), [MessageId(1), MessageId(3)]);
        assert_eq!(chat.children(Some(MessageId(1))), [MessageId(2)]);
        assert_eq!(path(&chat), [3]);
    }
}
