//! One message: a bubble for the user's words, plain text for the model's, thoughts folded above it, actions below it.

use eframe::egui;
use egui::text::{LayoutJob, TextFormat};
use egui::{Align, Color32, Layout, Rect, RichText, Sense, Stroke, StrokeKind, TextEdit, Ui, UiBuilder, pos2, vec2};

use super::widgets::{self, Look};
use super::{View, icons, inside, keys};
use crate::app::markdown::{CodeTexts, show as show_markdown};
use crate::app::{App, Command, Message, MessageId, MessageState, Phase, theme};
use crate::text::Role;

const ACTIONS: f32 = 30.0;
const THINKING: f32 = 30.0;
const PROGRESS: f32 = 32.0;
const CHIPS: f32 = 34.0;
const THOUGHT_INDENT: f32 = 14.0;
const BUBBLE_PADDING: egui::Vec2 = vec2(15.0, 10.0);
/// A bubble takes at most this share of the column.
const BUBBLE_SHARE: f32 = 0.86;

/// What is drawn around a message's text.
#[derive(Clone, PartialEq)]
pub struct Chrome {
    unfolded: bool,
    phase: Option<Phase>,
    /// For how long it has been thinking now.
    thinking_ms: i64,
    editing: bool,
    edit_lines: usize,
    failed: bool,
    stopped: bool,
    last: bool,
    /// This one's number among its siblings, and how many there are.
    branch: (usize, usize),
}

impl Chrome {
    pub fn of(app: &App, view: &View, message: &Message) -> Self {
        let answering = app.answers.iter().find(|answer| answer.message == message.id);
        let (place, siblings) = app.chat().siblings(message.id);
        let editing = view.editing.as_ref().filter(|(id, _)| *id == message.id);
        Self {
            unfolded: app.chat().head.shows_reasoning,
            phase: answering.map(|answer| answer.phase),
            thinking_ms: answering.and_then(|answer| answer.reasoning_since_ms).map_or(0, |since| app.now_ms() - since),
            editing: editing.is_some(),
            edit_lines: editing.map_or(0, |(_, text)| text.len()),
            failed: matches!(message.state, MessageState::Failed(_)),
            stopped: matches!(message.state, MessageState::Stopped | MessageState::Cut),
            last: app.chat().leaf().is_some_and(|leaf| leaf.id == message.id),
            branch: (place, siblings.len()),
        }
    }

    /// What of it the height depends on.
    pub fn key(&self) -> (bool, bool, usize, bool, bool, bool) {
        let waits = matches!(self.phase, Some(Phase::Waiting | Phase::Reading { .. }));
        (self.unfolded, self.editing, self.edit_lines, self.failed, self.stopped, waits)
    }
}

/// The markdown cache's names for a message's two texts.
fn text_id(id: MessageId, reasoning: bool) -> u64 {
    (id.0 as u64) << 1 | u64::from(reasoning)
}

/// How high `show` will draw it.
pub fn height(ui: &Ui, view: &mut View, message: &Message, chrome: &Chrome, width: f32) -> f32 {
    let palette = theme::palette(ui);
    let chips = if message.attachments.is_empty() { 0.0 } else { CHIPS };
    if chrome.editing {
        let text = view.editing.as_ref().map_or("", |(_, text)| text);
        return chips + edit_height(ui, text, width) + ACTIONS;
    }
    if message.role != Role::Assistant {
        return chips + bubble(ui, &message.content, width).1.height() + ACTIONS;
    }
    let mut height = 0.0;
    if !message.reasoning.is_empty() || chrome.phase == Some(Phase::Reasoning) {
        height += THINKING;
        if chrome.unfolded {
            let document =
                view.markdown.document(ui.ctx(), text_id(message.id, true), &message.reasoning, width - THOUGHT_INDENT, palette, true);
            height += document.height + theme::SMALL;
        }
        height += theme::TINY;
    }
    height += view.markdown.document(ui.ctx(), text_id(message.id, false), &message.content, width, palette, false).height;
    if matches!(chrome.phase, Some(Phase::Waiting | Phase::Reading { .. })) {
        height += PROGRESS;
    }
    if let MessageState::Failed(reason) = &message.state {
        height += failure(ui, reason, width).size().y + theme::SMALL * 3.0 + theme::TINY;
    }
    height + ACTIONS + theme::TINY
}

