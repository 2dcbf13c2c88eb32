//! Markdown's blocks and inline text, from pulldown-cmark: CommonMark, tables, strike-through, task lists, and formulas between
//! `$`, `$$`, `\( \)` and `\[ \]`.

use std::ops::Range;
use std::sync::Arc;

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Nested deeper, quotes and lists are drawn as if they were not.
const MAX_NESTING: usize = 12;

/// A block at the top, with the text that it was parsed from.
#[derive(Debug, PartialEq)]
pub struct Source {
    /// Its bytes in the text that `normalized` gave.
    pub range: Range<usize>,
    pub block: Block,
}

#[derive(Debug, PartialEq)]
pub enum Block {
    Paragraph(Vec<Inline>),
    Heading {
        level: u8,
        text: Vec<Inline>,
    },
    /// `at` is the byte of the source where the text begins.
    Code {
        language: String,
        text: String,
        at: usize,
    },
    Formula(Arc<str>),
    Quote(Vec<Block>),
    List {
        start: Option<u64>,
        items: Vec<Item>,
    },
    Table {
        alignments: Vec<Alignment>,
        rows: Vec<Vec<Vec<Inline>>>,
    },
    Rule,
}

#[derive(Debug, Default, PartialEq)]
pub struct Item {
    /// Of a task list: done or not.
    pub done: Option<bool>,
    pub blocks: Vec<Block>,
}

#[derive(Debug, PartialEq)]
pub enum Inline {
    /// `at` is the byte of the source where the text begins.
    Text {
        text: String,
        style: Style,
        at: usize,
    },
    Formula {
        latex: Arc<str>,
        at: usize,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Style {
    pub strong: bool,
    pub emphasis: bool,
    pub strike: bool,
    pub code: bool,
    pub link: Option<Arc<str>>,
}

/// A text with formulas between `\( \)` and `\[ \]` written with dollars, outside code.
pub struct Normalized {
    pub text: String,
    /// Bytes of `text` and of the original that stand for the same, wherever the distance between them changes.
    shifts: Vec<(usize, usize)>,
}

impl Normalized {
    /// The original's byte for one of `text`.
    pub fn original(&self, at: usize) -> usize {
        match self.shifts[..self.shifts.partition_point(|(new, _)| *new <= at)].last() {
            Some((new, old)) => old + (at - new),
            None => at,
        }
    }
}

pub fn normalized(text: &str) -> Normalized {
    let mut normalizer =
        Normalizer { original: text, at: 0, out: Normalized { text: String::with_capacity(text.len()), shifts: vec![] }, open: None };
    let mut fence: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let marker = ["```", "~~~"].into_iter().find(|marker| trimmed.starts_with(marker));
        let end = normalizer.at + line.len();
        match (fence, marker) {
            (None, Some(marker)) if normalizer.open.is_none() => fence = Some(marker),
            (Some(open), Some(marker)) if open == marker => fence = None,
            (Some(_), _) => {}
            (None, _) => {
                if trimmed.is_empty() && normalizer.open.as_ref().is_some_and(|open| open.closing == r"\)") {
                    normalizer.give_up();
                }
                normalizer.line(end);
            }
        }
        normalizer.keep(end);
    }
    normalizer.give_up();
    normalizer.out
}

struct Normalizer<'a> {
    original: &'a str,
    /// The byte of the original up to which `out` stands.
    at: usize,
    out: Normalized,
    open: Option<OpenFormula>,
}

struct OpenFormula {
    closing: &'static str,
    /// Where its dollars stand, in the new text and in the original, and where it begins after them.
    new: Range<usize>,
    old: Range<usize>,
    shifts: usize,
}

