//! An empty chat: what can be asked, and where.

use eframe::egui;
use egui::{Align, Button, Layout, RichText, Ui, vec2};

use super::{View, composer, icons, keys, widgets};
use crate::app::{App, Command, theme};

pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let above = (ui.available_height() * 0.26).max(16.0).floor();
    ui.add_space(above);
    let beside = egui::Frame::new().inner_margin(egui::Margin::symmetric(16, 0));
    beside.show(ui, |ui| greeting(ui, app, view));
    ui.add_space(theme::LARGE);
    composer::show(ui, app, view);
    ui.add_space(theme::MEDIUM);
    beside.show(ui, |ui| starters(ui, app, view));
    ui.add_space(theme::MEDIUM);
    // Of keys and dragged files, neither of which a phone has.
    if !view.narrow && ui.available_height() > theme::LARGE {
        ui.vertical_centered(|ui| {
            let hint = texts.welcome_hint.fill(&[&keys::text(ui.ctx(), &keys::PALETTE)]);
            ui.label(RichText::new(hint).font(theme::tiny()).color(palette.text_faint));
        });
    }
}

fn greeting(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    ui.vertical_centered(|ui| {
        ui.label(RichText::new(texts.welcome).font(theme::strong(theme::TITLE)).color(palette.text));
        ui.add_space(theme::TINY);
        let line = match (&app.model, &app.opening) {
            (_, Some(opening)) => super::models::before_loading(texts, opening).unwrap_or_else(|| texts.loading.fill(&[&opening.name])),
            (Some(model), None) => texts.answers_here.fill(&[&model.name]),
            (None, None) => texts.no_model.to_owned(),
        };
        ui.label(RichText::new(line).font(theme::text()).color(palette.text_weak));
        if app.model.is_none() && app.opening.is_none() {
            ui.add_space(theme::SMALL);
            if widgets::primary_button(ui, texts.choose_model).clicked() {
                view.open_models();
            }
        }
    });
}

/// Questions to begin with; they only fill the field.
fn starters(ui: &mut Ui, app: &App, view: &mut View) {
    if !app.chat().head.draft.is_empty() {
        return;
    }
    let palette = theme::palette(ui);
    let width = ui.available_width().min(theme::COLUMN_WIDTH + theme::HUGE * 2.0);
    ui.vertical_centered(|ui| {
        ui.allocate_ui_with_layout(
            vec2(width, theme::CONTROL_HEIGHT),
            Layout::left_to_right(Align::Center).with_main_wrap(true).with_main_align(Align::Center),
            |ui| {
                for starter in view.texts.starters {
                    let text = RichText::new(format!("{}  {starter}", icons::RIGHT)).color(palette.text_weak);
                    let button = Button::new(text)
                        .fill(palette.page)
                        .stroke(egui::Stroke::new(1.0, palette.border))
                        .corner_radius(theme::RADIUS_LARGE);
                    if ui.add(button).clicked() {
                        view.commands.push(Command::SetDraft((*starter).to_owned()));
                        view.focus_composer = true;
                    }
                }
            },
        );
    });
}
