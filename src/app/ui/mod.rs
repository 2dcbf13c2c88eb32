//! The window: everything that is drawn. Reads the app, pushes commands, and keeps only what drawing needs: scroll positions,
//! open dialogs, laid-out text.

mod banners;
mod composer;
pub mod dialogs;
pub mod icons;
mod inside;
mod keys;
mod message;
mod meters;
mod models;
#[cfg(not(target_arch = "wasm32"))]
mod native_dialogs;
mod palette;
mod panels;
mod settings;
mod sidebar;
mod transcript;
mod welcome;
pub mod widgets;
mod window;

use std::path::Path;

use eframe::egui;
use egui::{Align, Align2, Color32, Frame, Layout, Margin, Panel, RichText, Stroke, Ui, vec2};

pub use dialogs::{Ask, Dialogs, file_name};
#[cfg(not(target_arch = "wasm32"))]
pub use native_dialogs::NativeDialogs;
pub use window::Window;

use super::i18n::{self, Texts};
use super::markdown::MarkdownCache;
use super::settings::Theme;
use super::{App, ChatId, ChatSummary, Command, Message, MessageId, ModelRef, Settings, fonts, theme};
use crate::text::Role;

/// The fields' names, by which the focus is put there.
const COMPOSER: &str = "composer field";
const SEARCH_FIELD: &str = "search field";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Overlay {
    Models,
    Settings,
    Palette,
}

/// What drawing keeps between frames.
pub struct View {
    texts: &'static Texts,
    dialogs: Box<dyn Dialogs>,
    commands: Vec<Command>,
    asks: Vec<Ask>,
    markdown: MarkdownCache,
    transcript: transcript::Transcript,
    inside: inside::Inside,
    /// The window is a phone's.
    narrow: bool,
    beside: panels::Beside,
    /// The panel that is open over the chat.
    drawer: Option<panels::Drawer>,
    overlay: Option<Overlay>,
    overlay_size: egui::Vec2,
    palette: palette::Palette,
    tab: settings::Tab,
    /// The device's settings while they are changed: each change at once would load the model anew.
    device: Option<Settings>,
    preset_name: String,
    model_address: String,
    search: String,
    renaming: Option<(ChatId, String)>,
    editing: Option<(MessageId, String)>,
    revealed: Option<MessageId>,
    copied: Option<String>,
    focus_composer: bool,
    focus_search: bool,
    focus_rename: bool,
    focus_edit: bool,
    /// The local clock's distance from UTC.
    zone_ms: i64,
    shown_chat: Option<ChatId>,
    zoom: Option<f32>,
    theme: Option<Theme>,
}

impl View {
    pub fn new(ctx: &egui::Context, dialogs: Box<dyn Dialogs>) -> Self {
        fonts::install(ctx);
        theme::install(ctx);
        Self {
            texts: &i18n::ENGLISH,
            dialogs,
            commands: vec![],
            asks: vec![],
            markdown: MarkdownCache::default(),
            transcript: transcript::Transcript::default(),
            inside: inside::Inside::default(),
            narrow: false,
            beside: panels::Beside::default(),
            drawer: None,
            overlay: None,
            overlay_size: egui::Vec2::ZERO,
            palette: palette::Palette::default(),
            tab: settings::Tab::default(),
            device: None,
            preset_name: String::new(),
            model_address: String::new(),
            search: String::new(),
            renaming: None,
            editing: None,
            revealed: None,
            copied: None,
            focus_composer: true,
            focus_search: false,
            focus_rename: false,
            focus_edit: false,
            zone_ms: i64::from(chrono::Local::now().offset().local_minus_utc()) * 1000,
            shown_chat: None,
            zoom: None,
            theme: None,
        }
    }

