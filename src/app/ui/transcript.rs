//! The messages of a chat, of which only the visible ones are laid out: heights of the others are remembered or estimated, and
//! the view stands still while estimates become measures.

use std::collections::HashMap;

use eframe::egui;
use egui::scroll_area::ScrollSource;
use egui::{Rect, ScrollArea, Ui, UiBuilder, pos2, vec2};

use super::message::{self, Chrome};
use super::{View, icons, widgets};
use crate::app::{App, ChatId, Message, MessageId, theme};

/// Space between messages.
const GAP: f32 = 8.0;
/// A line of text that was never laid out holds about so many bytes.
const LINE_BYTES: usize = 85;

#[derive(Default)]
pub struct Transcript {
    chat: Option<ChatId>,
    heights: HashMap<MessageId, Measured>,
    /// Where the view stood in the last frame.
    offset: f32,
    /// The newest line is in view, and stays there while an answer grows.
    at_end: bool,
}

#[derive(Clone, Copy, PartialEq)]
struct Measured {
    fingerprint: u64,
    height: f32,
}

impl Transcript {
    /// Goes to the newest line.
    pub fn follow(&mut self) {
        self.at_end = true;
    }
}

/// What a message's height depends on, without reading its text.
fn fingerprint(message: &Message, chrome: &Chrome, width: f32, scale: f32) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (message.content.len(), message.reasoning.len(), message.is_streaming(), message.attachments.len(), message.updated_ms)
        .hash(&mut hasher);
    (chrome.key(), width.to_bits(), scale.to_bits()).hash(&mut hasher);
    hasher.finish()
}

/// What a message that was never laid out may be as high as.
fn estimate(message: &Message) -> f32 {
    let lines = message.content.len() / LINE_BYTES + message.content.bytes().filter(|byte| *byte == b'\n').count() / 2 + 1;
    lines as f32 * theme::LINE_HEIGHT + 64.0
}

/// Shows the current chat.
pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let width = (ui.available_width() - theme::HUGE * 2.0).clamp(200.0, theme::COLUMN_WIDTH);
    let height = ui.available_height();
    if view.transcript.chat != Some(app.chat().id()) {
        view.transcript = Transcript { chat: Some(app.chat().id()), at_end: true, ..Transcript::default() };
    }
    let count = app.chat().path_len();
    let chromes: Vec<Chrome> = (0..count).filter_map(|at| Some(Chrome::of(app, view, app.chat().path_message(at)?))).collect();
    let (tops, shift) = measure(ui, app, view, &chromes, width, height);
    let total = tops.last().copied().unwrap_or(0.0) + theme::LARGE;
    let mut area = ScrollArea::vertical().id_salt(("transcript", app.chat().id())).auto_shrink(false).stick_to_bottom(true);
    // A drag selects text.
    area = area.scroll_source(ScrollSource { drag: egui::scroll_area::DragScroll::Never, ..ScrollSource::ALL });
    if let Some(target) = reveal(app, view, &tops) {
        area = area.vertical_scroll_offset(target);
        view.transcript.at_end = false;
    } else if view.transcript.at_end {
        area = area.vertical_scroll_offset((total - height).max(0.0));
    } else if shift != 0.0 {
        area = area.vertical_scroll_offset((view.transcript.offset + shift).max(0.0));
    }
    let output = area.show_viewport(ui, |ui, viewport| {
        let full = ui.available_width();
        let (all, _) = ui.allocate_exact_size(vec2(full, total), egui::Sense::hover());
        let left = all.left() + ((full - width) / 2.0).floor().max(0.0);
        let first = tops.partition_point(|top| *top < viewport.min.y).saturating_sub(1);
        for at in first..count {
            let top = tops[at];
            if top > viewport.max.y {
                break;
            }
            let Some((message, chrome)) = app.chat().path_message(at).zip(chromes.get(at)) else { continue };
            let rect = Rect::from_min_max(pos2(left, all.top() + top), pos2(left + width, all.top() + tops[at + 1] - GAP));
            let builder = UiBuilder::new().id_salt(("message", message.id)).max_rect(rect);
            ui.scope_builder(builder, |ui| message::show(ui, app, view, message, chrome, width));
        }
    });
    view.transcript.offset = output.state.clamped_offset().y;
    let end = output.content_size.y - output.inner_rect.height();
    view.transcript.at_end = view.transcript.offset >= end - 2.0;
    if !view.transcript.at_end && end > 0.0 {
        to_end_button(ui, output.inner_rect, view);
    }
}

/// The tops of all messages, and one past the last; measures those that are in view or near, and gives how far what is in view
/// moved by that.
fn measure(ui: &mut Ui, app: &App, view: &mut View, chromes: &[Chrome], width: f32, height: f32) -> (Vec<f32>, f32) {
    let chat = app.chat();
    let scale = ui.pixels_per_point();
    let mut tops = Vec::with_capacity(chromes.len() + 1);
    let heights: Vec<f32> = chat
        .path()
        .map(|message| view.transcript.heights.get(&message.id).map_or_else(|| estimate(message), |measured| measured.height))
        .collect();
    let total: f32 = heights.iter().map(|height| height + GAP).sum::<f32>() + theme::LARGE;
    let offset = if view.transcript.at_end { (total - height).max(0.0) } else { view.transcript.offset };
    let mut heights = heights;
    let mut shift = 0.0;
    // From the end when the end is in view, so that what is seen is measured first.
    let mut y = theme::LARGE;
    let mut places: Vec<f32> = vec![];
    for height in &heights {
        places.push(y);
        y += height + GAP;
    }
    let near = |top: f32, bottom: f32| bottom > offset - height && top < offset + height * 2.0;
    for (at, (message, chrome)) in chat.path().zip(chromes).enumerate() {
        let (top, old) = (places[at], heights[at]);
        if !near(top, top + old) {
            continue;
        }
        let fingerprint = fingerprint(message, chrome, width, scale);
        if view.transcript.heights.get(&message.id).is_some_and(|measured| measured.fingerprint == fingerprint) {
            continue;
        }
        let new = message::height(ui, view, message, chrome, width);
        view.transcript.heights.insert(message.id, Measured { fingerprint, height: new });
        heights[at] = new;
        if top + old <= offset {
            shift += new - old;
        }
    }
    let mut y = theme::LARGE;
    for height in &heights {
        tops.push(y);
        y += height + GAP;
    }
    tops.push(y);
    (tops, shift)
}

/// Where to scroll to when a message is to be shown.
fn reveal(app: &App, view: &mut View, tops: &[f32]) -> Option<f32> {
    let wanted = app.reveal?;
    if view.revealed == Some(wanted) {
        return None;
    }
    let at = app.chat().path().position(|message| message.id == wanted)?;
    view.revealed = Some(wanted);
    Some((tops[at] - theme::HUGE).max(0.0))
}

fn to_end_button(ui: &mut Ui, rect: Rect, view: &mut View) {
    let palette = theme::palette(ui);
    let place = Rect::from_center_size(pos2(rect.center().x, rect.bottom() - 24.0), vec2(34.0, 34.0));
    let mut child = ui.new_child(UiBuilder::new().id_salt("to the end").max_rect(place));
    child.painter().circle(place.center(), 16.0, palette.floating, egui::Stroke::new(1.0, palette.border));
    let inner = place.shrink(2.0);
    let mut button = child.new_child(UiBuilder::new().max_rect(inner));
    if widgets::icon_button(&mut button, icons::DOWN, view.texts.to_the_end).clicked() {
        view.transcript.follow();
        ui.ctx().request_repaint();
    }
}
