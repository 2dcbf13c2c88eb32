//! The system's file dialogs.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use eframe::egui;

use super::dialogs::{Ask, Dialogs, file_name};
use crate::app::{Command, Format};

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
