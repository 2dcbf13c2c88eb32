//! Draws a document's visible blocks, and keeps what was laid out: a block is laid out again only when its own text, the width
//! or the palette changes, so that a growing answer costs its last block.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use eframe::egui;
use egui::text_selection::LabelSelectionState;
use egui::{
    Align, Align2, CornerRadius, CursorIcon, Pos2, Rect, Response, ScrollArea, Sense, Stroke, StrokeKind, Ui, UiBuilder, Vec2, pos2, vec2,
};

use super::formula::Formulas;
use super::layout::{CODE_HEADER, CODE_PADDING, CODE_SPACE, Chunk, Laid, LaidText, Look, Part, Setter, Table, baseline, gap};
use super::parse::{Normalized, normalized, parse};
use crate::app::theme::{self, Palette};
use crate::app::ui::{icons, widgets};

/// A text laid out at a width.
pub struct Document {
    key: Key,
    normalized: Normalized,
    blocks: Vec<Placed>,
    pub height: f32,
}

struct Placed {
    top: f32,
    /// The byte of the normalized text where the block begins.
    source: usize,
    laid: Arc<Laid>,
}

/// What a document's looks depend on.
#[derive(Clone, Copy, PartialEq)]
struct Key {
    text: u64,
    width: f32,
    dark: bool,
    weak: bool,
    pixels_per_point: f32,
}