/// The bubble's text, and its rectangle from the column's left upper corner.
fn bubble(ui: &Ui, text: &str, width: f32) -> (std::sync::Arc<egui::Galley>, Rect) {
    let palette = theme::palette(ui);
    let inner = width * BUBBLE_SHARE - BUBBLE_PADDING.x * 2.0;
    let format =
        TextFormat { font_id: theme::text(), color: palette.text, line_height: Some(theme::LINE_HEIGHT - 1.0), ..TextFormat::default() };
    let mut job = LayoutJob::single_section(text.to_owned(), format);
    job.wrap.max_width = inner;
    let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
    let size = galley.size() + BUBBLE_PADDING * 2.0;
    let rect = Rect::from_min_size(pos2(width - size.x, 0.0), size);
    (galley, rect)
}

fn edit_height(ui: &Ui, text: &str, width: f32) -> f32 {
    let lines = {
        let mut job = LayoutJob::simple(text.to_owned(), theme::text(), Color32::WHITE, width - BUBBLE_PADDING.x * 2.0 - 4.0);
        job.wrap.max_width = width - BUBBLE_PADDING.x * 2.0 - 4.0;
        ui.fonts_mut(|fonts| fonts.layout_job(job)).size().y
    };
    lines.max(40.0) + BUBBLE_PADDING.y * 2.0 + theme::SMALL
}

fn failure(ui: &Ui, reason: &str, width: f32) -> std::sync::Arc<egui::Galley> {
    let palette = theme::palette(ui);
    ui.fonts_mut(|fonts| fonts.layout(reason.to_owned(), theme::small(), palette.danger, width - 52.0))
}

pub fn show(ui: &mut Ui, app: &App, view: &mut View, message: &Message, chrome: &Chrome, width: f32) {
    ui.spacing_mut().item_spacing = vec2(theme::TINY, 0.0);
    let area = ui.max_rect();
    // The actions come out while the pointer or the keyboard is at this message.
    let at = ui.rect_contains_pointer(area.expand2(vec2(theme::HUGE, 6.0)));
    if !message.attachments.is_empty() {
        chips(ui, message);
    }
    if chrome.editing {
        edit(ui, view, message, width);
        return;
    }
    if message.role == Role::Assistant {
        answer(ui, app, view, message, chrome, width);
    } else {
        question(ui, message, width);
    }
    actions(ui, app, view, message, chrome, at);
}

fn chips(ui: &mut Ui, message: &Message) {
    let palette = theme::palette(ui);
    ui.allocate_ui_with_layout(vec2(ui.available_width(), CHIPS), Layout::right_to_left(Align::Center), |ui| {
        for file in &message.attachments {
            let text = format!("{}  {}", icons::FILE, file.name);
            widgets::chip(ui, &text, palette.text_weak, palette.raised).on_hover_text(widgets::bytes(file.text.len() as u64));
        }
    });
}

fn question(ui: &mut Ui, message: &Message, width: f32) {
    let palette = theme::palette(ui);
    let (galley, rect) = bubble(ui, &message.content, width);
    let (area, _) = ui.allocate_exact_size(vec2(width, rect.height()), Sense::hover());
    let rect = rect.translate(area.min.to_vec2());
    let radius = theme::RADIUS_LARGE;
    let corners = egui::CornerRadius { nw: radius, ne: radius, sw: radius, se: theme::RADIUS_SMALL };
    ui.painter().rect_filled(rect, corners, palette.raised);
    let at = rect.min + BUBBLE_PADDING;
    let response = ui.allocate_rect(Rect::from_min_size(at, galley.size()), Sense::click_and_drag() - Sense::FOCUSABLE);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Label, true, galley.text()));
    egui::text_selection::LabelSelectionState::label_text_selection(ui, &response, at, galley, palette.text, Stroke::NONE);
    ui.advance_cursor_after_rect(area);
}

