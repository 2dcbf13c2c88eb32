//! Blocks to things with places: text to wrap, formulas, code, tables. Done once per block, width and palette; text is laid out
//! again by egui's own cache when it is drawn, since egui may clear its glyphs at any frame.

use std::ops::Range;
use std::sync::Arc;

use eframe::egui;
use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{Align, Color32, FontId, Pos2, Rect, Stroke, Vec2, pos2, vec2};
use pulldown_cmark::Alignment;

use super::code::coloured;
use super::formula::{Formula, Formulas};
use super::parse::{Block, Inline, Item, Style};
use crate::app::theme::{self, Palette};

const LIST_INDENT: f32 = 24.0;
const QUOTE_INDENT: f32 = 16.0;
const CELL_PADDING: Vec2 = vec2(12.0, 7.0);
/// A column of a table that must wrap is at least this wide.
const LEAST_COLUMN: f32 = 84.0;
/// Lines of code that are laid out together.
const CODE_CHUNK: usize = 40;
/// Beside code in the line.
pub const CODE_SPACE: f32 = 4.0;
pub const CODE_HEADER: f32 = 32.0;
pub const CODE_PADDING: f32 = 14.0;
/// How far below the middle of a line the baseline stands, in em: a fact of Inter.
const BASELINE_BELOW_MIDDLE: f32 = 0.364;

/// A block with its parts' places, from its left upper corner.
#[derive(Debug)]
pub struct Laid {
    pub height: f32,
    pub parts: Vec<Part>,
}

#[derive(Debug)]
pub enum Part {
    Text {
        at: Pos2,
        text: LaidText,
    },
    /// A formula in its own line; wider than the column, it scrolls.
    Formula {
        rect: Rect,
        formula: Arc<Formula>,
        em: f32,
    },
    Code {
        rect: Rect,
        language: String,
        text: String,
        chunks: Vec<Chunk>,
        width: f32,
    },
    Table {
        rect: Rect,
        table: Table,
    },
    Rule {
        rect: Rect,
    },
    QuoteBar {
        rect: Rect,
    },
    Bullet {
        centre: Pos2,
        hollow: bool,
    },
    Check {
        rect: Rect,
        done: bool,
    },
}

/// Lines of code.
#[derive(Debug)]
pub struct Chunk {
    pub top: f32,
    pub height: f32,
    pub text: LaidText,
}

#[derive(Debug)]
pub struct Table {
    pub size: Vec2,
    pub cells: Vec<(Pos2, LaidText)>,
    /// Heights of the lines between rows; the first is the head's.
    pub lines: Vec<f32>,
}

/// Text with what egui's text lacks: links, formulas in the line, code's soft ground, and where each piece came from.
#[derive(Clone, Debug, Default)]
pub struct LaidText {
    pub job: LayoutJob,
    pub size: Vec2,
    pub em: f32,
    pub links: Vec<(Range<usize>, Arc<str>)>,
    pub codes: Vec<Range<usize>>,
    /// Each stands for the character of that number.
    pub formulas: Vec<(usize, Arc<Formula>)>,
    /// Characters and the source's bytes where pieces begin.
    pub places: Vec<(usize, usize)>,
}

impl LaidText {
    /// The source's byte for the character of this number.
    pub fn source(&self, character: usize) -> Option<usize> {
        let (first, at) = *self.places[..self.places.partition_point(|(first, _)| *first <= character)].last()?;
        let text = self.job.text.chars().skip(first).take(character - first);
        Some(at + text.map(char::len_utf8).sum::<usize>())
    }
}

/// How running text looks where a block stands.
#[derive(Clone, Copy)]
pub struct Look {
    pub size: f32,
    pub line_height: f32,
    pub colour: Color32,
    pub strong: bool,
}

pub struct Setter<'a> {
    pub ctx: &'a egui::Context,
    pub palette: &'static Palette,
    pub formulas: &'a mut Formulas,
    pub parts: Vec<Part>,
}

