//! The system's file dialogs: asked for by views, answered by commands later. A dialog never holds up a frame.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

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

/// The system's own.
pub struct NativeDialogs {
    sender: Sender<Command>,
    chosen: Receiver<Command>,
}

impl NativeDialogs {
    pub fn new() -> Self {
        let (sender, chosen) = channel();
        Self { sender, chosen }
    }
}

impl Default for NativeDialogs {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialogs for NativeDialogs {
    fn ask(&mut self, ctx: &egui::Context, ask: Ask) {
        let dialog = rfd::AsyncFileDialog::new();
        let dialog = match &ask {
            Ask::ModelFile => dialog.add_filter("GGUF, safetensors", &["gguf", "safetensors"]),
            Ask::Export { format: Format::Markdown, name, .. } => {
                dialog.add_filter("Markdown", &["md"]).set_file_name(format!("{}.md", file_name(name)))
            }
            Ask::Export { format: Format::Json, name, .. } => {
                dialog.add_filter("JSON", &["json"]).set_file_name(format!("{}.json", file_name(name)))
            }
            Ask::ExportAll => dialog.add_filter("JSON", &["json"]).set_file_name("fathom-chats.json"),
            Ask::Import => dialog.add_filter("JSON, Markdown", &["json", "md"]),
            Ask::Attach | Ask::ModelFolder | Ask::AddModelFolder | Ask::DataFolder => dialog,
        };
        let (sender, ctx) = (self.sender.clone(), ctx.clone());
        // The future is made here, where macOS wants it; only the waiting is elsewhere.
        let answer = pick(dialog, &ask);
        let waiting = std::thread::Builder::new().name("dialog".to_owned()).spawn(move || {
            for path in pollster::block_on(answer) {
                // The window is gone when this fails: there is nobody to tell.
                let _ = sender.send(ask.answered(path));
            }
            ctx.request_repaint();
        });
        if let Err(error) = waiting {
            tracing::warn!("no thread to wait for a dialog: {error}");
        }
    }

    fn poll(&mut self) -> Vec<Command> {
        self.chosen.try_iter().collect()
    }
}

type Paths = std::pin::Pin<Box<dyn Future<Output = Vec<PathBuf>> + Send>>;

fn pick(dialog: rfd::AsyncFileDialog, ask: &Ask) -> Paths {
    let one = |file: Option<rfd::FileHandle>| file.map(|file| file.path().to_owned()).into_iter().collect();
    match ask {
        Ask::Attach => {
            let files = dialog.pick_files();
            Box::pin(async move { files.await.unwrap_or_default().iter().map(|file| file.path().to_owned()).collect() })
        }
        Ask::ModelFile | Ask::Import => {
            let file = dialog.pick_file();
            Box::pin(async move { one(file.await) })
        }
        Ask::ModelFolder | Ask::AddModelFolder | Ask::DataFolder => {
            let folder = dialog.pick_folder();
            Box::pin(async move { one(folder.await) })
        }
        Ask::Export { .. } | Ask::ExportAll => {
            let file = dialog.save_file();
            Box::pin(async move { one(file.await) })
        }
    }
}

/// A title as a file's name.
fn file_name(title: &str) -> String {
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