#[derive(Default)]
pub struct MarkdownCache {
    documents: HashMap<u64, (Arc<Document>, u64)>,
    blocks: HashMap<u64, (Arc<Laid>, u64)>,
    formulas: Formulas,
    frame: u64,
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl MarkdownCache {
    /// Forgets what was not drawn for a while. Called once a frame.
    pub fn begin_frame(&mut self) {
        self.frame += 1;
        let frame = self.frame;
        if frame.is_multiple_of(64) {
            self.documents.retain(|_, (_, used)| frame - *used < 600);
            self.blocks.retain(|_, (_, used)| frame - *used < 600);
        }
    }

    /// The document of `text`; `id` stays the same while a text grows. Weak text is for thoughts.
    pub fn document(
        &mut self,
        ctx: &egui::Context,
        id: u64,
        text: &str,
        width: f32,
        palette: &'static Palette,
        weak: bool,
    ) -> Arc<Document> {
        let width = width.round();
        let key = Key { text: hash(text), width, dark: palette.dark, weak, pixels_per_point: ctx.pixels_per_point() };
        let frame = self.frame;
        if let Some((document, used)) = self.documents.get_mut(&id)
            && document.key == key
        {
            *used = frame;
            return document.clone();
        }
        let normalized = normalized(text);
        let sources = parse(&normalized.text);
        let look = if weak {
            Look { size: theme::TEXT_SMALL + 0.5, line_height: theme::LINE_HEIGHT - 3.0, colour: palette.text_weak, strong: false }
        } else {
            Look { size: theme::TEXT, line_height: theme::LINE_HEIGHT, colour: palette.text, strong: false }
        };
        let mut blocks = Vec::with_capacity(sources.len());
        let mut y = 0.0;
        for (index, source) in sources.iter().enumerate() {
            if index > 0 {
                y += gap(&sources[index - 1].block, &source.block);
            }
            // Places inside a block count from the text's beginning, so that its own place matters too.
            let block_key = hash((
                &normalized.text[source.range.clone()],
                source.range.start,
                width.to_bits(),
                palette.dark,
                weak,
                key.pixels_per_point.to_bits(),
            ));
            let (laid, used) = self.blocks.entry(block_key).or_insert_with(|| {
                let mut setter = Setter { ctx, palette, formulas: &mut self.formulas, parts: vec![] };
                let height = setter.block(&source.block, 0.0, 0.0, width, look);
                (Arc::new(Laid { height, parts: setter.parts }), frame)
            });
            *used = frame;
            blocks.push(Placed { top: y, source: source.range.start, laid: laid.clone() });
            y += laid.height;
        }
        let document = Arc::new(Document { key, normalized, blocks, height: y });
        self.documents.insert(id, (document.clone(), frame));
        document
    }
}

/// What the pointer did to a document.
#[derive(Default)]
pub struct Touched {
    /// The byte of the text under the pointer.
    pub hovered: Option<usize>,
}

/// Draws the document; `copied` is the label for what was just copied, `copy` that of the button.
pub fn show(ui: &mut Ui, document: &Document, texts: CodeTexts) -> Touched {
    let palette = theme::palette(ui);
    let (rect, _) = ui.allocate_exact_size(vec2(document.key.width, document.height), Sense::hover());
    let visible = ui.clip_rect();
    let mut touched = Touched::default();
    for (index, block) in document.blocks.iter().enumerate() {
        let origin = rect.min + vec2(0.0, block.top);
        if origin.y > visible.bottom() || origin.y + block.laid.height < visible.top() {
            continue;
        }
        let builder = UiBuilder::new().id_salt(index).max_rect(Rect::from_min_size(origin, vec2(document.key.width, block.laid.height)));
        ui.scope_builder(builder, |ui| {
            for (index, part) in block.laid.parts.iter().enumerate() {
                if let Some(at) = show_part(ui, part, index, origin, palette, &texts) {
                    touched.hovered = Some(document.normalized.original(at));
                }
            }
            let _ = block.source;
        });
    }
    touched
}

/// The words on a code block's button.
#[derive(Clone, Copy)]
pub struct CodeTexts {
    pub copy: &'static str,
    pub copied: &'static str,
}

fn show_part(ui: &mut Ui, part: &Part, index: usize, origin: Pos2, palette: &Palette, texts: &CodeTexts) -> Option<usize> {
    let offset = origin.to_vec2();
    match part {
        Part::Text { at, text } => show_text(ui, text, *at + offset, palette),
        Part::Formula { rect, formula, em } => {
            let rect = rect.translate(offset);
            let size = formula.size(*em);
            scrolling(ui, index, rect, vec2(size.x, rect.height()), |ui, min| {
                let x = min.x + ((rect.width() - size.x) / 2.0).max(0.0);
                let y = min.y + theme::SMALL + formula.ascent * em;
                formula.paint(ui, pos2(x, y), *em, palette.text);
                None
            })
        }
        Part::Code { rect, language, text, chunks, width } => {
            show_code(ui, index, rect.translate(offset), (language, text), chunks, *width, palette, texts)
        }
        Part::Table { rect, table } => {
            let rect = rect.translate(offset);
            scrolling(ui, index, rect, table.size, |ui, min| show_table(ui, table, min, palette))
        }
        Part::Rule { rect } => {
            ui.painter().rect_filled(rect.translate(offset), 0.0, palette.border);
            None
        }
        Part::QuoteBar { rect } => {
            ui.painter().rect_filled(rect.translate(offset), 1.5, palette.border);
            None
        }
        Part::Bullet { centre, hollow } => {
            let centre = *centre + offset;
            if *hollow {
                ui.painter().circle_stroke(centre, 2.3, Stroke::new(1.1, palette.text_weak));
            } else {
                ui.painter().circle_filled(centre, 2.5, palette.text_weak);
            }
            None
        }
        Part::Check { rect, done } => {
            let rect = rect.translate(offset);
            let (fill, border) = if *done { (palette.accent, palette.accent) } else { (palette.page, palette.text_faint) };
            ui.painter().rect(rect, 4.0, fill, Stroke::new(1.2, border), StrokeKind::Inside);
            if *done {
                ui.painter().text(rect.center(), Align2::CENTER_CENTER, icons::CHECK, egui::FontId::proportional(11.0), palette.on_accent);
            }
            None
        }
    }
}

/// Content wider than `rect` scrolls sideways in it.
fn scrolling(ui: &mut Ui, salt: usize, rect: Rect, size: Vec2, content: impl FnOnce(&mut Ui, Pos2) -> Option<usize>) -> Option<usize> {
    if size.x <= rect.width() + 0.5 {
        return content(ui, rect.min);
    }
    let builder = UiBuilder::new().id_salt(("scrolling", salt)).max_rect(rect);
    ui.scope_builder(builder, |ui| {
        ScrollArea::horizontal()
            .id_salt(salt)
            .auto_shrink(false)
            .show(ui, |ui| {
                let (inner, _) = ui.allocate_exact_size(vec2(size.x, rect.height()), Sense::hover());
                content(ui, inner.min)
            })
            .inner
    })
    .inner
}

fn show_table(ui: &mut Ui, table: &Table, min: Pos2, palette: &Palette) -> Option<usize> {
    let rect = Rect::from_min_size(min, table.size);
    let head = table.lines.first().copied().unwrap_or(table.size.y);
    let corner = CornerRadius { nw: theme::RADIUS, ne: theme::RADIUS, sw: 0, se: 0 };
    ui.painter().rect_filled(Rect::from_min_size(min, vec2(table.size.x, head)), corner, palette.code);
    ui.painter().rect_stroke(rect, f32::from(theme::RADIUS), Stroke::new(1.0, palette.border), StrokeKind::Inside);
    for line in &table.lines {
        ui.painter().hline(rect.x_range(), min.y + line, Stroke::new(1.0, palette.border));
    }
    let mut hovered = None;
    for (at, text) in &table.cells {
        hovered = show_text(ui, text, *at + min.to_vec2(), palette).or(hovered);
    }
    hovered
}

#[expect(clippy::too_many_arguments, reason = "the fields of a code block and where it is drawn")]
fn show_code(
    ui: &mut Ui,
    salt: usize,
    rect: Rect,
    (language, text): (&str, &str),
    chunks: &[Chunk],
    width: f32,
    palette: &Palette,
    texts: &CodeTexts,
) -> Option<usize> {
    let radius = theme::RADIUS + 2;
    ui.painter().rect(rect, radius, palette.code, Stroke::new(1.0, palette.border), StrokeKind::Inside);
    let header = Rect::from_min_size(rect.min, vec2(rect.width(), CODE_HEADER));
    let name = pos2(header.left() + CODE_PADDING, header.center().y);
    ui.painter().text(name, Align2::LEFT_CENTER, language, theme::tiny(), palette.text_faint);
    let button = Rect::from_min_max(pos2(header.right() - 120.0, header.top() + 3.0), header.right_bottom() - vec2(5.0, 3.0));
    let builder = UiBuilder::new().id_salt(("copy", salt)).max_rect(button).layout(egui::Layout::right_to_left(Align::Center));
    ui.scope_builder(builder, |ui| widgets::copy_button(ui, texts.copy, texts.copied, || text.to_owned()));
    let inside = Rect::from_min_max(pos2(rect.left(), header.bottom()), rect.max);
    let content = vec2(width + CODE_PADDING * 2.0, inside.height());
    scrolling(ui, salt, inside, content, |ui, min| {
        let mut hovered = None;
        for chunk in chunks {
            let at = pos2(min.x + CODE_PADDING, rect.top() + chunk.top);
            if at.y <= ui.clip_rect().bottom() && at.y + chunk.height >= ui.clip_rect().top() {
                hovered = show_text(ui, &chunk.text, at, palette).or(hovered);
            }
        }
        hovered
    })
}

/// Draws text that can be selected and whose links can be clicked; gives the source's byte under the pointer.
fn show_text(ui: &mut Ui, text: &LaidText, at: Pos2, palette: &Palette) -> Option<usize> {
    let galley = ui.fonts_mut(|fonts| fonts.layout_job(text.job.clone()));
    let left = match text.job.halign {
        Align::LEFT => at.x,
        Align::Center => at.x - text.size.x / 2.0,
        Align::RIGHT => at.x - text.size.x,
    };
    let rect = Rect::from_min_size(pos2(left, at.y), text.size);
    if !ui.is_rect_visible(rect) {
        return None;
    }
    let response: Response = ui.allocate_rect(rect, Sense::click_and_drag() - Sense::FOCUSABLE);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Label, true, galley.text()));
    for range in &text.codes {
        for rect in rects_of(&galley, range.clone(), at) {
            let rect = Rect::from_center_size(rect.center(), vec2(rect.width() + CODE_SPACE * 2.0 - 1.0, text.em * 1.36));
            ui.painter().rect_filled(rect, 5.0, palette.raised);
        }
    }
    for (range, _) in &text.links {
        for rect in rects_of(&galley, range.clone(), at) {
            let y = rect.top() + baseline(rect.height(), text.em) + 2.5;
            ui.painter().hline(rect.x_range(), y, Stroke::new(1.0, palette.accent.gamma_multiply(0.6)));
        }
    }
    let pointer = response.hover_pos().map(|pointer| {
        let cursor = galley.cursor_from_pos(pointer - at);
        (pointer, cursor.index.0)
    });
    // The cursor stands before or after the character under the pointer.
    let under = pointer.and_then(|(pointer, index)| {
        let candidates = [index.saturating_sub(1), index];
        candidates.into_iter().find(|&index| rects_of(&galley, index..index + 1, at).any(|rect| rect.contains(pointer)))
    });
    LabelSelectionState::label_text_selection(ui, &response, at, galley.clone(), palette.text, Stroke::NONE);
    for (character, formula) in &text.formulas {
        if let Some((row, glyph)) = glyph_at(&galley, *character) {
            // Fonts of other scripts have other baselines: the formula stands on that of the text beside it.
            let is_text = |other: &&egui::epaint::text::Glyph| other.chr != '\u{a0}' && !other.chr.is_whitespace();
            let nearest =
                row.glyphs.iter().filter(is_text).min_by(|a, b| (a.pos.x - glyph.pos.x).abs().total_cmp(&(b.pos.x - glyph.pos.x).abs()));
            let beside = nearest.map(|other| other.pos.y);
            let x = at.x + row.pos.x + glyph.pos.x;
            let y = at.y + row.pos.y + beside.unwrap_or_else(|| baseline(row.height(), text.em));
            let colour = text.job.sections.iter().map(|section| section.format.color).find(|colour| colour.a() > 0);
            formula.paint(ui, pos2(x, y), text.em, colour.unwrap_or(palette.text));
        }
    }
    if let Some((_, link)) = under.and_then(|index| text.links.iter().find(|(range, _)| range.contains(&index))) {
        ui.set_cursor_icon(CursorIcon::PointingHand);
        if response.clicked() && safe_to_open(link) {
            ui.ctx().open_url(egui::OpenUrl::new_tab(&**link));
        }
        response.on_hover_text_at_pointer(&**link);
    }
    under.and_then(|index| text.source(index))
}