impl Setter<'_> {
    /// Sets blocks one below another from `top`; gives where they end.
    pub fn blocks(&mut self, blocks: &[Block], left: f32, top: f32, width: f32, look: Look) -> f32 {
        let mut y = top;
        for (index, block) in blocks.iter().enumerate() {
            if index > 0 {
                y += gap(&blocks[index - 1], block);
            }
            y = self.block(block, left, y, width, look);
        }
        y
    }

    pub fn block(&mut self, block: &Block, left: f32, top: f32, width: f32, look: Look) -> f32 {
        match block {
            Block::Paragraph(inlines) => self.paragraph(inlines, left, top, width, look),
            Block::Heading { level, text } => {
                let size = theme::HEADINGS[usize::from(*level).clamp(1, 6) - 1];
                let look = Look { size, line_height: (size * 1.4).round(), strong: true, ..look };
                self.paragraph(text, left, top, width, look)
            }
            Block::Code { language, text, at } => self.code(language, text, *at, left, top, width),
            Block::Formula(latex) => self.formula(latex, left, top, width, look),
            Block::Quote(blocks) => {
                let inner = Look { colour: self.palette.text_weak, ..look };
                let bottom = self.blocks(blocks, left + QUOTE_INDENT, top, width - QUOTE_INDENT, inner);
                let rect = Rect::from_min_max(pos2(left, top + 2.0), pos2(left + 3.0, bottom - 2.0));
                self.parts.push(Part::QuoteBar { rect });
                bottom
            }
            Block::List { start, items } => self.list(*start, items, left, top, width, look),
            Block::Table { alignments, rows } => self.table(alignments, rows, left, top, width, look),
            Block::Rule => {
                let y = top + theme::SMALL;
                self.parts.push(Part::Rule { rect: Rect::from_min_size(pos2(left, y), vec2(width, 1.0)) });
                y + theme::SMALL
            }
        }
    }

    fn paragraph(&mut self, inlines: &[Inline], left: f32, top: f32, width: f32, look: Look) -> f32 {
        let text = self.text(inlines, width, look);
        let bottom = top + text.size.y;
        self.parts.push(Part::Text { at: pos2(left, top), text });
        bottom
    }

    fn list(&mut self, start: Option<u64>, items: &[Item], left: f32, top: f32, width: f32, look: Look) -> f32 {
        let mut y = top;
        // Numbers of many digits get the room they need.
        let digits = start.map_or(0, |start| start.saturating_add(items.len() as u64).ilog10());
        let indent = LIST_INDENT + look.size * 0.6 * digits.saturating_sub(1) as f32;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                y += if item.blocks.len() > 1 { theme::SMALL } else { theme::TINY };
            }
            let middle = y + look.line_height / 2.0;
            match (item.done, start) {
                (Some(done), _) => {
                    let rect = Rect::from_center_size(pos2(left + 10.0, middle), Vec2::splat(14.0));
                    self.parts.push(Part::Check { rect, done });
                }
                (None, Some(start)) => {
                    let number = format!("{}.", start.saturating_add(index as u64));
                    let format = self.format(&Style::default(), Look { colour: self.palette.text_weak, ..look });
                    let mut text = self.measured(LayoutJob::single_section(number, format), look.size);
                    text.job.halign = Align::RIGHT;
                    self.parts.push(Part::Text { at: pos2(left + indent - 7.0, y), text });
                }
                (None, None) => self.parts.push(Part::Bullet { centre: pos2(left + 11.0, middle), hollow: left > 0.0 }),
            }
            let bottom = self.blocks(&item.blocks, left + indent, y, width - indent, look);
            y = bottom.max(y + look.line_height);
        }
        y
    }

    fn formula(&mut self, latex: &Arc<str>, left: f32, top: f32, width: f32, look: Look) -> f32 {
        let em = look.size * 1.15;
        let Some(formula) = self.formulas.get(latex, true) else {
            // Shown as it is written: the reader can still copy it.
            let shown = Inline::Text { text: latex.to_string(), style: Style { code: true, ..Style::default() }, at: 0 };
            return self.paragraph(&[shown], left, top, width, look);
        };
        let size = formula.size(em);
        let rect = Rect::from_min_size(pos2(left, top), vec2(width, size.y + theme::SMALL * 2.0));
        self.parts.push(Part::Formula { rect, formula, em });
        rect.bottom()
    }

    fn code(&mut self, language: &str, text: &str, at: usize, left: f32, top: f32, width: f32) -> f32 {
        let lines = coloured(language, text);
        let mut chunks = vec![];
        let mut y = CODE_HEADER + CODE_PADDING / 2.0;
        let mut widest = 0.0_f32;
        let mut offset = 0;
        let numbered: Vec<_> = text.split('\n').zip(&lines).collect();
        for chunk in numbered.chunks(CODE_CHUNK) {
            let mut job = LayoutJob { wrap: TextWrapping::no_max_width(), ..LayoutJob::default() };
            let begin = offset;
            for (index, (line, tokens)) in chunk.iter().enumerate() {
                let format = |colour| TextFormat {
                    font_id: theme::code(),
                    color: colour,
                    line_height: Some(theme::CODE_LINE_HEIGHT),
                    ..TextFormat::default()
                };
                if index > 0 {
                    job.append("\n", 0.0, format(self.palette.text));
                }
                for (range, token) in tokens.iter() {
                    job.append(&line[range.clone()], 0.0, format(token.colour(self.palette)));
                }
                offset += line.len() + 1;
            }
            let mut text = self.measured(job, theme::CODE);
            text.places.push((0, at + begin));
            widest = widest.max(text.size.x);
            let height = chunk.len() as f32 * theme::CODE_LINE_HEIGHT;
            chunks.push(Chunk { top: y, height, text });
            y += height;
        }
        let rect = Rect::from_min_size(pos2(left, top), vec2(width, y + CODE_PADDING));
        self.parts.push(Part::Code { rect, language: language.to_owned(), text: text.to_owned(), chunks, width: widest });
        rect.bottom()
    }

    fn table(&mut self, alignments: &[Alignment], rows: &[Vec<Vec<Inline>>], left: f32, top: f32, width: f32, look: Look) -> f32 {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        if columns == 0 {
            return top;
        }
        let head = Look { strong: true, ..look };
        let look_of = |row: usize| if row == 0 { head } else { look };
        let mut natural = vec![0.0_f32; columns];
        for (index, row) in rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                natural[column] = natural[column].max(self.text(cell, f32::INFINITY, look_of(index)).size.x.ceil() + 1.0);
            }
        }
        let widths = column_widths(&natural, width - CELL_PADDING.x * 2.0 * columns as f32);
        let mut cells = vec![];
        let mut lines = vec![];
        let mut y = 0.0;
        for (index, row) in rows.iter().enumerate() {
            let texts: Vec<LaidText> = row.iter().zip(&widths).map(|(cell, width)| self.text(cell, *width, look_of(index))).collect();
            let height = texts.iter().map(|text| text.size.y).fold(look.line_height, f32::max) + CELL_PADDING.y * 2.0;
            let mut x = 0.0;
            for ((column, text), column_width) in texts.into_iter().enumerate().zip(&widths) {
                let room = column_width - text.size.x;
                let shift = match alignments.get(column) {
                    Some(Alignment::Right) => room,
                    Some(Alignment::Center) => room / 2.0,
                    _ => 0.0,
                };
                cells.push((pos2(x + CELL_PADDING.x + shift.max(0.0), y + CELL_PADDING.y), text));
                x += column_width + CELL_PADDING.x * 2.0;
            }
            y += height;
            lines.push(y);
        }
        lines.pop();
        let size = vec2(widths.iter().sum::<f32>() + CELL_PADDING.x * 2.0 * columns as f32, y);
        let rect = Rect::from_min_size(pos2(left, top), vec2(width.min(size.x), size.y));
        self.parts.push(Part::Table { rect, table: Table { size, cells, lines } });
        rect.bottom() + theme::TINY
    }

    fn format(&self, style: &Style, look: Look) -> TextFormat {
        let font_id = if style.code {
            FontId::monospace(look.size * theme::CODE / theme::TEXT)
        } else if style.strong || look.strong {
            theme::strong(look.size)
        } else if style.emphasis {
            FontId::new(look.size, egui::FontFamily::Name(theme::EMPHASIS.into()))
        } else {
            FontId::proportional(look.size)
        };
        let colour = if style.link.is_some() { self.palette.accent } else { look.colour };
        TextFormat {
            font_id,
            color: colour,
            line_height: Some(look.line_height),
            // There is no italic of the semi-bold: it is slanted.
            italics: style.emphasis && (style.strong || look.strong),
            strikethrough: if style.strike { Stroke::new(1.0, colour) } else { Stroke::NONE },
            valign: Align::Center,
            ..TextFormat::default()
        }
    }

    pub fn text(&mut self, inlines: &[Inline], width: f32, look: Look) -> LaidText {
        let mut text = LaidText {
            job: LayoutJob { wrap: TextWrapping::wrap_at_width(width.max(1.0)), ..LayoutJob::default() },
            ..LaidText::default()
        };
        let mut characters = 0;
        // The ground of code is a little wider than its text.
        let mut after_code = false;
        for inline in inlines {
            match inline {
                Inline::Text { text: piece, style, at } => {
                    let length = piece.chars().count();
                    text.places.push((characters, *at));
                    let range = characters..characters + length;
                    if let Some(link) = &style.link {
                        text.links.push((range.clone(), link.clone()));
                    }
                    if style.code {
                        text.codes.push(range);
                    }
                    let space = if style.code != after_code { CODE_SPACE } else { 0.0 };
                    after_code = style.code;
                    text.job.append(piece, space, self.format(style, look));
                    characters += length;
                }
                Inline::Formula { latex, at } => {
                    text.places.push((characters, *at));
                    // One that is wider than the column would be cut off: as text it wraps.
                    let fits = |formula: &Arc<Formula>| formula.width * look.size <= width;
                    let Some(formula) = self.formulas.get(latex, false).filter(fits) else {
                        let style = Style { code: true, ..Style::default() };
                        text.codes.push(characters..characters + latex.chars().count());
                        text.job.append(latex, 0.0, self.format(&style, look));
                        characters += latex.chars().count();
                        continue;
                    };
                    text.job.append("\u{a0}", 0.0, self.room(&formula, look));
                    text.formulas.push((characters, formula));
                    characters += 1;
                }
            }
        }
        let LaidText { job, links, codes, formulas, places, .. } = text;
        LaidText { links, codes, formulas, places, ..self.measured(job, look.size) }
    }

    /// A format in which a space is as wide and high as the formula: the line is broken around it as around a word.
    fn room(&self, formula: &Formula, look: Look) -> TextFormat {
        let font = FontId::proportional(100.0);
        let space = self.ctx.fonts_mut(|fonts| fonts.glyph_width(&font, '\u{a0}'));
        let em = look.size;
        let below_middle = BASELINE_BELOW_MIDDLE * em;
        let above = formula.ascent * em - below_middle;
        let below = formula.descent * em + below_middle;
        let height = (above.max(below) * 2.0 + 4.0).max(look.line_height).round();
        TextFormat {
            font_id: FontId::proportional(100.0 * formula.width * em / space.max(1.0)),
            line_height: Some(height),
            color: Color32::TRANSPARENT,
            valign: Align::Center,
            ..TextFormat::default()
        }
    }

    fn measured(&self, job: LayoutJob, em: f32) -> LaidText {
        let size = self.ctx.fonts_mut(|fonts| fonts.layout_job(job.clone())).size();
        LaidText { job, size, em, ..LaidText::default() }
    }
}