    /// Draws a frame; what the user wished for is added to `commands`.
    pub fn show(&mut self, ui: &mut Ui, app: &App, commands: &mut Vec<Command>) {
        self.begin_frame(ui.ctx(), app);
        self.shortcuts(ui.ctx(), app);
        let palette = theme::palette(ui);
        panels::show(ui, app, self);
        let quiet = Frame::new().fill(palette.page).inner_margin(Margin::symmetric(16, 0));
        Panel::bottom("meters").frame(quiet).exact_size(26.0).show_separator_line(false).show(ui, |ui| meters::show(ui, app, self));
        let bar = Frame::new().fill(palette.page).inner_margin(Margin::symmetric(12, 8));
        Panel::top("bar").frame(bar).show_separator_line(false).show(ui, |ui| self.bar(ui, app));
        let page = Frame::new().fill(palette.page);
        Panel::top("banners").frame(page).show_separator_line(false).show(ui, |ui| banners::show(ui, app, self));
        let empty = app.chat().path_len() == 0;
        if !empty {
            let frame = page.inner_margin(Margin { left: 0, right: 0, top: 4, bottom: 6 });
            Panel::bottom("composer").frame(frame).show_separator_line(false).show(ui, |ui| composer::show(ui, app, self));
        }
        egui::CentralPanel::default()
            .frame(page)
            .show(ui, |ui| if empty { welcome::show(ui, app, self) } else { transcript::show(ui, app, self) });
        panels::drawer(ui, app, self);
        self.overlays(ui, app);
        banners::undo_toast(ui, app, self, 130.0);
        banners::drop_overlay(ui, self);
        self.end_frame(ui.ctx(), app);
        commands.append(&mut self.commands);
    }

    fn begin_frame(&mut self, ctx: &egui::Context, app: &App) {
        self.texts = i18n::texts(app.settings.language);
        self.markdown.begin_frame();
        self.inside.begin_frame(ctx);
        let width = ctx.content_rect().width();
        self.beside = panels::Beside::of(width, app.settings.inside);
        self.narrow = !self.beside.sidebar && !self.beside.inside;
        if self.theme != Some(app.settings.theme) {
            self.theme = Some(app.settings.theme);
            ctx.set_theme(match app.settings.theme {
                Theme::System => egui::ThemePreference::System,
                Theme::Light => egui::ThemePreference::Light,
                Theme::Dark => egui::ThemePreference::Dark,
            });
        }
        if self.zoom != Some(app.settings.zoom) {
            self.zoom = Some(app.settings.zoom);
            ctx.set_zoom_factor(app.settings.zoom);
        } else if (ctx.zoom_factor() - app.settings.zoom).abs() > 1e-3 {
            // egui's own keys for it.
            let zoom = ctx.zoom_factor();
            self.zoom = Some(zoom);
            self.commands.push(Command::SetSettings(Box::new(Settings { zoom, ..app.settings.clone() })));
        }
        if self.shown_chat != Some(app.chat().id()) {
            self.shown_chat = Some(app.chat().id());
            self.editing = None;
            self.revealed = None;
            self.drawer = None;
            self.focus_composer = self.renaming.is_none();
        }
        // What is being edited may have been deleted.
        if self.editing.as_ref().is_some_and(|(id, _)| app.chat().message(*id).is_none()) {
            self.editing = None;
        }
        self.commands.append(&mut self.dialogs.poll());
        for file in ctx.input(|input| input.raw.dropped_files.clone()) {
            let path = file.path().to_owned();
            self.commands.push(if is_model(&path) { Command::OpenModel(ModelRef::Path(path)) } else { Command::Attach(path) });
        }
    }

    fn end_frame(&mut self, ctx: &egui::Context, app: &App) {
        if let Some(text) = self.copied.take() {
            ctx.copy_text(text);
        }
        for ask in std::mem::take(&mut self.asks) {
            self.dialogs.ask(ctx, ask);
        }
        if !self.commands.is_empty() {
            // What they change is drawn in the next frame.
            ctx.request_repaint();
        }
        if let Some(wake) = app.next_wake_ms() {
            let millis = (wake - app.now_ms()).clamp(5, 60_000) as u64;
            ctx.request_repaint_after(std::time::Duration::from_millis(millis));
        }
    }