fn answer(ui: &mut Ui, app: &App, view: &mut View, message: &Message, chrome: &Chrome, width: f32) {
    let palette = theme::palette(ui);
    let words = CodeTexts { copy: view.texts.copy_code, copied: view.texts.copied };
    if !message.reasoning.is_empty() || chrome.phase == Some(Phase::Reasoning) {
        thoughts(ui, app, view, message, chrome, width, words);
    }
    let document = view.markdown.document(ui.ctx(), text_id(message.id, false), &message.content, width, palette, false);
    let touched = show_markdown(ui, &document, words);
    if app.settings.inside
        && let Some(byte) = touched.hovered
    {
        inside::hover(ui, app, view, message, byte);
    }
    match chrome.phase {
        Some(Phase::Waiting) => progress(ui, if app.opening.is_some() { view.texts.waiting_for_model } else { view.texts.waiting }, None),
        Some(Phase::Reading { done, total }) => {
            let text = view.texts.reading_prompt.fill(&[&widgets::count(done), &widgets::count(total)]);
            progress(ui, &text, Some(done as f32 / total.max(1) as f32));
        }
        Some(Phase::Reasoning | Phase::Writing) | None => {}
    }
    if let MessageState::Failed(reason) = &message.state {
        ui.add_space(theme::TINY);
        let galley = failure(ui, reason, width);
        let (rect, response) = ui.allocate_exact_size(vec2(width, galley.size().y + theme::SMALL * 3.0), Sense::hover());
        response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Alert, true, reason));
        ui.painter().rect_filled(rect, theme::RADIUS, palette.danger_soft);
        widgets::icon_at(ui, pos2(rect.left() + 20.0, rect.top() + 21.0), icons::ERROR, theme::ICON, palette.danger);
        ui.painter().galley(rect.min + vec2(40.0, theme::SMALL * 1.5), galley, palette.danger);
    }
}

/// What the model thinks before it answers.
fn thoughts(ui: &mut Ui, app: &App, view: &mut View, message: &Message, chrome: &Chrome, width: f32, words: CodeTexts) {
    let palette = theme::palette(ui);
    let live = chrome.phase == Some(Phase::Reasoning);
    let secs = message.reasoning_ms.map(|ms| ms as f64 / 1000.0);
    let text = match (live, secs) {
        (true, _) => view.texts.thinking.fill(&[&widgets::duration(view.texts, (chrome.thinking_ms / 1000) as f64)]),
        (false, Some(secs)) => view.texts.thought_for.fill(&[&widgets::duration(view.texts, secs)]),
        (false, None) => view.texts.thoughts.to_owned(),
    };
    let icon = if chrome.unfolded { icons::EXPANDED } else { icons::RIGHT };
    let galley = ui.fonts_mut(|fonts| fonts.layout_no_wrap(text.clone(), theme::small(), Color32::PLACEHOLDER));
    let (row, _) = ui.allocate_exact_size(vec2(width, THINKING), Sense::hover());
    let rect = Rect::from_min_size(row.min + vec2(-6.0, 2.0), vec2(galley.size().x + 58.0, 26.0));
    let response = ui.interact(rect, ui.scope_id().with("thoughts"), Sense::click());
    response.widget_info(|| {
        let mut info = egui::WidgetInfo::labeled(egui::accesskit::Role::DisclosureTriangle, true, &text);
        info.selected = Some(chrome.unfolded);
        info
    });
    let lit = response.hovered() || response.has_focus();
    let colour = if lit { palette.text } else { palette.text_weak };
    if lit {
        let stroke = if response.has_focus() { Stroke::new(1.5, palette.accent) } else { Stroke::NONE };
        ui.painter().rect(rect, theme::RADIUS_SMALL, palette.hover.gamma_multiply(0.6), stroke, StrokeKind::Inside);
    }
    let brain = if live { palette.accent } else { colour };
    widgets::icon_at(ui, rect.left_center() + vec2(14.0, 0.0), icons::THINKING, 14.0, brain);
    ui.painter().galley(rect.left_center() + vec2(27.0, -galley.size().y / 2.0), galley.clone(), colour);
    widgets::icon_at(ui, rect.left_center() + vec2(39.0 + galley.size().x, 0.0), icon, 14.0, palette.text_faint);
    if response.clicked() {
        view.commands.push(Command::ShowReasoning(!app.chat().head.shows_reasoning));
    }
    if chrome.unfolded {
        let document =
            view.markdown.document(ui.ctx(), text_id(message.id, true), &message.reasoning, width - THOUGHT_INDENT, palette, true);
        let (rect, _) = ui.allocate_exact_size(vec2(width, document.height + theme::SMALL), Sense::hover());
        let bar = Rect::from_min_size(rect.min, vec2(2.0, document.height));
        ui.painter().rect_filled(bar, 1.0, palette.border);
        let place = Rect::from_min_max(rect.min + vec2(THOUGHT_INDENT, 0.0), rect.max);
        ui.scope_builder(UiBuilder::new().id_salt("thoughts' text").max_rect(place), |ui| show_markdown(ui, &document, words));
        ui.advance_cursor_after_rect(rect);
    }
    ui.add_space(theme::TINY);
}

