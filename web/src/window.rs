//! The chat window in a tab: the desktop's, over the browser's storage, files and worker.

use std::path::PathBuf;
use std::rc::Rc;

use eframe::{WebOptions, WebRunner, egui};
use fathom::app::store::{MemoryStore, Store};
use fathom::app::ui::{View, Window};
use fathom::app::{App, Command, ModelRef, Notice, Phase, Places, Stage};
use wasm_bindgen::prelude::*;

use crate::client::Client;
use crate::dialogs::WebDialogs;
use crate::page::Page;
use crate::store::WebStore;

/// Draws the window on a canvas, for as long as the page and its graphics device live. `model` is opened instead of the last one;
/// `prompt` becomes the draft; `lost` is why a device was lost just now.
///
/// # Errors
/// A browser that cannot draw with WebGPU.
#[wasm_bindgen]
pub async fn start_window(
    canvas: web_sys::HtmlCanvasElement,
    page: Page,
    model: Option<String>,
    prompt: Option<String>,
    lost: Option<String>,
) -> Result<(), JsValue> {
    let page = Rc::new(page);
    let begin = move |context: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(graphics) = &context.wgpu_render_state {
            graphics.device.set_device_lost_callback(|reason, message| {
                if reason != eframe::wgpu::DeviceLostReason::Destroyed {
                    crate::page::lost(&message);
                }
            });
        }
        let ctx = context.egui_ctx.clone();
        let repaint = {
            let ctx = ctx.clone();
            move || ctx.request_repaint()
        };
        let denied = page.chats_denied();
        let store: Box<dyn Store> = match denied {
            None => Box::new(WebStore::open(page.clone(), repaint.clone())),
            Some(_) => Box::new(MemoryStore::default()),
        };
        let client = Client::new(page.clone(), Rc::new(repaint));
        let now_ms = || js_sys::Date::now() as i64;
        let mut app = App::new(store, Box::new(client), Box::new(now_ms), Places::default());
        if let Some(reason) = denied {
            app.notify(Notice::NotStored { reason });
        }
        if let Some(reason) = lost {
            app.notify(Notice::Rebuilt { reason });
        }
        if let Some(model) = model {
            app.settings.model = Some(ModelRef::Path(PathBuf::from(model)));
        }
        if let Some(prompt) = prompt {
            // What another chat's draft holds stays.
            app.apply(Command::NewChat);
            app.apply(Command::SetDraft(prompt));
        }
        let view = View::new(&ctx, Box::new(WebDialogs::new(page.clone(), &ctx)));
        Ok(Box::new(Tab { window: Window::new(app, view), page, shown: false, told: String::new() }))
    };
    WebRunner::new().start(canvas, WebOptions::default(), Box::new(begin)).await
}

/// A window that tells its page what it shows.
struct Tab {
    window: Window,
    page: Rc<Page>,
    shown: bool,
    told: String,
}

impl Tab {
    /// The last question and answer, and what goes on: for screen readers, which see nothing of a canvas.
    fn state(&self) -> String {
        let app = &self.window.app;
        let message =
            |message: &fathom::app::Message| serde_json::json!({ "role": message.role, "text": message.content, "state": message.state });
        let opening = app.opening.as_ref().map(|opening| {
            let (downloaded, loaded) = match opening.stage {
                Stage::Download(done, total) => (Some((done, total)), None),
                Stage::Loading(progress) => (None, Some((progress.done_bytes, progress.total_bytes))),
                Stage::Device | Stage::Measuring(..) => (None, None),
            };
            serde_json::json!({ "name": opening.name, "downloaded": downloaded, "loaded": loaded })
        });
        let phase = app.answering().map(|answering| match answering.phase {
            Phase::Waiting => "waiting",
            Phase::Reading { .. } => "reading",
            _ => "writing",
        });
        serde_json::json!({
            "model": app.model.as_ref().map(|model| &model.name),
            "device": app.model.as_ref().map(|model| model.caps.to_string()),
            "opening": opening,
            "phase": phase,
            "chats": app.chats.len(),
            "draft": app.chat().head.draft.text,
            "messages": app.chat().path_len(),
            "last": app.chat().path().rev().take(2).map(message).collect::<Vec<_>>(),
            "notices": app.notices.iter().map(|(_, notice)| format!("{notice:?}")).collect::<Vec<_>>(),
            "models": app.library.models.iter().map(|entry| entry.path.display().to_string()).collect::<Vec<_>>(),
        })
        .to_string()
    }
}

impl eframe::App for Tab {
    fn logic(&mut self, ctx: &egui::Context, frame: &mut eframe::Frame) {
        self.window.logic(ctx, frame);
        let state = self.state();
        if state != self.told {
            self.page.state(&state);
            self.told = state;
        }
    }

    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut eframe::Frame) {
        self.window.ui(ui, frame);
        if !std::mem::replace(&mut self.shown, true) {
            self.page.shown();
        }
    }
}