/// A model's link opens the browser or the mail program, nothing else.
fn safe_to_open(link: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| link.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

fn glyph_at(galley: &egui::Galley, character: usize) -> Option<(&egui::epaint::text::PlacedRow, egui::epaint::text::Glyph)> {
    let mut first = 0;
    for row in &galley.rows {
        if let Some(glyph) = row.glyphs.get(character - first) {
            return Some((row, *glyph));
        }
        first += row.char_count_including_newline().0;
        if character < first {
            return None;
        }
    }
    None
}

/// The rectangles of a range of characters, one a row.
fn rects_of(galley: &egui::Galley, range: std::ops::Range<usize>, at: Pos2) -> impl Iterator<Item = Rect> {
    let mut first = 0;
    galley.rows.iter().filter_map(move |row| {
        let begin = first;
        first += row.char_count_including_newline().0;
        let from = range.start.max(begin) - begin;
        let to = range.end.min(begin + row.glyphs.len()).checked_sub(begin)?;
        let glyphs = row.glyphs.get(from..to)?;
        let left = glyphs.first()?.pos.x;
        let right = glyphs.last()?.max_x();
        let corner = at + row.pos.to_vec2();
        Some(Rect::from_min_max(corner + vec2(left, 0.0), corner + vec2(right, row.height())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_web_and_mail_are_opened() {
        assert!(safe_to_open("https://example.org") && safe_to_open("mailto:a@example.org"));
        for link in ["file:///etc/passwd", "javascript:alert(1)", "smb://x", "é", "/etc"] {
            assert!(!safe_to_open(link), "{link}");
        }
    }
}