impl Normalizer<'_> {
    fn keep(&mut self, end: usize) {
        self.out.text.push_str(&self.original[self.at..end]);
        self.at = end;
    }

    /// Writes `new` for the original up to `end`.
    fn replace(&mut self, end: usize, new: &str) {
        self.out.text.push_str(new);
        self.at = end;
        self.out.shifts.push((self.out.text.len(), end));
    }

    /// One that never closes is no formula (yet).
    fn give_up(&mut self) {
        if let Some(OpenFormula { new, old, shifts, .. }) = self.open.take() {
            self.out.text.replace_range(new, &self.original[old]);
            self.out.shifts.truncate(shifts);
        }
    }

    fn open(&mut self, end: usize, dollars: &str, closing: &'static str) {
        let (new, old, shifts) = (self.out.text.len(), self.at, self.out.shifts.len());
        self.replace(end, dollars);
        self.open = Some(OpenFormula { closing, new: new..self.out.text.len(), old: old..end, shifts });
    }

    fn line(&mut self, end: usize) {
        while let Some(found) = self.original[self.at..end].find(['\\', '`']) {
            self.keep(self.at + found);
            let rest = &self.original[self.at..end];
            let ticks = rest.len() - rest.trim_start_matches('`').len();
            if ticks > 0 {
                // A code span ends at as many ticks.
                let length = rest[ticks..].find(&rest[..ticks]).map_or(ticks, |found| ticks + found + ticks);
                self.keep(self.at + length);
                continue;
            }
            let after = self.at + 2;
            let spaces = |text: &str| text.len() - text.trim_start_matches(' ').len();
            match (rest.get(..2), self.open.as_ref().map(|open| open.closing)) {
                (Some(r"\("), None) => self.open(after + spaces(&rest[2..]), "$", r"\)"),
                (Some(r"\["), None) => self.open(after, "$$", r"\]"),
                (Some(r"\)"), Some(r"\)")) => {
                    self.out.text.truncate(self.out.text.trim_end_matches(' ').len());
                    self.replace(after, "$");
                    self.open = None;
                }
                (Some(r"\]"), Some(r"\]")) => {
                    self.replace(after, "$$");
                    self.open = None;
                }
                _ => {
                    let length: usize = rest.chars().take(2).map(char::len_utf8).sum();
                    self.keep(self.at + length);
                }
            }
        }
    }
}

/// The blocks of a text that `normalized` gave.
pub fn parse(text: &str) -> Vec<Source> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS | Options::ENABLE_MATH;
    let mut builder = Builder::default();
    let mut sources = vec![];
    let mut depth = 0_usize;
    let mut start = 0;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        if depth == 0 {
            start = range.start;
        }
        match &event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        builder.event(event, text, range.clone());
        if depth == 0 {
            builder.flush_paragraph();
            for block in builder.take() {
                sources.push(Source { range: start..range.end, block });
            }
        }
    }
    sources
}

/// A block that is open.
enum Open {
    Quote(Vec<Block>),
    List {
        start: Option<u64>,
        items: Vec<Item>,
    },
    Item(Item),
    Code {
        language: String,
        text: String,
        at: Option<usize>,
    },
    Table {
        alignments: Vec<Alignment>,
        rows: Vec<Vec<Vec<Inline>>>,
    },
    /// Nested too deep: what is inside goes to the block around.
    Flat,
}

#[derive(Default)]
struct Builder {
    done: Vec<Block>,
    open: Vec<Open>,
    /// Inline text of the paragraph, heading or cell that is being read.
    inlines: Vec<Inline>,
    style: Style,
    heading: Option<u8>,
}

impl Builder {
    fn take(&mut self) -> Vec<Block> {
        std::mem::take(&mut self.done)
    }

    fn push(&mut self, block: Block) {
        for open in self.open.iter_mut().rev() {
            match open {
                Open::Quote(blocks) => return blocks.push(block),
                Open::Item(item) => return item.blocks.push(block),
                Open::List { items, .. } => {
                    let item = Item { done: None, blocks: vec![block] };
                    return items.push(item);
                }
                Open::Flat | Open::Code { .. } | Open::Table { .. } => {}
            }
        }
        self.done.push(block);
    }

    /// Ends the paragraph that is open; a formula alone in it becomes a block.
    fn flush_paragraph(&mut self) {
        let inlines = std::mem::take(&mut self.inlines);
        if inlines.is_empty() || inlines.iter().all(|inline| matches!(inline, Inline::Text { text, .. } if text.trim().is_empty())) {
            return;
        }
        match self.heading.take() {
            Some(level) => self.push(Block::Heading { level, text: inlines }),
            None => self.push(Block::Paragraph(inlines)),
        }
    }

    fn text(&mut self, added: &str, from: usize) {
        if let Some(Open::Code { text, at, .. }) = self.open.last_mut() {
            text.push_str(added);
            at.get_or_insert(from);
            return;
        }
        if let Some(Inline::Text { text, style, at }) = self.inlines.last_mut()
            && *style == self.style
            && *at + text.len() == from
        {
            text.push_str(added);
            return;
        }
        self.inlines.push(Inline::Text { text: added.to_owned(), style: self.style.clone(), at: from });
    }

