//! Where a question is written: a field that grows, the files that go with it, and one button to send or to stop.

use eframe::egui;
use egui::{Align, Color32, Key, Layout, RichText, ScrollArea, Sense, Stroke, StrokeKind, TextEdit, Ui, vec2};

use super::dialogs::Ask;
use super::widgets::{self, Look};
use super::{View, icons, keys};
use crate::app::{App, Command, Thinking, theme};

const MOST_HEIGHT: f32 = 220.0;
/// A draft of a model's size would make every frame slow.
const MOST_CHARACTERS: usize = 400_000;

pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let palette = theme::palette(ui);
    let width = (ui.available_width() - theme::LARGE * 2.0).min(theme::COLUMN_WIDTH + theme::HUGE * 2.0);
    let side = ((ui.available_width() - width) / 2.0).max(0.0).floor();
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.add_space(side);
        ui.vertical(|ui| {
            ui.set_width(width);
            let focused = ui.memory(|memory| memory.has_focus(egui::Id::unique(super::COMPOSER)));
            let stroke = Stroke::new(1.0, if focused { palette.accent } else { palette.border });
            let frame = egui::Frame::new()
                .fill(palette.raised)
                .stroke(stroke)
                .corner_radius(theme::RADIUS_LARGE)
                .inner_margin(egui::Margin::symmetric(12, 9));
            frame.show(ui, |ui| {
                ui.spacing_mut().item_spacing = vec2(theme::TINY, theme::TINY);
                attachments(ui, app, view);
                field(ui, app, view);
                buttons(ui, app, view);
            });
        });
    });
}

fn attachments(ui: &mut Ui, app: &App, view: &mut View) {
    let files = &app.chat().head.draft.attachments;
    if files.is_empty() {
        return;
    }
    let palette = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        for (index, file) in files.iter().enumerate() {
            let frame = egui::Frame::new()
                .fill(palette.page)
                .stroke(Stroke::new(1.0, palette.border))
                .corner_radius(theme::RADIUS)
                .inner_margin(egui::Margin { left: 9, right: 3, top: 1, bottom: 1 });
            frame.show(ui, |ui| {
                ui.spacing_mut().item_spacing.x = theme::TINY;
                ui.label(RichText::new(icons::FILE).color(palette.accent));
                ui.label(RichText::new(&file.name).color(palette.text));
                ui.label(RichText::new(widgets::bytes(file.text.len() as u64)).font(theme::tiny()).color(palette.text_faint));
                let name = view.texts.remove_file.fill(&[&file.name]);
                if widgets::icon_button_of(ui, icons::CLOSE, &name, Look { small: true, ..Look::default() }).clicked() {
                    view.commands.push(Command::RemoveAttachment(index));
                }
            });
        }
    });
}

fn field(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let id = egui::Id::unique(super::COMPOSER);
    let mut text = app.chat().head.draft.text.clone();
    let focused = ui.memory(|memory| memory.has_focus(id));
    // Return sends; with shift it breaks the line.
    let send = focused && view.overlay.is_none() && keys::entered(ui.ctx());
    if focused && text.is_empty() && ui.input(|input| input.key_pressed(Key::ArrowUp) && input.modifiers.is_none()) {
        view.edit_last_question(app);
    }
    let output = ScrollArea::vertical().id_salt("composer").max_height(MOST_HEIGHT).show(ui, |ui| {
        let field = TextEdit::multiline(&mut text)
            .id(id)
            .font(theme::text())
            .hint_text(RichText::new(texts.ask_hint).font(theme::text()).color(palette.text_faint))
            .frame(egui::Frame::NONE)
            .desired_rows(1)
            .desired_width(f32::INFINITY)
            .char_limit(MOST_CHARACTERS)
            .return_key(keys::NEW_LINE);
        ui.add(field)
    });
    let response = output.inner;
    response.widget_info(|| {
        let mut info = egui::WidgetInfo::labeled(egui::accesskit::Role::MultilineTextInput, true, texts.message_field);
        info.current_text_value = Some(app.chat().head.draft.text.clone());
        info
    });
    if std::mem::take(&mut view.focus_composer) {
        response.request_focus();
    }
    if response.changed() {
        view.commands.push(Command::SetDraft(text));
    }
    if send {
        view.send(app);
    }
}

