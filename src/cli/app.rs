//! `fathom app`: the chat window. What it shows and does is the library's `app`; here it gets its store, its worker, its clock
//! and the system's window.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use eframe::egui;
use fathom::app::store::{FILE, MemoryStore, SqliteStore, Store};
use fathom::app::ui::{NativeDialogs, View, Window};
use fathom::app::worker::EngineWorker;
use fathom::app::{App, ModelRef, Notice, Places};
use fathom::engine::user_data_dir;

use super::args::{AppArgs, DeviceArgs};

/// Opens the window and returns when it is closed.
pub fn run(args: AppArgs, device: &DeviceArgs) -> anyhow::Result<()> {
    if !has_display() {
        return Err(anyhow!(
            "no display: expected DISPLAY or WAYLAND_DISPLAY to name one, found neither; chat in the terminal with `fathom chat`"
        ));
    }
    let model = args.model.as_deref().map(std::path::absolute).transpose().context("MODEL")?;
    let places = places(args.data);
    let launch = device.open(None);
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("Fathom")
            .with_app_id("fathom")
            .with_inner_size([1180.0, 800.0])
            .with_min_inner_size([520.0, 400.0])
            .with_drag_and_drop(true),
        ..eframe::NativeOptions::default()
    };
    let begin = move |context: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, Box<dyn std::error::Error + Send + Sync>> {
        let egui = context.egui_ctx.clone();
        let (store, notice) = open_store(places.data.as_deref());
        let log = places.data.as_ref().map(|data| data.join(format!("{FILE}-wal")));
        let worker = EngineWorker::new(Arc::new(move || egui.request_repaint()), log);
        let mut app = App::new(store, Box::new(worker), Box::new(now_ms), places);
        app.launch = launch;
        notice.into_iter().for_each(|notice| app.notify(notice));
        if let Some(path) = model {
            app.settings.model = Some(ModelRef::Path(path));
        }
        let view = View::new(&context.egui_ctx, Box::new(NativeDialogs::new()));
        Ok(Box::new(Window::new(app, view)))
    };
    eframe::run_native("fathom", options, Box::new(begin)).map_err(|error| anyhow!("the window cannot be opened: {error}"))
}

/// Whether a window can be shown at all.
pub fn has_display() -> bool {
    let names = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(not(all(unix, not(target_os = "macos")))) || names("DISPLAY") || names("WAYLAND_DISPLAY")
}

/// Where chats are: in the folder that was asked for, else where the window moved them, else in the usual place.
fn places(asked: Option<PathBuf>) -> Places {
    let pointer = user_data_dir().filter(|_| asked.is_none()).map(|folder| folder.join("data-folder.txt"));
    let moved = pointer.as_ref().and_then(|pointer| std::fs::read_to_string(pointer).ok()).map(|text| PathBuf::from(text.trim()));
    Places { data: asked.or(moved.filter(|folder| folder.is_absolute())).or_else(user_data_dir), pointer }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The chats on disk, or in memory where that fails, and what the user must know of it.
fn open_store(data: Option<&Path>) -> (Box<dyn Store>, Option<Notice>) {
    let path: Option<PathBuf> = data.map(|data| data.join(FILE));
    let opened = match &path {
        Some(path) => SqliteStore::open(path).map_err(|error| error.to_string()),
        None => Err("this system has no folder for data of programs; name one with --data".into()),
    };
    match opened {
        Ok((store, damage)) => (Box::new(store), damage.map(|damage| Notice::StoreDamaged { reason: damage.to_string() })),
        Err(reason) => (Box::new(MemoryStore::default()), Some(Notice::NotStored { reason })),
    }
}