    fn event(&mut self, event: Event<'_>, source: &str, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                // Models write `<br>` in table cells.
                let text = if matches!(text.trim(), "<br>" | "<br/>" | "<br />") { "\n" } else { &*text };
                self.text(text, range.start);
            }
            Event::Code(text) => {
                self.style.code = true;
                let ticks = source[range.clone()].bytes().take_while(|byte| *byte == b'`').count();
                self.text(&text, range.start + ticks);
                self.style.code = false;
            }
            Event::InlineMath(latex) => {
                // As in Pandoc: "from $5 to $6" is money.
                let money = source[range.end..].starts_with(|next: char| next.is_ascii_digit());
                let at = range.start;
                if money { self.text(&source[range], at) } else { self.inlines.push(Inline::Formula { latex: latex.trim().into(), at }) }
            }
            Event::DisplayMath(latex) => {
                if self.open.iter().any(|open| matches!(open, Open::Table { .. })) || self.heading.is_some() {
                    self.inlines.push(Inline::Formula { latex: latex.trim().into(), at: range.start });
                } else {
                    self.flush_paragraph();
                    self.push(Block::Formula(latex.trim().into()));
                }
            }
            Event::SoftBreak => self.text(" ", range.start),
            Event::HardBreak => self.text("\n", range.start),
            Event::Rule => self.push(Block::Rule),
            Event::TaskListMarker(done) => {
                if let Some(Open::Item(item)) = self.open.last_mut() {
                    item.done = Some(done);
                }
            }
            Event::FootnoteReference(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        let nested = self.open.len() >= MAX_NESTING;
        match tag {
            Tag::Heading { level, .. } => {
                self.flush_paragraph();
                self.heading = Some(match level {
                    HeadingLevel::H1 => 1,
                    HeadingLevel::H2 => 2,
                    HeadingLevel::H3 => 3,
                    HeadingLevel::H4 => 4,
                    HeadingLevel::H5 => 5,
                    HeadingLevel::H6 => 6,
                });
            }
            Tag::BlockQuote(_) => {
                self.flush_paragraph();
                self.open.push(if nested { Open::Flat } else { Open::Quote(vec![]) });
            }
            Tag::CodeBlock(kind) => {
                self.flush_paragraph();
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info.split([' ', ',', '{']).next().unwrap_or_default().to_owned(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.open.push(Open::Code { language, text: String::new(), at: None });
            }
            Tag::List(start) => {
                self.flush_paragraph();
                self.open.push(if nested { Open::Flat } else { Open::List { start, items: vec![] } });
            }
            Tag::Item => self.open.push(if nested { Open::Flat } else { Open::Item(Item::default()) }),
            Tag::Table(alignments) => {
                self.flush_paragraph();
                self.open.push(Open::Table { alignments, rows: vec![] });
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(Open::Table { rows, .. }) = self.open.last_mut() {
                    rows.push(vec![]);
                }
            }
            Tag::Emphasis => self.style.emphasis = true,
            Tag::Strong => self.style.strong = true,
            Tag::Strikethrough => self.style.strike = true,
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.style.link = Some(dest_url.as_ref().into()),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::HtmlBlock => self.flush_paragraph(),
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.inlines);
                if let Some(Open::Table { rows, .. }) = self.open.last_mut()
                    && let Some(row) = rows.last_mut()
                {
                    row.push(cell);
                }
            }
            TagEnd::BlockQuote(_) | TagEnd::CodeBlock | TagEnd::List(_) | TagEnd::Item | TagEnd::Table => {
                self.flush_paragraph();
                match self.open.pop() {
                    Some(Open::Quote(blocks)) => self.push(Block::Quote(blocks)),
                    Some(Open::List { start, items }) => self.push(Block::List { start, items }),
                    Some(Open::Item(item)) => {
                        if let Some(Open::List { items, .. }) = self.open.last_mut() {
                            items.push(item);
                        }
                    }
                    Some(Open::Code { language, mut text, at }) => {
                        text.truncate(text.trim_end_matches('\n').len());
                        // Models write formulas into code blocks of these names.
                        let block = match language.as_str() {
                            "math" => Block::Formula(text.trim().into()),
                            _ => Block::Code { language, text, at: at.unwrap_or_default() },
                        };
                        self.push(block);
                    }
                    Some(Open::Table { alignments, rows }) => self.push(Block::Table { alignments, rows }),
                    Some(Open::Flat) | None => {}
                }
            }
            TagEnd::Emphasis => self.style.emphasis = false,
            TagEnd::Strong => self.style.strong = false,
            TagEnd::Strikethrough => self.style.strike = false,
            TagEnd::Link | TagEnd::Image => self.style.link = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Vec<Block> {
        parse(&normalized(text).text).into_iter().map(|source| source.block).collect()
    }

    /// The inline text with neighbours of one style together, formulas between angle brackets and code between ticks.
    fn shown(inlines: &[Inline]) -> String {
        let piece = |inline: &Inline| match inline {
            Inline::Text { text, style, .. } if style.code => format!("`{text}`"),
            Inline::Text { text, .. } => text.clone(),
            Inline::Formula { latex, .. } => format!("<{latex}>"),
        };
        inlines.iter().map(piece).collect()
    }

    fn paragraph(text: &str) -> String {
        match &blocks(text)[..] {
            [Block::Paragraph(inlines)] => shown(inlines),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn formulas_with_all_four_delimiters() {
        for text in ["$x^2$", r"\(x^2\)", r"\( x^2 \)"] {
            assert_eq!(paragraph(text), "<x^2>", "{text}");
        }
        for text in ["$$x^2$$", r"\[x^2\]", "\\[\nx^2\n\\]", "$$\nx^2\n$$"] {
            assert_eq!(blocks(text), [Block::Formula("x^2".into())], "{text}");
        }
    }

    #[test]
    fn a_formula_that_is_not_closed_yet_is_text() {
        assert_eq!(paragraph(r"so \(x^2"), "so (x^2");
        assert_eq!(paragraph("so $x^2"), "so $x^2");
    }

    #[test]
    fn money_is_no_formula() {
        assert_eq!(paragraph("from $5 to $6"), "from $5 to $6");
        assert_eq!(paragraph("a $5-$10 range"), "a $5-$10 range");
    }

    #[test]
    fn code_keeps_what_looks_like_a_formula() {
        let code = Block::Code { language: "sh".to_owned(), text: r"echo \(a\)".to_owned(), at: 6 };
        assert_eq!(blocks("```sh\necho \\(a\\)\n```"), [code]);
        assert_eq!(paragraph(r"`\(a\)`"), r"`\(a\)`");
    }

    #[test]
    fn places_lead_back_to_the_original() {
        let text = r"é \( x \) is **bold** and \[y\] `code` \(open";
        let normalized = normalized(text);
        let mut seen = vec![];
        for source in parse(&normalized.text) {
            let Block::Paragraph(inlines) = source.block else { continue };
            for inline in inlines {
                match inline {
                    Inline::Text { text: piece, at, .. } => {
                        let piece = piece.trim();
                        let at = normalized.original(at + normalized.text[at..].len() - normalized.text[at..].trim_start().len());
                        assert!(text[at..].starts_with(piece), "{piece} at {at}: {}", &text[at..]);
                        seen.push(piece.to_owned());
                    }
                    Inline::Formula { at, .. } => {
                        assert!(text[normalized.original(at)..].starts_with(r"\("), "{}", &text[normalized.original(at)..])
                    }
                }
            }
        }
        assert_eq!(seen, ["é", "is", "bold", "and", "", "code", "", "(open"]);
    }

    #[test]
    fn a_table_has_its_head_first() {
        let Some(Block::Table { alignments, rows }) = blocks("| a | b |\n|---|--:|\n| 1 | $x$ |\n").pop() else { panic!("no table") };
        assert_eq!(alignments, [Alignment::None, Alignment::Right]);
        let shown: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
        assert_eq!(shown, [["a", "b"], ["1", "<x>"]]);
    }

    #[test]
    fn lists_nest_and_tasks_are_ticked() {
        let Some(Block::List { start: Some(3), items }) = blocks("3. a\n   - b\n4. c").pop() else { panic!("no list") };
        assert_eq!(items.len(), 2);
        assert!(matches!(&items[0].blocks[..], [Block::Paragraph(_), Block::List { start: None, items }] if items.len() == 1));
        let Some(Block::List { items, .. }) = blocks("- [x] a\n- [ ] b").pop() else { panic!("no list") };
        assert_eq!(items.iter().map(|item| item.done).collect::<Vec<_>>(), [Some(true), Some(false)]);
    }

    #[test]
    fn deep_nesting_is_flattened_not_followed() {
        let text = format!("{} deep", ">".repeat(5000));
        let mut depth = 0;
        let mut inside = blocks(&text);
        while let Some(Block::Quote(blocks)) = inside.pop() {
            depth += 1;
            inside = blocks;
        }
        assert_eq!(depth, MAX_NESTING);
    }

    #[test]
    fn sources_cover_their_blocks_in_order() {
        let text = "# One\n\ntwo\n\n```\nthree\n```\n\n- four\n";
        let sources = parse(text);
        assert_eq!(sources.len(), 4);
        assert!(sources.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        assert!(text[sources[2].range.clone()].contains("three"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed(text in r"[\\$`()\[\]\n >*_|#~\-a-c1-3é中]{0,200}") {
            let normalized = normalized(&text);
            parse(&normalized.text);
            for at in 0..=normalized.text.len() {
                assert!(normalized.original(at) <= text.len() + 2);
            }
        }
    }
}