fn buttons(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    ui.horizontal(|ui| {
        if widgets::icon_button_of(ui, icons::ATTACH, texts.attach, Look::key(keys::ATTACH)).clicked() {
            view.asks.push(Ask::Attach);
        }
        if app.model.as_ref().is_some_and(|model| model.thinking_is_a_choice) {
            thinking(ui, app, view);
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if app.answering().is_some() {
                if round_button(ui, icons::STOP, texts.stop, &keys::STOP, (palette.text, palette.page), true).clicked() {
                    view.commands.push(Command::Stop);
                }
            } else {
                let ready = !app.chat().head.draft.is_empty();
                let colours = (palette.accent, palette.on_accent);
                if round_button(ui, icons::SEND, texts.send, &keys::SEND, colours, ready).clicked() {
                    view.send(app);
                }
            }
            if let Some(used) = app.context.filter(|used| used.is_near()) {
                let colour = if used.is_full() { palette.danger } else { palette.warning };
                let text = texts.context_near.fill(&[&widgets::count(used.tokens), &widgets::count(used.context)]);
                ui.add_space(theme::TINY);
                ui.label(RichText::new(text).font(theme::tiny()).color(colour)).on_hover_text(texts.context_near_hint);
            }
        });
    });
}

/// Whether the model thinks first: as it does by itself, always, never.
fn thinking(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let settings = &app.chat().head.settings;
    let (next, name, on) = match settings.thinking {
        Thinking::Auto => (Thinking::On, texts.thinking_auto, false),
        Thinking::On => (Thinking::Off, texts.thinking_on, true),
        Thinking::Off => (Thinking::Auto, texts.thinking_off, false),
    };
    let palette = theme::palette(ui);
    let off = settings.thinking == Thinking::Off;
    let text = RichText::new(format!("{}  {}", icons::THINKING, name)).font(theme::tiny());
    let colour = if on {
        palette.accent
    } else if off {
        palette.text_faint
    } else {
        palette.text_weak
    };
    let fill = if on { palette.accent_soft } else { Color32::TRANSPARENT };
    let text = if off { text.strikethrough() } else { text };
    let response = ui.add(egui::Button::new(text.color(colour)).fill(fill).corner_radius(theme::RADIUS).frame_when_inactive(on));
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, name));
    if response.on_hover_text(texts.thinking_hint).clicked() {
        let settings = crate::app::ChatSettings { thinking: next, ..settings.clone() };
        view.commands.push(Command::SetChatSettings(settings));
    }
}

fn round_button(
    ui: &mut Ui,
    icon: &str,
    name: &str,
    shortcut: &egui::KeyboardShortcut,
    (fill, colour): (Color32, Color32),
    enabled: bool,
) -> egui::Response {
    let palette = theme::palette(ui);
    let sense = if enabled { Sense::click() } else { Sense::hover() };
    let (rect, response) = ui.allocate_exact_size(vec2(32.0, 32.0), sense);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, enabled, name));
    let lit = response.hovered() && enabled;
    let (fill, colour) = match enabled {
        true if lit => (fill.gamma_multiply(0.85), colour),
        true => (fill, colour),
        false => (palette.border, palette.text_faint),
    };
    ui.painter().rect_filled(rect, 16.0, fill);
    if response.has_focus() {
        ui.painter().rect_stroke(rect.expand(3.0), 19.0, Stroke::new(1.5, palette.accent), StrokeKind::Inside);
    }
    // The stop sign is a filled square; Lucide has only outlines.
    if icon == icons::STOP {
        ui.painter().rect_filled(egui::Rect::from_center_size(rect.center(), vec2(10.0, 10.0)), 2.0, colour);
    } else {
        widgets::icon_at(ui, rect.center(), icon, 18.0, colour);
    }
    let name = keys::named(ui.ctx(), name, shortcut);
    response.on_hover_text(name)
}
