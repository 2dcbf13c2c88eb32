//! The sidebar: a new chat, the search, and the chats by when they were last written to.

use eframe::egui;
use egui::text::LayoutJob;
use egui::{Align, Color32, Key, Layout, RichText, ScrollArea, Sense, Stroke, StrokeKind, TextEdit, TextFormat, Ui, vec2};

use super::widgets::{self, Look};
use super::{View, icons, keys};
use crate::app::i18n::Texts;
use crate::app::store::Hit;
use crate::app::ui::dialogs::Ask;
use crate::app::{App, ChatSummary, Command, Format, theme};

const ROW_HEIGHT: f32 = 32.0;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    ui.spacing_mut().item_spacing = vec2(theme::TINY, theme::TINY);
    ui.horizontal(|ui| {
        ui.label(RichText::new("Fathom").font(theme::strong(16.0)));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if widgets::icon_button_of(ui, icons::SIDEBAR, texts.hide_sidebar, widgets::Look::key(keys::SIDEBAR)).clicked() {
                view.toggle_sidebar(app);
            }
            if widgets::icon_button_of(ui, icons::NEW, texts.new_chat, widgets::Look::key(keys::NEW_CHAT)).clicked() {
                view.new_chat();
            }
        });
    });
    ui.add_space(theme::TINY);
    search_field(ui, app, view);
    ui.add_space(theme::TINY);
    let bottom = theme::CONTROL_HEIGHT + theme::SMALL;
    let height = (ui.available_height() - bottom).max(40.0);
    let rows = ScrollArea::vertical().id_salt("chats").auto_shrink(false).max_height(height);
    rows.show(ui, |ui| {
        ui.set_width(ui.available_width());
        if app.search.query.is_empty() {
            chats(ui, app, view);
        } else {
            hits(ui, app, view);
        }
    });
    ui.with_layout(Layout::bottom_up(Align::LEFT), |ui| {
        let name = format!("{}  {}", icons::SETTINGS, texts.settings);
        if widgets::text_button(ui, &name).on_hover_text(keys::named(ui.ctx(), texts.settings, &keys::SETTINGS)).clicked() {
            view.open_settings();
        }
    });
}

fn search_field(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let field = TextEdit::singleline(&mut view.search)
        .id(egui::Id::unique(super::SEARCH_FIELD))
        .hint_text(RichText::new(texts.search_hint).color(palette.text_faint))
        .prefix(RichText::new(icons::SEARCH).color(palette.text_faint))
        .background_color(if palette.dark { palette.raised } else { palette.page })
        .align(egui::Align2::LEFT_CENTER)
        .desired_width(f32::INFINITY);
    let response = ui.add(field);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::SearchInput, true, texts.search));
    if response.changed() {
        view.commands.push(Command::Search(view.search.clone()));
    }
    if std::mem::take(&mut view.focus_search) {
        response.request_focus();
    }
    let escaped = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Escape));
    if escaped && !app.search.query.is_empty() {
        view.search.clear();
        view.commands.push(Command::Search(String::new()));
    }
}

/// Since when the chats of a group were written to, by whole days of the local clock.
fn group<'a>(texts: &'a Texts, chat: &ChatSummary, now_ms: i64, zone_ms: i64) -> &'a str {
    let day = |ms: i64| (ms + zone_ms).div_euclid(DAY_MS);
    match day(now_ms) - day(chat.updated_ms) {
        _ if chat.pinned => texts.pinned,
        ..=0 => texts.today,
        1 => texts.yesterday,
        2..=7 => texts.last_week,
        8..=30 => texts.last_month,
        _ => texts.older,
    }
}

fn chats(ui: &mut Ui, app: &App, view: &mut View) {
    if app.chats.is_empty() {
        ui.add_space(theme::MEDIUM);
        ui.vertical_centered(|ui| widgets::weak(ui, view.texts.no_chats));
        return;
    }
    let now = app.now_ms();
    let mut last = "";
    // Thousands of chats: only what is visible is drawn, headings included.
    let mut rows: Vec<Result<&ChatSummary, &str>> = vec![];
    for chat in &app.chats {
        let group = group(view.texts, chat, now, view.zone_ms);
        if group != last {
            rows.push(Err(group));
            last = group;
        }
        rows.push(Ok(chat));
    }
    let heights = rows.iter().scan(0.0, |y, row| {
        let top = *y;
        *y += if row.is_ok() { ROW_HEIGHT } else { 30.0 };
        Some(top)
    });
    let tops: Vec<f32> = heights.collect();
    let total = tops.last().copied().unwrap_or(0.0) + ROW_HEIGHT;
    let (all, _) = ui.allocate_exact_size(vec2(ui.available_width(), total), Sense::hover());
    let visible = ui.clip_rect();
    for (row, top) in rows.iter().zip(&tops) {
        let min = all.min + vec2(0.0, *top);
        if min.y > visible.bottom() || min.y + ROW_HEIGHT < visible.top() {
            continue;
        }
        let rect = egui::Rect::from_min_size(min, vec2(all.width(), ROW_HEIGHT));
        match row {
            Ok(chat) => chat_row(ui, rect, app, chat, view),
            Err(group) => {
                let palette = theme::palette(ui);
                let at = egui::pos2(rect.left() + theme::SMALL, rect.top() + 19.0);
                ui.painter().text(at, egui::Align2::LEFT_CENTER, *group, theme::strong(theme::TEXT_TINY), palette.text_faint);
            }
        }
    }
}

