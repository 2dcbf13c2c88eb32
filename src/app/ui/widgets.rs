//! Small controls that every screen uses, each with its name for screen readers and its shortcut in the tooltip.

use eframe::egui;
use egui::{Align2, Button, Color32, FontId, Response, RichText, Sense, Stroke, Ui, Vec2, vec2};

use super::{icons, keys};
use crate::app::i18n::Texts;
use crate::app::theme;

/// A quiet button of one icon; `name` is its tooltip and its name for screen readers.
pub fn icon_button(ui: &mut Ui, icon: &str, name: &str) -> Response {
    icon_button_of(ui, icon, name, Look::default())
}

#[derive(Clone, Copy, Default)]
pub struct Look {
    /// Drawn as switched on.
    pub on: bool,
    pub small: bool,
    pub disabled: bool,
    pub colour: Option<Color32>,
    /// Shown in the tooltip.
    pub shortcut: Option<egui::KeyboardShortcut>,
}

impl Look {
    pub fn key(shortcut: egui::KeyboardShortcut) -> Self {
        Self { shortcut: Some(shortcut), ..Self::default() }
    }
}

pub fn icon_button_of(ui: &mut Ui, icon: &str, name: &str, look: Look) -> Response {
    let palette = theme::palette(ui);
    let side = if look.small { 26.0 } else { theme::CONTROL_HEIGHT };
    let enabled = ui.is_enabled() && !look.disabled;
    let sense = if enabled { Sense::click() } else { Sense::hover() };
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(side), sense);
    response.widget_info(|| {
        let mut info = egui::WidgetInfo::labeled(egui::accesskit::Role::Button, enabled, name);
        info.selected = look.on.then_some(true);
        info
    });
    if ui.is_rect_visible(rect) {
        let lit = enabled && (response.hovered() || response.has_focus());
        let fill = if look.on {
            palette.accent_soft
        } else if lit {
            palette.hover
        } else {
            Color32::TRANSPARENT
        };
        let stroke = if response.has_focus() { Stroke::new(1.5, palette.accent) } else { Stroke::NONE };
        ui.painter().rect(rect, theme::RADIUS_SMALL, fill, stroke, egui::StrokeKind::Inside);
        let colour = match look.colour {
            _ if !enabled => palette.text_faint.gamma_multiply(0.6),
            Some(colour) => colour,
            None if look.on => palette.accent,
            None if lit => palette.text,
            None => palette.text_weak,
        };
        let size = if look.small { theme::ICON - 2.0 } else { theme::ICON };
        icon_at(ui, rect.center(), icon, size, colour);
    }
    match &look.shortcut {
        Some(shortcut) => response.on_hover_text(keys::named(ui.ctx(), name, shortcut)),
        None => response.on_hover_text(name),
    }
}

/// Draws an icon around a point.
pub fn icon_at(ui: &Ui, centre: egui::Pos2, icon: &str, size: f32, colour: Color32) {
    ui.painter().text(centre, Align2::CENTER_CENTER, icon, FontId::proportional(size), colour);
}

/// The one button of a place that does what the place is for.
pub fn primary_button(ui: &mut Ui, text: &str) -> Response {
    let palette = theme::palette(ui);
    let shown = RichText::new(text).font(theme::strong(theme::TEXT_SMALL)).color(palette.on_accent);
    named(ui.add(Button::new(shown).fill(palette.accent).corner_radius(theme::RADIUS)), text)
}

/// A button beside the primary one.
pub fn plain_button(ui: &mut Ui, text: &str) -> Response {
    let palette = theme::palette(ui);
    let button = Button::new(RichText::new(text).color(palette.text)).stroke(Stroke::new(1.0, palette.border));
    named(ui.add(button.corner_radius(theme::RADIUS)), text)
}

/// A button that is only text until the pointer is over it.
pub fn text_button(ui: &mut Ui, text: &str) -> Response {
    let palette = theme::palette(ui);
    let button = Button::new(RichText::new(text).color(palette.text_weak)).frame_when_inactive(false);
    named(ui.add(button.corner_radius(theme::RADIUS_SMALL)), text)
}

