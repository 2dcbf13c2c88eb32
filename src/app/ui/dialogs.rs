//! File dialogs: asked for by views, answered by commands later. A dialog never holds up a frame.

use std::path::PathBuf;

use eframe::egui;

use crate::app::{ChatId, Command, Format, ModelRef};

/// What a dialog is for.
#[derive(Clone, PartialEq, Debug)]
pub enum Ask {
    /// Text files to go with the draft.
    Attach,
    /// A model's file.
    ModelFile,
    /// A model's directory.
    ModelFolder,
    /// A folder to look for models in.
    AddModelFolder,
    /// Where chats are to be kept.
    DataFolder,
    /// Where to write a chat; the name is a proposal.
    Export {
        chat: ChatId,
        format: Format,
        name: String,
    },
    ExportAll,
    Import,
}

impl Ask {
    /// The command that a choice of the user's becomes.
    pub fn answered(&self, path: PathBuf) -> Command {
        match self {
            Self::Attach => Command::Attach(path),
            Self::ModelFile | Self::ModelFolder => Command::OpenModel(ModelRef::Path(path)),
            Self::AddModelFolder => Command::AddModelFolder(path),
            Self::DataFolder => Command::MoveData(path),
            Self::Export { chat, format, .. } => Command::ExportChat { chat: *chat, format: *format, path },
            Self::ExportAll => Command::ExportAll(path),
            Self::Import => Command::Import(path),
        }
    }
}

/// Shows dialogs.
pub trait Dialogs {
    fn ask(&mut self, ctx: &egui::Context, ask: Ask);
    /// What was chosen since the last call.
    fn poll(&mut self) -> Vec<Command>;
}

/// A title as a file's name.
pub fn file_name(title: &str) -> String {
    let name: String = title.chars().map(|c| if c.is_alphanumeric() || "-_ .,()".contains(c) { c } else { '-' }).take(80).collect();
    let name = name.trim_matches(['.', ' ', '-']);
    if name.is_empty() { "chat".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_become_names_of_files() {
        for (title, expected) in [("What is 1/2?", "What is 1-2"), ("../..", "chat"), ("中文 🙂", "中文"), ("", "chat")] {
            assert_eq!(file_name(title), expected);
        }
    }
}