fn progress(ui: &mut Ui, text: &str, share: Option<f32>) {
    let palette = theme::palette(ui);
    ui.allocate_ui_with_layout(vec2(ui.available_width(), PROGRESS), Layout::left_to_right(Align::Center), |ui| {
        ui.label(RichText::new(text).color(palette.text_weak));
        if let Some(share) = share {
            ui.add_space(theme::SMALL);
            widgets::bar(ui, 140.0, share, palette.accent, text);
        }
    });
}

fn edit(ui: &mut Ui, view: &mut View, message: &Message, width: f32) {
    let palette = theme::palette(ui);
    let texts = view.texts;
    let Some((_, text)) = &mut view.editing else { return };
    let frame = egui::Frame::new()
        .fill(palette.raised)
        .stroke(Stroke::new(1.5, palette.accent))
        .corner_radius(theme::RADIUS_LARGE)
        .inner_margin(egui::Margin::symmetric(BUBBLE_PADDING.x as i8, BUBBLE_PADDING.y as i8));
    let id = ui.scope_id().with("edit");
    let response = frame
        .show(ui, |ui| {
            let field = TextEdit::multiline(text).id(id).font(theme::text()).frame(egui::Frame::NONE).desired_rows(2);
            ui.add(field.desired_width(width - BUBBLE_PADDING.x * 2.0 - 4.0).return_key(keys::NEW_LINE))
        })
        .inner;
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::MultilineTextInput, true, texts.edit_message));
    if std::mem::take(&mut view.focus_edit) {
        response.request_focus();
    }
    let (mut save, mut cancel) = (false, false);
    if response.has_focus() {
        save = keys::entered(ui.ctx());
        cancel = keys::pressed(ui.ctx(), &keys::STOP);
    }
    ui.add_space(theme::SMALL);
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        save |= widgets::primary_button(ui, if message.role == Role::User { texts.send } else { texts.save }).clicked();
        cancel |= widgets::plain_button(ui, texts.cancel).clicked();
    });
    if save && let Some((id, text)) = view.editing.take() {
        view.commands.push(Command::Edit(id, text));
        view.transcript.follow();
    } else if cancel {
        view.editing = None;
    }
}

