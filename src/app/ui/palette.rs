//! The command palette: every command, chat and model by a few typed letters.

use eframe::egui;
use egui::{Align, Align2, Color32, Key, KeyboardShortcut, RichText, ScrollArea, Sense, Stroke, TextEdit, Ui, vec2};

use super::dialogs::Ask;
use super::{View, icons, keys};
use crate::app::{App, Command, Format, ModelRef, Settings, Theme, theme};

/// Rows that are shown at most.
const MOST: usize = 60;
const ROW_HEIGHT: f32 = 34.0;

#[derive(Default)]
pub struct Palette {
    query: String,
    selected: usize,
}

/// What a row does.
#[derive(Clone)]
enum Act {
    Command(Command),
    Ask(Ask),
    View(fn(&mut View, &App)),
}

struct Row {
    icon: &'static str,
    name: String,
    shortcut: Option<&'static KeyboardShortcut>,
    act: Act,
}

fn rows(app: &App, view: &View) -> Vec<Row> {
    let texts = view.texts;
    let mut rows: Vec<Row> = vec![];
    let mut add = |icon, name: &str, shortcut, act| rows.push(Row { icon, name: name.to_owned(), shortcut, act });
    let chat = app.chat();
    let last_answer = chat.path().rev().find(|message| message.role == crate::text::Role::Assistant);
    add(icons::NEW, texts.new_chat, Some(&keys::NEW_CHAT), Act::View(|view, _| view.new_chat()));
    add(icons::SEARCH, texts.search, Some(&keys::SEARCH), Act::View(|view, app| view.search(app)));
    if app.answering().is_some() {
        add(icons::STOP, texts.stop, Some(&keys::STOP), Act::Command(Command::Stop));
    } else if let Some(answer) = last_answer {
        add(icons::REGENERATE, texts.regenerate, Some(&keys::REGENERATE), Act::Command(Command::Regenerate(answer.id)));
        add(icons::CONTINUE, texts.go_on, None, Act::Command(Command::Continue(answer.id)));
        add(icons::COPY, texts.copy_answer, Some(&keys::COPY_LAST), Act::View(|view, app| view.copy_last(app)));
    }
    add(icons::EDIT, texts.edit_last, Some(&keys::EDIT_LAST), Act::View(|view, app| view.edit_last_question(app)));
    let shown = chat.head.shows_reasoning;
    let name = if shown { texts.fold_thoughts } else { texts.unfold_thoughts };
    add(icons::THINKING, name, None, Act::Command(Command::ShowReasoning(!shown)));
    add(icons::ATTACH, texts.attach, Some(&keys::ATTACH), Act::Ask(Ask::Attach));
    add(icons::MODEL, texts.models, Some(&keys::MODELS), Act::View(|view, _| view.open_models()));
    add(icons::SETTINGS, texts.settings, Some(&keys::SETTINGS), Act::View(|view, _| view.open_settings()));
    add(icons::INSIDE, texts.inside, Some(&keys::INSIDE), Act::View(|view, app| view.toggle_inside(app)));
    add(icons::SIDEBAR, texts.sidebar, Some(&keys::SIDEBAR), Act::View(|view, app| view.toggle_sidebar(app)));
    if app.undo.is_some() {
        add(icons::UNDO, texts.undo, Some(&keys::UNDO), Act::Command(Command::Undo));
    }
    if let Some(summary) = app.chats.iter().find(|other| other.id == chat.id()) {
        add(icons::RENAME, texts.rename_chat, None, Act::View(|view, app| view.rename(&app.chat().summary())));
        let name = if summary.pinned { texts.unpin } else { texts.pin };
        add(icons::PIN, name, None, Act::Command(Command::PinChat(summary.id, !summary.pinned)));
        for (format, name) in [(Format::Markdown, texts.export_markdown), (Format::Json, texts.export_json)] {
            add(icons::EXPORT, name, None, Act::Ask(Ask::Export { chat: summary.id, format, name: summary.title.clone() }));
        }
        add(icons::DELETE, texts.delete_chat, None, Act::Command(Command::DeleteChat(summary.id)));
        add(icons::RIGHT, texts.next_chat, Some(&keys::NEXT_CHAT), Act::Command(Command::NextChat));
        add(icons::LEFT, texts.previous_chat, Some(&keys::PREVIOUS_CHAT), Act::Command(Command::PreviousChat));
    }
    add(icons::EXPORT, texts.export_all, None, Act::Ask(Ask::ExportAll));
    add(icons::IMPORT, texts.import, None, Act::Ask(Ask::Import));
    if app.model.is_some() {
        add(icons::UNLOAD, texts.unload_model, None, Act::Command(Command::UnloadModel));
    }
    for (theme, name) in [(Theme::System, texts.theme_system), (Theme::Light, texts.theme_light), (Theme::Dark, texts.theme_dark)] {
        let settings = Settings { theme, ..app.settings.clone() };
        add(icons::INFO, &texts.theme_is.fill(&[name]), None, Act::Command(Command::SetSettings(Box::new(settings))));
    }
    for preset in &app.presets {
        add(icons::SETTINGS, &texts.use_preset.fill(&[&preset.name]), None, Act::Command(Command::ApplyPreset(preset.name.clone())));
    }
    for entry in app.library.models.iter().filter(|entry| entry.header.is_ok()) {
        let model: ModelRef = entry.model.clone();
        add(icons::MODEL, &texts.open_model.fill(&[&entry.name]), None, Act::Command(Command::OpenModel(model)));
    }
    for summary in &app.chats {
        let title = if summary.title.is_empty() { texts.untitled } else { &summary.title };
        add(icons::BRANCH, title, None, Act::Command(Command::OpenChat(summary.id)));
    }
    rows
}