    /// The bar above the chat: what is open, and which model answers.
    fn bar(&mut self, ui: &mut Ui, app: &App) {
        let texts = self.texts;
        let palette = theme::palette(ui);
        ui.horizontal(|ui| {
            if !(app.settings.sidebar && self.beside.sidebar) {
                if widgets::icon_button_of(ui, icons::SIDEBAR, texts.show_sidebar, widgets::Look::key(keys::SIDEBAR)).clicked() {
                    self.toggle_sidebar(app);
                }
                if widgets::icon_button_of(ui, icons::NEW, texts.new_chat, widgets::Look::key(keys::NEW_CHAT)).clicked() {
                    self.new_chat();
                }
            }
            ui.scope(|ui| {
                let icons = if self.narrow { 2.0 } else { 3.0 };
                let room = ui.available_width() - icons * (theme::CONTROL_HEIGHT + ui.spacing().item_spacing.x);
                ui.set_max_width(room.max(theme::CONTROL_HEIGHT));
                models::button(ui, app, self);
            });
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let look = widgets::Look { on: app.settings.inside, ..widgets::Look::key(keys::INSIDE) };
                if widgets::icon_button_of(ui, icons::INSIDE, texts.inside, look).clicked() {
                    self.toggle_inside(app);
                }
                if widgets::icon_button_of(ui, icons::SETTINGS, texts.chat_settings, widgets::Look::key(keys::SETTINGS)).clicked() {
                    self.open_settings();
                }
                // Whoever has keys for it has a wider window.
                if !self.narrow && widgets::icon_button_of(ui, icons::COMMAND, texts.palette, widgets::Look::key(keys::PALETTE)).clicked() {
                    self.open_palette();
                }
                if ui.available_width() > 120.0 && !app.chat().head.title.is_empty() {
                    ui.with_layout(Layout::left_to_right(Align::Center).with_main_align(Align::Center), |ui| {
                        let title = RichText::new(&app.chat().head.title).color(palette.text_faint);
                        ui.add(egui::Label::new(title).truncate());
                    });
                }
            });
        });
    }

    fn overlays(&mut self, ui: &mut Ui, app: &App) {
        let Some(overlay) = self.overlay else { return };
        let palette = theme::palette(ui);
        let screen = ui.ctx().content_rect();
        let (width, anchor, offset) = match overlay {
            Overlay::Models => (620.0, Align2::CENTER_CENTER, vec2(0.0, 0.0)),
            Overlay::Settings => (620.0, Align2::CENTER_CENTER, vec2(0.0, 0.0)),
            Overlay::Palette => (560.0, Align2::CENTER_TOP, vec2(0.0, (screen.height() * 0.12).round())),
        };
        let id = egui::Id::unique(("overlay", overlay as u8));
        let margin = if overlay == Overlay::Palette { Margin::same(8) } else { Margin::same(18) };
        let frame = Frame::new()
            .fill(palette.floating)
            .stroke(Stroke::new(1.0, palette.border))
            .corner_radius(theme::RADIUS_LARGE - 4)
            .shadow(ui.visuals().window_shadow)
            .inner_margin(margin);
        // As high as its content, which limits itself.
        let area = egui::Modal::default_area(id).default_size(screen.size()).anchor(anchor, offset).fade_in(false);
        let modal = egui::Modal::new(id).area(area).frame(frame).backdrop_color(backdrop(palette)).show(ui.ctx(), |ui| {
            let beside = if self.narrow { 16.0 + margin.sum().x } else { 60.0 };
            ui.set_width(f32::min(width, screen.width() - beside));
            match overlay {
                Overlay::Models => models::show(ui, app, self),
                Overlay::Settings => settings::show(ui, app, self),
                Overlay::Palette => palette::show(ui, app, self),
            }
        });
        // Its place follows from its size in the frame before.
        if self.overlay_size != modal.response.rect.size() {
            self.overlay_size = modal.response.rect.size();
            ui.ctx().request_repaint();
        }
        if modal.should_close() {
            self.close_overlay();
        }
    }

    fn close_overlay(&mut self) {
        self.overlay = None;
        self.device = None;
        self.focus_composer = true;
    }

    fn shortcuts(&mut self, ctx: &egui::Context, app: &App) {
        let pressed = |shortcut| keys::pressed(ctx, shortcut);
        // Longer chords first: a shorter one would take them.
        if pressed(&keys::COPY_LAST) {
            self.copy_last(app);
        }
        if pressed(&keys::UNDO) {
            self.commands.push(Command::Undo);
        }
        if pressed(&keys::NEW_CHAT) {
            self.overlay = None;
            self.new_chat();
        }
        if pressed(&keys::SEARCH) {
            self.overlay = None;
            self.search(app);
        }
        if pressed(&keys::PALETTE) {
            if self.overlay == Some(Overlay::Palette) { self.close_overlay() } else { self.open_palette() }
        }
        if pressed(&keys::SETTINGS) {
            if self.overlay == Some(Overlay::Settings) { self.close_overlay() } else { self.open_settings() }
        }
        if pressed(&keys::MODELS) {
            if self.overlay == Some(Overlay::Models) { self.close_overlay() } else { self.open_models() }
        }
        if pressed(&keys::SIDEBAR) {
            self.toggle_sidebar(app);
        }
        if pressed(&keys::INSIDE) {
            self.toggle_inside(app);
        }
        if pressed(&keys::ATTACH) {
            self.asks.push(Ask::Attach);
        }
        if pressed(&keys::REGENERATE)
            && app.answering().is_none()
            && let Some(answer) = last(app, Role::Assistant)
        {
            self.commands.push(Command::Regenerate(answer.id));
            self.transcript.follow();
        }
        if pressed(&keys::EDIT_LAST) {
            self.edit_last_question(app);
        }
        if pressed(&keys::PREVIOUS_CHAT) {
            self.commands.push(Command::PreviousChat);
        }
        if pressed(&keys::NEXT_CHAT) {
            self.commands.push(Command::NextChat);
        }
        let free = self.overlay.is_none()
            && self.drawer.is_none()
            && self.editing.is_none()
            && self.renaming.is_none()
            && !egui::Popup::is_any_open(ctx);
        let searching = ctx.memory(|memory| memory.has_focus(egui::Id::unique(SEARCH_FIELD)));
        if free && !searching && app.answering().is_some() && pressed(&keys::STOP) {
            self.commands.push(Command::Stop);
        }
        if let Some((id, _)) = &self.editing
            && ctx.memory(|memory| memory.focused().is_none())
            && app.chat().message(*id).is_some()
            && pressed(&keys::STOP)
        {
            self.editing = None;
        }
    }

    fn new_chat(&mut self) {
        self.commands.push(Command::NewChat);
        self.drawer = None;
        self.focus_composer = true;
    }

    fn send(&mut self, app: &App) {
        if app.answering().is_none() && !app.chat().head.draft.is_empty() {
            self.commands.push(Command::Send);
            self.transcript.follow();
            self.focus_composer = true;
        }
    }

    fn search(&mut self, app: &App) {
        self.open_sidebar(app);
        self.focus_search = true;
    }

    fn open_models(&mut self) {
        self.overlay = Some(Overlay::Models);
        self.drawer = None;
        self.commands.push(Command::ScanModels);
    }

    fn open_settings(&mut self) {
        self.overlay = Some(Overlay::Settings);
        self.drawer = None;
        self.device = None;
        self.commands.push(Command::ListAdapters);
    }

    fn open_palette(&mut self) {
        self.palette = palette::Palette::default();
        self.overlay = Some(Overlay::Palette);
        self.drawer = None;
    }

    fn rename(&mut self, chat: &ChatSummary) {
        self.renaming = Some((chat.id, chat.title.clone()));
        self.focus_rename = true;
    }

    fn edit(&mut self, message: &Message) {
        self.editing = Some((message.id, message.content.clone()));
        self.focus_edit = true;
    }

    fn edit_last_question(&mut self, app: &App) {
        if app.answering().is_none()
            && let Some(question) = last(app, Role::User)
        {
            self.edit(question);
            self.transcript.follow();
        }
    }

    fn copy_last(&mut self, app: &App) {
        if let Some(answer) = last(app, Role::Assistant) {
            self.copied = Some(answer.content.clone());
        }
    }
}

/// The last message of a role in the chat in front.
fn last(app: &App, role: Role) -> Option<&Message> {
    app.chat().path().rev().find(|message| message.role == role)
}

/// Whether a dropped path is opened as a model rather than attached.
fn is_model(path: &Path) -> bool {
    let is_file =
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf") || extension.eq_ignore_ascii_case("safetensors"));
    is_file || path.is_dir()
}

/// What dims the window behind a dialog or a drawer.
fn backdrop(palette: &theme::Palette) -> Color32 {
    Color32::from_black_alpha(if palette.dark { 120 } else { 50 })
}

/// A dialog's title and the button that closes it.
fn dialog_title(ui: &mut Ui, view: &mut View, title: &str) {
    ui.horizontal(|ui| {
        ui.label(RichText::new(title).font(theme::strong(theme::HEADINGS[2])));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if widgets::icon_button(ui, icons::CLOSE, view.texts.close).clicked() {
                view.close_overlay();
            }
        });
    });
    ui.add_space(theme::TINY);
}