fn title_of<'a>(texts: &'a Texts, title: &'a str) -> &'a str {
    if title.is_empty() { texts.untitled } else { title }
}

fn chat_row(ui: &mut Ui, rect: egui::Rect, app: &App, chat: &ChatSummary, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let id = egui::Id::unique(("chat", chat.id));
    if let Some((renamed, text)) = &mut view.renaming
        && *renamed == chat.id
    {
        let response = ui.put(rect.shrink2(vec2(2.0, 1.0)), TextEdit::singleline(text).id(id.with("name")).desired_width(f32::INFINITY));
        response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::TextInput, true, texts.rename));
        if std::mem::take(&mut view.focus_rename) {
            response.request_focus();
        }
        let given_up = ui.input(|input| input.key_pressed(Key::Escape));
        if response.lost_focus() {
            if !given_up {
                view.commands.push(Command::RenameChat(chat.id, text.clone()));
            }
            view.renaming = None;
        }
        return;
    }
    let response = ui.interact(rect, id, Sense::click());
    let title = title_of(texts, &chat.title);
    let selected = app.chat().id() == chat.id;
    response.widget_info(|| egui::WidgetInfo::selected(egui::accesskit::Role::Button, true, selected, title));
    let lit = response.hovered() || response.has_focus() || response.context_menu_opened();
    let fill = match (selected, lit) {
        (true, _) => palette.selected,
        (false, true) => palette.hover.gamma_multiply(0.6),
        (false, false) => Color32::TRANSPARENT,
    };
    let stroke = if response.has_focus() { Stroke::new(1.5, palette.accent) } else { Stroke::NONE };
    ui.painter().rect(rect, theme::RADIUS_SMALL, fill, stroke, StrokeKind::Inside);
    let answering = app.answers.iter().any(|answer| answer.chat == chat.id);
    let menu_width = if lit || selected { 28.0 } else { 0.0 };
    let mut right = rect.right() - theme::SMALL - menu_width;
    if answering {
        ui.painter().circle_filled(egui::pos2(right - 4.0, rect.center().y), 3.5, palette.accent);
        right -= 14.0;
    }
    let colour = if selected { palette.text } else { palette.text_weak };
    let mut job = LayoutJob::simple_singleline(title.replace('\n', " "), theme::small(), colour);
    job.wrap = egui::text::TextWrapping::truncate_at_width(right - rect.left() - theme::SMALL);
    let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
    let at = egui::pos2(rect.left() + theme::SMALL, rect.center().y - galley.size().y / 2.0);
    ui.painter().galley(at, galley, colour);
    response.context_menu(|ui| chat_menu(ui, chat, view));
    if menu_width > 0.0 {
        let place = egui::Rect::from_center_size(egui::pos2(rect.right() - 16.0, rect.center().y), vec2(26.0, 26.0));
        let mut child = ui.new_child(egui::UiBuilder::new().id_salt(id.with("more")).max_rect(place));
        let more = widgets::icon_button_of(&mut child, icons::MORE, texts.chat_menu, Look { small: true, ..Look::default() });
        egui::Popup::menu(&more).show(|ui| chat_menu(ui, chat, view));
    }
    if response.double_clicked() {
        view.rename(chat);
    } else if response.clicked() {
        view.commands.push(Command::OpenChat(chat.id));
        view.drawer = None;
    }
    if response.has_focus() {
        if ui.input(|input| input.key_pressed(Key::F2)) {
            view.rename(chat);
        }
        if ui.input(|input| input.key_pressed(Key::Delete)) {
            view.commands.push(Command::DeleteChat(chat.id));
        }
    }
}