/// How well a name goes with a query; none if a word of the query is not in it. Less is better.
fn rank(name: &str, query: &str) -> Option<usize> {
    let name = name.to_lowercase();
    query.to_lowercase().split_whitespace().map(|word| in_order(&name, word)).sum()
}

/// A word as it stands is better than its letters in order with others between them.
fn in_order(name: &str, word: &str) -> Option<usize> {
    if let Some(at) = name.find(word) {
        let starts = at == 0 || !name[..at].ends_with(char::is_alphanumeric);
        return Some(if starts { at.min(20) } else { 20 + at });
    }
    let mut letters = name.chars();
    let mut skipped = 100;
    for letter in word.chars() {
        skipped += letters.position(|other| other == letter)?;
    }
    Some(skipped)
}

pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let all = rows(app, view);
    let mut found: Vec<(usize, &Row)> = all.iter().filter_map(|row| Some((rank(&row.name, &view.palette.query)?, row))).collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.truncate(MOST);
    let mut chosen = None;
    let last = found.len().saturating_sub(1);
    let step = ui.input_mut(|input| {
        let down = input.count_and_consume_key(egui::Modifiers::NONE, Key::ArrowDown) as isize;
        let up = input.count_and_consume_key(egui::Modifiers::NONE, Key::ArrowUp) as isize;
        down - up
    });
    view.palette.selected = view.palette.selected.saturating_add_signed(step).min(last);
    if ui.input_mut(|input| input.consume_key(egui::Modifiers::NONE, Key::Enter)) {
        chosen = found.get(view.palette.selected).map(|(_, row)| row.act.clone());
    }
    let field = TextEdit::singleline(&mut view.palette.query)
        .id(egui::Id::unique("palette"))
        .font(theme::text())
        .hint_text(RichText::new(texts.palette_hint).color(palette.text_faint))
        .frame(egui::Frame::NONE.inner_margin(egui::Margin::symmetric(8, 4)))
        .align(Align2::LEFT_CENTER)
        .min_size(vec2(0.0, 36.0))
        .desired_width(f32::INFINITY);
    let response = ui.add(field);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::SearchInput, true, texts.palette));
    response.request_focus();
    if response.changed() {
        view.palette.selected = 0;
    }
    ui.painter().hline(ui.max_rect().x_range(), ui.cursor().top(), Stroke::new(1.0, palette.border));
    ui.add_space(theme::TINY);
    if found.is_empty() {
        ui.add_space(theme::SMALL);
        ui.vertical_centered(|ui| super::widgets::weak(ui, texts.nothing_found));
        ui.add_space(theme::SMALL);
    }
    ScrollArea::vertical().id_salt("rows").max_height(ROW_HEIGHT * 10.0).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        for (index, (_, row)) in found.iter().enumerate() {
            let selected = index == view.palette.selected;
            let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW_HEIGHT), Sense::click());
            response.widget_info(|| egui::WidgetInfo::selected(egui::accesskit::Role::Button, true, selected, &row.name));
            let fill = match (selected, response.hovered()) {
                (true, _) => palette.selected,
                (false, true) => palette.hover.gamma_multiply(0.6),
                (false, false) => Color32::TRANSPARENT,
            };
            ui.painter().rect_filled(rect, theme::RADIUS_SMALL, fill);
            super::widgets::icon_at(
                ui,
                rect.left_center() + vec2(18.0, 0.0),
                row.icon,
                14.0,
                if selected { palette.accent } else { palette.text_faint },
            );
            let mut job = egui::text::LayoutJob::simple_singleline(row.name.clone(), theme::small(), palette.text);
            job.wrap = egui::text::TextWrapping::truncate_at_width(rect.width() - 130.0);
            let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
            ui.painter().galley(rect.left_center() + vec2(36.0, -galley.size().y / 2.0), galley, palette.text);
            if let Some(shortcut) = row.shortcut {
                let text = super::keys::text(ui.ctx(), shortcut);
                ui.painter().text(rect.right_center() - vec2(12.0, 0.0), Align2::RIGHT_CENTER, text, theme::tiny(), palette.text_faint);
            }
            if selected && step != 0 {
                response.scroll_to_me(Some(Align::Center));
            }
            if response.clicked() {
                chosen = Some(row.act.clone());
            }
        }
    });
    if let Some(act) = chosen {
        view.overlay = None;
        view.focus_composer = true;
        match act {
            Act::Command(command) => view.commands.push(command),
            Act::Ask(ask) => view.asks.push(ask),
            Act::View(act) => act(view, app),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginnings_of_words_come_first() {
        assert_eq!(rank("New chat", ""), Some(0));
        assert!(rank("New chat", "chat") < rank("A purchase of achats", "chat"));
        assert!(rank("New chat", "nw") > rank("New chat", "new"));
        assert!(rank("New chat", "new ch").is_some());
        assert_eq!(rank("New chat", "xyz"), None);
        assert!(rank("新对话", "对话").is_some());
    }
}
