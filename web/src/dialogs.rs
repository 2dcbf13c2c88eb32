//! Choosing files in a tab: the browser's own dialog; what is dropped on the page comes the same way.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use eframe::egui;
use fathom::app::ui::{Ask, Dialogs, file_name};
use fathom::app::{Command, Format, ModelRef};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::page::Page;

pub struct WebDialogs {
    page: Rc<Page>,
    chosen: Rc<RefCell<Vec<Command>>>,
}

impl WebDialogs {
    pub fn new(page: Rc<Page>, ctx: &egui::Context) -> Self {
        let chosen: Rc<RefCell<Vec<Command>>> = Rc::default();
        let (into, ctx) = (chosen.clone(), ctx.clone());
        let take = Closure::<dyn Fn(String, bool)>::new(move |name: String, is_model: bool| {
            let path = PathBuf::from(name);
            into.borrow_mut().push(if is_model { Command::OpenModel(ModelRef::Path(path)) } else { Command::Attach(path) });
            ctx.request_repaint();
        });
        page.on_drop(take.as_ref().unchecked_ref());
        // The page keeps it for as long as it lives.
        take.forget();
        Self { page, chosen }
    }
}

impl Dialogs for WebDialogs {
    fn ask(&mut self, ctx: &egui::Context, ask: Ask) {
        let (accept, multiple) = match &ask {
            Ask::Attach => ("", true),
            Ask::ModelFile => (".gguf,.safetensors,.json,.jinja", true),
            Ask::Import => (".json,.md", false),
            // Where a browser saves is its own affair.
            Ask::Export { format, name, .. } => {
                let ending = if *format == Format::Markdown { "md" } else { "json" };
                return self.chosen.borrow_mut().push(ask.answered(format!("{}.{ending}", file_name(name)).into()));
            }
            Ask::ExportAll => return self.chosen.borrow_mut().push(ask.answered("fathom-chats.json".into())),
            Ask::ModelFolder | Ask::AddModelFolder | Ask::DataFolder => return,
        };
        let picked = self.page.pick(accept, multiple);
        let (chosen, ctx) = (self.chosen.clone(), ctx.clone());
        spawn_local(async move {
            // A dialog that was closed gives no names.
            let names = JsFuture::from(picked).await.map(|names| js_sys::Array::from(&names)).unwrap_or_default();
            for name in names.iter().filter_map(|name| name.as_string()) {
                chosen.borrow_mut().push(ask.answered(name.into()));
            }
            ctx.request_repaint();
        });
    }

    fn poll(&mut self) -> Vec<Command> {
        self.chosen.take()
    }
}