fn actions(ui: &mut Ui, app: &App, view: &mut View, message: &Message, chrome: &Chrome, at: bool) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let mine = message.role == Role::User;
    let focus_id = ui.scope_id().with("focus");
    let focused: bool = ui.data(|data| data.get_temp(focus_id)).unwrap_or(false);
    let shown = at || focused || (chrome.last && !mine && chrome.phase.is_none());
    let layout = if mine { Layout::right_to_left(Align::Center) } else { Layout::left_to_right(Align::Center) };
    let mut has_focus = false;
    // The icons stand below the text, not the buttons around them.
    let inset = if mine { 0.0 } else { -6.0 };
    ui.allocate_ui_with_layout(vec2(ui.available_width(), ACTIONS), layout, |ui| {
        ui.add_space(inset);
        if chrome.branch.1 > 1 {
            has_focus |= branches(ui, view, message, chrome, mine);
        }
        ui.scope(|ui| {
            if !shown {
                ui.multiply_opacity(0.0);
            }
            let small = Look { small: true, ..Look::default() };
            let mut button = |ui: &mut Ui, icon: &str, name: &str| {
                let response = widgets::icon_button_of(ui, icon, name, small);
                has_focus |= response.has_focus();
                response.clicked()
            };
            if chrome.phase.is_some() {
                return;
            }
            let name = if mine { texts.copy_question } else { texts.copy_answer };
            let copied_id = ui.scope_id().with("copied");
            let now = ui.input(|input| input.time);
            let copied = ui.data(|data| data.get_temp::<f64>(copied_id)).is_some_and(|then| now - then < 1.5);
            if button(ui, if copied { icons::CHECK } else { icons::COPY }, name) {
                ui.copy_text(message.content.clone());
                ui.data_mut(|data| data.insert_temp(copied_id, now));
                ui.ctx().request_repaint_after_secs(1.6);
            }
            if !mine && button(ui, icons::REGENERATE, texts.regenerate) {
                view.commands.push(Command::Regenerate(message.id));
                view.transcript.follow();
            }
            if !mine && (chrome.stopped || chrome.failed) && button(ui, icons::CONTINUE, texts.go_on) {
                view.commands.push(Command::Continue(message.id));
                view.transcript.follow();
            }
            if button(ui, icons::EDIT, texts.edit_message) {
                view.edit(message);
            }
            if button(ui, icons::DELETE, texts.delete_message) {
                view.commands.push(Command::DeleteMessage(message.id));
            }
            if !mine
                && let Some(stats) = &message.stats
                && at
            {
                ui.add_space(theme::SMALL);
                let speed = super::meters::tokens_per_sec(stats);
                let text = texts.answer_stats.fill(&[
                    &widgets::count(stats.new_tokens),
                    &format!("{speed:.1}"),
                    &widgets::duration(texts, stats.first_token_secs),
                ]);
                let label = ui.label(RichText::new(text).font(theme::tiny()).color(palette.text_faint));
                if let Some(sampling) = &message.sampling {
                    label.on_hover_text(super::meters::made_by(texts, message.model.as_deref(), sampling));
                }
            }
        });
    });
    ui.data_mut(|data| data.insert_temp(focus_id, has_focus));
    let _ = app;
}

/// ‹ 1/3 ›
fn branches(ui: &mut Ui, view: &mut View, message: &Message, chrome: &Chrome, mine: bool) -> bool {
    let palette = theme::palette(ui);
    let (place, count) = chrome.branch;
    let small = |disabled| Look { small: true, disabled, ..Look::default() };
    let mut focused = false;
    let texts = view.texts;
    let mut step = |ui: &mut Ui, icon: &str, name: &str, by: isize, disabled: bool| {
        let response = widgets::icon_button_of(ui, icon, name, small(disabled));
        focused |= response.has_focus();
        if response.clicked() {
            view.commands.push(Command::StepBranch(message.id, by));
        }
    };
    ui.spacing_mut().item_spacing.x = 0.0;
    let text = RichText::new(format!("{}/{count}", place + 1)).font(theme::tiny()).color(palette.text_weak);
    // In a row from right to left the next one comes first.
    if mine {
        step(ui, icons::RIGHT, texts.next_branch, 1, place + 1 == count);
        ui.label(text);
        step(ui, icons::LEFT, texts.previous_branch, -1, place == 0);
    } else {
        step(ui, icons::LEFT, texts.previous_branch, -1, place == 0);
        ui.label(text);
        step(ui, icons::RIGHT, texts.next_branch, 1, place + 1 == count);
    }
    ui.spacing_mut().item_spacing.x = theme::TINY;
    focused
}