/// Names a button for screen readers by its words, without the icon before them.
fn named(response: Response, text: &str) -> Response {
    let is_icon = |c: char| ('\u{e000}'..='\u{f8ff}').contains(&c) || c == ' ';
    let name = text.trim_start_matches(is_icon);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, response.enabled(), name));
    response
}

/// Copies when it is clicked and says so for a while.
pub fn copy_button(ui: &mut Ui, copy: &str, copied: &str, text: impl FnOnce() -> String) {
    let id = ui.next_auto_id();
    let now = ui.input(|input| input.time);
    let done_at: Option<f64> = ui.data(|data| data.get_temp(id));
    let just = done_at.is_some_and(|at| now - at < 1.5);
    let palette = theme::palette(ui);
    let (icon, name) = if just { (icons::CHECK, copied) } else { (icons::COPY, copy) };
    let colour = just.then_some(palette.accent);
    if icon_button_of(ui, icon, name, Look { small: true, colour, ..Look::default() }).clicked() {
        ui.copy_text(text());
        ui.data_mut(|data| data.insert_temp(id, now));
        ui.ctx().request_repaint_after_secs(1.6);
    }
}

/// A line of weak text above a group of settings or rows.
pub fn caption(ui: &mut Ui, text: &str) {
    let palette = theme::palette(ui);
    ui.label(RichText::new(text).font(theme::strong(theme::TEXT_TINY)).color(palette.text_faint));
}

pub fn weak(ui: &mut Ui, text: impl Into<String>) -> Response {
    let palette = theme::palette(ui);
    ui.label(RichText::new(text).color(palette.text_weak))
}

/// A small rounded label.
pub fn chip(ui: &mut Ui, text: &str, colour: Color32, fill: Color32) -> Response {
    let galley = ui.fonts_mut(|fonts| fonts.layout_no_wrap(text.to_owned(), theme::tiny(), colour));
    let (rect, response) = ui.allocate_exact_size(galley.size() + vec2(16.0, 8.0), Sense::hover());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Label, true, text));
    ui.painter().rect_filled(rect, theme::RADIUS_SMALL, fill);
    ui.painter().galley(rect.center() - galley.size() / 2.0, galley, colour);
    response
}

/// A thin bar, filled to `share`.
pub fn bar(ui: &mut Ui, width: f32, share: f32, colour: Color32, name: &str) -> Response {
    let palette = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(width, 4.0), Sense::hover());
    response.widget_info(|| {
        let mut info = egui::WidgetInfo::labeled(egui::accesskit::Role::ProgressIndicator, true, name);
        info.value = Some(f64::from(share));
        info
    });
    ui.painter().rect_filled(rect, 2.0, palette.border);
    let mut filled = rect;
    filled.set_width(rect.width() * share.clamp(0.0, 1.0));
    ui.painter().rect_filled(filled, 2.0, colour);
    response
}

/// Bytes as people say them.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A count with commas between its thousands.
pub fn count(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time that somebody waited.
pub fn duration(texts: &Texts, secs: f64) -> String {
    let secs = secs.max(0.0);
    match secs {
        ..10.0 if secs.fract() == 0.0 => texts.seconds.fill(&[&format!("{secs:.0}")]),
        ..10.0 => texts.seconds.fill(&[&format!("{secs:.digits$}", digits = if secs < 1.0 { 2 } else { 1 })]),
        ..60.0 => texts.seconds.fill(&[&format!("{secs:.0}")]),
        _ => texts.minutes.fill(&[&format!("{:.0}", (secs / 60.0).floor()), &format!("{:.0}", (secs % 60.0).floor())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        for (value, expected) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (98_362_432, "93.8 MiB"), (u64::MAX, "16777216 TiB")] {
            assert_eq!(bytes(value), expected);
        }
    }

    #[test]
    fn counts_and_times_read_well() {
        for (value, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(value), expected);
        }
        let english = &crate::app::i18n::ENGLISH;
        for (secs, expected) in [(0.417, "0.42 s"), (4.25, "4.2 s"), (4.0, "4 s"), (12.4, "12 s"), (125.9, "2 min 5 s"), (-1.0, "0 s")] {
            assert_eq!(duration(english, secs), expected);
        }
    }
}