/// Where the baseline of a row of this height and text size stands, from the row's top.
pub fn baseline(row_height: f32, em: f32) -> f32 {
    row_height / 2.0 + BASELINE_BELOW_MIDDLE * em
}

/// The space between two blocks.
pub fn gap(above: &Block, below: &Block) -> f32 {
    match (above, below) {
        (_, Block::Heading { level: 1 | 2, .. }) => theme::LARGE + theme::SMALL,
        (_, Block::Heading { .. }) => theme::LARGE + theme::TINY,
        (Block::Heading { .. }, _) => theme::SMALL,
        (Block::Formula(_), _) | (_, Block::Formula(_)) => theme::TINY,
        (Block::Paragraph(_), Block::List { .. }) => theme::SMALL,
        _ => theme::MEDIUM,
    }
}

/// Columns as wide as their text where there is room; otherwise narrow ones keep theirs and wide ones share the rest.
fn column_widths(natural: &[f32], room: f32) -> Vec<f32> {
    if natural.iter().sum::<f32>() <= room {
        return natural.to_vec();
    }
    let mut widths: Vec<Option<f32>> = vec![None; natural.len()];
    let mut left = room;
    loop {
        let open = widths.iter().filter(|width| width.is_none()).count();
        let share = (left / open.max(1) as f32).max(LEAST_COLUMN);
        let mut changed = false;
        for (width, natural) in widths.iter_mut().zip(natural) {
            if width.is_none() && *natural <= share {
                *width = Some(*natural);
                left -= natural;
                changed = true;
            }
        }
        if !changed || open == 0 {
            return widths.into_iter().map(|width| width.unwrap_or(share)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_columns_keep_their_width() {
        assert_eq!(column_widths(&[100.0, 200.0], 400.0), [100.0, 200.0]);
        assert_eq!(column_widths(&[50.0, 900.0, 900.0], 450.0), [50.0, 200.0, 200.0]);
        // Too many columns: the table scrolls.
        assert_eq!(column_widths(&[900.0; 10], 450.0), [LEAST_COLUMN; 10]);
    }
}
