//! What must be said: banners above the chat, a chat that is longer than its context, what can be taken back, files about to drop.

use eframe::egui;
use egui::{Align, Align2, Color32, Layout, RichText, Stroke, Ui, vec2};

use super::widgets::{self, Look};
use super::{View, icons};
use crate::app::i18n::Texts;
use crate::app::{App, Command, Deleted, Notice, TooLong, theme};

enum Weight {
    Good,
    Warning,
    Danger,
}

fn weight(notice: &Notice) -> Weight {
    match notice {
        Notice::NotStored { .. }
        | Notice::StoreFailing { .. }
        | Notice::StoreDamaged { .. }
        | Notice::Rebuilding { .. }
        | Notice::TurnedOff { .. } => Weight::Warning,
        Notice::RebuildFailed { .. } | Notice::ModelFailed { .. } | Notice::FileFailed { .. } => Weight::Danger,
        Notice::Rebuilt { .. } | Notice::Exported { .. } | Notice::Imported { .. } => Weight::Good,
    }
}

/// What happened, and the reason as it came.
fn words(texts: &Texts, notice: &Notice) -> (String, String) {
    match notice {
        Notice::NotStored { reason } => (texts.not_stored.to_owned(), reason.clone()),
        Notice::StoreFailing { reason } => (texts.store_failing.to_owned(), reason.clone()),
        Notice::StoreDamaged { reason } => (texts.store_damaged.to_owned(), reason.clone()),
        Notice::Rebuilding { reason } => (texts.rebuilding.to_owned(), reason.clone()),
        Notice::Rebuilt { reason } => (texts.rebuilt.to_owned(), reason.clone()),
        Notice::RebuildFailed { reason } => (texts.rebuild_failed.to_owned(), reason.clone()),
        Notice::ModelFailed { name, reason, kept } => {
            let what = if *kept { texts.model_failed_kept } else { texts.model_failed };
            (what.fill(&[name]), reason.clone())
        }
        Notice::TurnedOff { what } => (texts.turned_off.fill(&[what]), String::new()),
        Notice::FileFailed { reason } => (texts.file_failed.to_owned(), reason.clone()),
        Notice::Exported { path } => (texts.exported.to_owned(), path.display().to_string()),
        Notice::Imported { chats } => (texts.imported.fill(&[&chats.to_string()]), String::new()),
    }
}

/// Banners, the newest first, a few at a time.
pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    const MOST: usize = 3;
    let palette = theme::palette(ui);
    for (id, notice) in app.notices.iter().rev().take(MOST) {
        let (fill, colour, icon) = match weight(notice) {
            Weight::Good => (palette.accent_soft, palette.accent, icons::INFO),
            Weight::Warning => (palette.warning_soft, palette.warning, icons::WARNING),
            Weight::Danger => (palette.danger_soft, palette.danger, icons::ERROR),
        };
        let (what, reason) = words(view.texts, notice);
        ui.push_id(id, |ui| {
            strip(ui, fill, colour, icon, &what, &reason, |ui| {
                if widgets::icon_button_of(
                    ui,
                    icons::CLOSE,
                    view.texts.dismiss,
                    Look { small: true, colour: Some(colour), ..Look::default() },
                )
                .clicked()
                {
                    view.commands.push(Command::DismissNotice(*id));
                }
            });
        });
    }
    if let Some(too_long) = app.too_long.as_ref().filter(|too_long| too_long.chat == app.chat().id()) {
        show_too_long(ui, view, too_long);
    } else if app.chat().head.context_start.is_some() {
        let (fill, colour) = (palette.raised, palette.text_weak);
        strip(ui, fill, colour, icons::INFO, view.texts.reads_part, "", |ui| {
            if widgets::text_button(ui, view.texts.read_all).clicked() {
                view.commands.push(Command::ReadAll);
            }
        });
    }
}

fn strip(ui: &mut Ui, fill: Color32, colour: Color32, icon: &str, what: &str, reason: &str, buttons: impl FnOnce(&mut Ui)) {
    let palette = theme::palette(ui);
    let frame = egui::Frame::new()
        .fill(fill)
        .corner_radius(theme::RADIUS)
        .inner_margin(egui::Margin::symmetric(12, 6))
        .outer_margin(egui::Margin { left: 16, right: 16, top: 4, bottom: 4 });
    let response = frame.show(ui, |ui| {
        ui.with_layout(Layout::right_to_left(Align::TOP), |ui| {
            buttons(ui);
            ui.with_layout(Layout::left_to_right(Align::TOP), |ui| {
                ui.spacing_mut().item_spacing.x = theme::SMALL;
                ui.add_space(1.0);
                ui.vertical(|ui| {
                    ui.add_space(5.0);
                    ui.label(RichText::new(icon).font(egui::FontId::proportional(theme::ICON)).color(colour));
                });
                ui.vertical(|ui| {
                    ui.spacing_mut().item_spacing.y = 2.0;
                    ui.add_space(5.0);
                    ui.add(egui::Label::new(RichText::new(what).color(palette.text)).wrap());
                    if !reason.is_empty() {
                        ui.add(
                            egui::Label::new(RichText::new(reason).font(theme::tiny()).color(palette.text_weak)).wrap().selectable(true),
                        );
                    }
                    ui.add_space(4.0);
                });
            });
        });
    });
    response.response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Alert, true, format!("{what} {reason}")));
}

