//! Everything a user can ask for. Views push commands; [`App::apply`](super::App::apply) carries them out.

use std::path::PathBuf;

use super::NoticeId;
use super::ids::{ChatId, MessageId};
use super::settings::{ChatSettings, ModelRef, Settings};

/// How a chat is written to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// What is shown, to be read.
    Markdown,
    /// The whole tree, to be imported again.
    Json,
}

/// One wish.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    // Chats.
    NewChat,
    OpenChat(ChatId),
    /// The chat above in the sidebar, or below.
    PreviousChat,
    NextChat,
    RenameChat(ChatId, String),
    PinChat(ChatId, bool),
    DeleteChat(ChatId),
    /// Takes back the last deletion of a chat or of messages.
    Undo,
    /// Finds words in all messages and titles; empty ends the search.
    Search(String),
    /// Opens a chat at a message: another branch is chosen if need be.
    OpenMessage(ChatId, MessageId),
    ExportChat {
        chat: ChatId,
        format: Format,
        path: PathBuf,
    },
    /// All chats, as JSON.
    ExportAll(PathBuf),
    /// Chats from JSON or Markdown as exported.
    Import(PathBuf),

    // Writing.
    SetDraft(String),
    /// Reads a text file and adds it to the draft.
    Attach(PathBuf),
    RemoveAttachment(usize),
    /// Sends the draft as a question.
    Send,
    /// Ends the answer being written in this chat, or waiting to be.
    Stop,

    // Messages of the current chat.
    /// Another version of a message, as a new branch; a question is answered anew.
    Edit(MessageId, String),
    /// Another answer beside this one.
    Regenerate(MessageId),
    /// The answer goes on from where it ended.
    Continue(MessageId),
    /// Shows the sibling so many places further on.
    StepBranch(MessageId, isize),
    /// Deletes a message and all that follows it.
    DeleteMessage(MessageId),
    /// Shows reasoning unfolded, or folded, in the current chat.
    ShowReasoning(bool),

    // When a chat is longer than the context.
    /// Leaves out the oldest messages from now on, and answers.
    DropOldest,
    /// Uses a larger context, and answers.
    RaiseContext,
    /// Leaves the question unanswered.
    DismissTooLong,
    /// The model reads the whole chat again.
    ReadAll,

    // Models.
    OpenModel(ModelRef),
    CancelOpening,
    UnloadModel,
    /// Looks at the models on this machine anew.
    ScanModels,
    ForgetModel(PathBuf),
    /// Deletes a model from the browser's storage.
    RemoveModel(PathBuf),
    /// Asks the browser to keep what is stored.
    Persist,
    AddModelFolder(PathBuf),
    RemoveModelFolder(PathBuf),
    /// Measures the GPU time of every kernel in a decoded token.
    MeasureKernels,
    /// Looks at the adapters of this machine.
    ListAdapters,

    // Settings.
    SetChatSettings(ChatSettings),
    SavePreset(String),
    ApplyPreset(String),
    DeletePreset(String),
    /// The program's settings; a change of the device's opens the model again.
    SetSettings(Box<Settings>),

    /// Keeps chats and settings in another folder, from now on and at the next start: those that are there, else a copy of these.
    MoveData(PathBuf),

    DismissNotice(NoticeId),
}