pub fn chat_menu(ui: &mut Ui, chat: &ChatSummary, view: &mut View) {
    let texts = view.texts;
    ui.set_min_width(180.0);
    let item = |ui: &mut Ui, icon: &str, text: &str| {
        let response = ui.add(egui::Button::new(format!("{icon}   {text}")).frame_when_inactive(false));
        response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, text));
        response.clicked()
    };
    if item(ui, icons::RENAME, texts.rename) {
        view.rename(chat);
    }
    let (icon, text) = if chat.pinned { (icons::UNPIN, texts.unpin) } else { (icons::PIN, texts.pin) };
    if item(ui, icon, text) {
        view.commands.push(Command::PinChat(chat.id, !chat.pinned));
    }
    ui.separator();
    for (format, text) in [(Format::Markdown, texts.export_markdown), (Format::Json, texts.export_json)] {
        if item(ui, icons::EXPORT, text) {
            view.asks.push(Ask::Export { chat: chat.id, format, name: chat.title.clone() });
        }
    }
    ui.separator();
    if item(ui, icons::DELETE, texts.delete) {
        view.commands.push(Command::DeleteChat(chat.id));
    }
}

fn hits(ui: &mut Ui, app: &App, view: &mut View) {
    if app.search.hits.is_empty() {
        ui.add_space(theme::MEDIUM);
        ui.vertical_centered(|ui| widgets::weak(ui, view.texts.nothing_found));
        return;
    }
    for hit in &app.search.hits {
        hit_row(ui, hit, view);
    }
}

fn hit_row(ui: &mut Ui, hit: &Hit, view: &mut View) {
    let palette = theme::palette(ui);
    let title = title_of(view.texts, &hit.title);
    let width = ui.available_width() - theme::SMALL * 2.0;
    let format = |colour, strong: bool| {
        let font_id = if strong { theme::strong(theme::TEXT_TINY) } else { theme::tiny() };
        TextFormat { font_id, color: colour, ..TextFormat::default() }
    };
    let mut job =
        LayoutJob { wrap: egui::text::TextWrapping { max_width: width, max_rows: 2, ..Default::default() }, ..LayoutJob::default() };
    let range = hit.found.clone();
    if let (Some(before), Some(found), Some(after)) =
        (hit.excerpt.get(..range.start), hit.excerpt.get(range.clone()), hit.excerpt.get(range.end..))
    {
        job.append(before, 0.0, format(palette.text_faint, false));
        job.append(found, 0.0, format(palette.accent, true));
        job.append(after, 0.0, format(palette.text_faint, false));
    }
    let excerpt = ui.fonts_mut(|fonts| fonts.layout_job(job));
    let shown = hit.message.is_some();
    let height = if shown { 30.0 + excerpt.size().y } else { ROW_HEIGHT };
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::click());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, format!("{title}: {}", hit.excerpt)));
    if response.hovered() || response.has_focus() {
        let stroke = if response.has_focus() { Stroke::new(1.5, palette.accent) } else { Stroke::NONE };
        ui.painter().rect(rect, theme::RADIUS_SMALL, palette.hover.gamma_multiply(0.6), stroke, StrokeKind::Inside);
    }
    let mut job = LayoutJob::simple_singleline(title.to_owned(), theme::small(), palette.text);
    job.wrap = egui::text::TextWrapping::truncate_at_width(width);
    let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
    ui.painter().galley(rect.min + vec2(theme::SMALL, 7.0), galley, palette.text);
    if shown {
        ui.painter().galley(rect.min + vec2(theme::SMALL, 25.0), excerpt, palette.text_faint);
    }
    if response.clicked() {
        view.revealed = None;
        view.drawer = None;
        view.commands.push(match hit.message {
            Some(message) => Command::OpenMessage(hit.chat, message),
            None => Command::OpenChat(hit.chat),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::ChatId;
    use crate::app::i18n::ENGLISH;

    #[test]
    fn chats_are_grouped_by_days_of_the_local_clock() {
        let now = 20_000 * DAY_MS + 3_600_000;
        let chat = |ago_ms: i64| ChatSummary { id: ChatId(1), title: String::new(), pinned: false, updated_ms: now - ago_ms };
        let of = |ago_ms, zone_ms| group(&ENGLISH, &chat(ago_ms), now, zone_ms);
        assert_eq!(of(0, 0), ENGLISH.today);
        assert_eq!(of(2 * 3_600_000, 0), ENGLISH.yesterday);
        // Two hours ago was still today further east.
        assert_eq!(of(2 * 3_600_000, 5 * 3_600_000), ENGLISH.today);
        assert_eq!(of(6 * DAY_MS, 0), ENGLISH.last_week);
        assert_eq!(of(20 * DAY_MS, 0), ENGLISH.last_month);
        assert_eq!(of(400 * DAY_MS, 0), ENGLISH.older);
        assert_eq!(of(-DAY_MS, 0), ENGLISH.today);
    }
}