fn show_too_long(ui: &mut Ui, view: &mut View, too_long: &TooLong) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let what = texts.too_long.fill(&[&widgets::count(too_long.tokens), &widgets::count(too_long.context)]);
    let choices = match (too_long.drop.len(), too_long.raise_to) {
        (0, None) => texts.too_long_alone.to_owned(),
        (0, Some(_)) => String::new(),
        (count, _) => texts.too_long_drop.fill(&[&count.to_string()]),
    };
    strip(ui, palette.warning_soft, palette.warning, icons::WARNING, &what, &choices, |ui| {
        ui.spacing_mut().item_spacing.x = theme::SMALL;
        if widgets::text_button(ui, texts.leave_it).clicked() {
            view.commands.push(Command::DismissTooLong);
        }
        if !too_long.drop.is_empty() && widgets::plain_button(ui, texts.drop_oldest).clicked() {
            view.commands.push(Command::DropOldest);
        }
        if let Some(context) = too_long.raise_to
            && widgets::primary_button(ui, &texts.raise_context.fill(&[&widgets::count(context)])).clicked()
        {
            view.commands.push(Command::RaiseContext);
        }
    });
}

/// What was deleted last, for as long as it can be taken back.
pub fn undo_toast(ui: &mut Ui, app: &App, view: &mut View, bottom: f32) {
    let Some(undo) = &app.undo else { return };
    let texts = view.texts;
    let palette = theme::palette(ui);
    let area = egui::Area::new(egui::Id::unique("undo")).order(egui::Order::Foreground).anchor(Align2::CENTER_BOTTOM, vec2(0.0, -bottom));
    area.show(ui.ctx(), |ui| {
        let frame = egui::Frame::new()
            .fill(palette.floating)
            .stroke(Stroke::new(1.0, palette.border))
            .corner_radius(theme::RADIUS + 2)
            .shadow(ui.visuals().popup_shadow)
            .inner_margin(egui::Margin { left: 14, right: 8, top: 5, bottom: 5 });
        frame.show(ui, |ui| {
            ui.horizontal(|ui| {
                let what = match &undo.deleted {
                    Deleted::Chat(chat) if chat.head.title.is_empty() => texts.chat_deleted.to_owned(),
                    Deleted::Chat(chat) => texts.chat_deleted_named.fill(&[&shortened(&chat.head.title)]),
                    Deleted::Messages(_, messages) if messages.len() == 1 => texts.message_deleted.to_owned(),
                    Deleted::Messages(_, messages) => texts.messages_deleted.fill(&[&messages.len().to_string()]),
                };
                ui.label(what);
                ui.add_space(theme::SMALL);
                let text = RichText::new(texts.undo).font(theme::strong(theme::TEXT_SMALL)).color(palette.accent);
                if ui.add(egui::Button::new(text).frame_when_inactive(false)).clicked() {
                    view.commands.push(Command::Undo);
                }
            });
        });
    });
}

fn shortened(title: &str) -> String {
    const MOST: usize = 32;
    let mut short: String = title.chars().take(MOST).collect();
    if title.chars().count() > MOST {
        short.push('…');
    }
    short
}

/// Tells what files over the window will do.
pub fn drop_overlay(ui: &mut Ui, view: &View) {
    let files = ui.input(|input| input.raw.hovered_files.clone());
    if files.is_empty() {
        return;
    }
    let palette = theme::palette(ui);
    let models = files.iter().any(|file| file.path.as_deref().is_some_and(super::is_model));
    let text = if models { view.texts.drop_model } else { view.texts.drop_files };
    let painter = ui.ctx().layer_painter(egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop")));
    let rect = ui.ctx().content_rect();
    painter.rect_filled(rect, 0.0, palette.page.gamma_multiply(0.86));
    let inner = rect.shrink(theme::LARGE);
    painter.rect_stroke(inner, f32::from(theme::RADIUS_LARGE), Stroke::new(2.0, palette.accent), egui::StrokeKind::Inside);
    painter.text(rect.center(), Align2::CENTER_CENTER, text, theme::strong(theme::HEADINGS[1]), palette.accent);
}
