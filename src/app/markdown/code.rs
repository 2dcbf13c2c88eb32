//! Colours of code, by the TextMate scopes that syntaxmate finds.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use eframe::egui::Color32;
use syntaxmate::Highlighter;

use crate::app::theme::Palette;

/// Longer code is left plain: colouring it would hold up a frame.
const MAX_COLOURED_BYTES: usize = 200_000;

static HIGHLIGHTER: LazyLock<Option<Highlighter>> = LazyLock::new(|| Highlighter::bundled().ok());

/// What is coloured alike, as far as our palettes tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    Plain,
    Comment,
    Keyword,
    String,
    Number,
    Function,
    Type,
    Punctuation,
}

impl Token {
    pub fn colour(self, palette: &Palette) -> Color32 {
        let syntax = &palette.syntax;
        match self {
            Self::Plain => palette.text,
            Self::Comment => syntax.comment,
            Self::Keyword => syntax.keyword,
            Self::String => syntax.string,
            Self::Number => syntax.number,
            Self::Function => syntax.function,
            Self::Type => syntax.type_name,
            Self::Punctuation => syntax.punctuation,
        }
    }

    /// By the innermost scope that says anything.
    fn of<'a>(scopes: impl Iterator<Item = &'a str>) -> Self {
        let mut token = Self::Plain;
        for scope in scopes {
            let starts = |prefix: &str| scope.starts_with(prefix);
            token = if starts("comment") {
                return Self::Comment;
            } else if starts("punctuation.definition.comment") {
                Self::Comment
            } else if starts("string") || starts("punctuation.definition.string") || starts("markup.inline.raw") {
                Self::String
            } else if starts("constant.numeric") || starts("constant.language") || starts("constant.character") {
                Self::Number
            } else if starts("keyword.operator") && !starts("keyword.operator.word") && !starts("keyword.operator.logical") {
                Self::Punctuation
            } else if starts("keyword") || starts("storage") || starts("markup.deleted") {
                Self::Keyword
            } else if starts("entity.name.function") || starts("support.function") || starts("meta.function-call.generic") {
                Self::Function
            } else if starts("entity.name") || starts("support.type") || starts("support.class") || starts("markup.heading") {
                Self::Type
            } else if starts("entity.other.attribute-name") || starts("variable.parameter.function.keyword") {
                Self::Function
            } else if starts("meta.template.expression") || starts("meta.embedded") || starts("meta.interpolation") {
                Self::Plain
            } else if starts("punctuation") {
                if token == Self::String { Self::String } else { Self::Punctuation }
            } else {
                token
            };
        }
        token
    }
}

/// A line's tokens, as ranges of its bytes.
pub type Line = Vec<(Range<usize>, Token)>;

/// Each line's tokens without gaps; plain where the language is unknown.
pub fn coloured(language: &str, text: &str) -> Vec<Line> {
    // The grammars are others' code on a model's text: a fault there costs the colours, not the window.
    catch_unwind(AssertUnwindSafe(|| try_coloured(language, text)))
        .ok()
        .flatten()
        .unwrap_or_else(|| text.split('\n').map(|line| vec![(0..line.len(), Token::Plain)]).collect())
}

fn try_coloured(language: &str, text: &str) -> Option<Vec<Line>> {
    if text.len() > MAX_COLOURED_BYTES || language.is_empty() {
        return None;
    }
    let document = HIGHLIGHTER.as_ref()?.tokenize(language, text).ok()?;
    let mut found = document.lines().iter();
    let lines = text.split('\n').map(|line| {
        let mut out: Line = vec![];
        let mut end = 0;
        for token in found.next().map_or(&[][..], |line| line.tokens()) {
            let range = token.range();
            if range.start < end || range.end > line.len() || !line.is_char_boundary(range.start) || !line.is_char_boundary(range.end) {
                continue;
            }
            for (range, token) in [(end..range.start, Token::Plain), (range.clone(), Token::of(token.scopes()))] {
                match out.last_mut() {
                    _ if range.is_empty() => {}
                    Some((last, same)) if *same == token => last.end = range.end,
                    _ => out.push((range, token)),
                }
            }
            end = range.end;
        }
        if end < line.len() || out.is_empty() {
            out.push((end..line.len(), Token::Plain));
        }
        out
    });
    Some(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(language: &str, text: &str) -> Vec<(String, Token)> {
        let lines = coloured(language, text);
        let words = text.split('\n').zip(&lines);
        let words = words.flat_map(|(line, tokens)| tokens.iter().map(|(range, token)| (line[range.clone()].trim().to_owned(), *token)));
        words.filter(|(word, _)| !word.is_empty()).collect()
    }

    #[test]
    fn rust_and_python_get_their_colours() {
        let rust = words("rust", "fn main() {\n    let x = 12; // twelve\n    print(\"a\");\n}");
        for expected in [("fn", Token::Keyword), ("main", Token::Function), ("12", Token::Number), ("// twelve", Token::Comment)] {
            assert!(rust.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {rust:?}");
        }
        let python = words("py", "def f(a=1.5):\n    return \"b\"");
        for expected in
            [("def", Token::Keyword), ("f", Token::Function), ("return", Token::Keyword), ("\"b\"", Token::String), ("1.5", Token::Number)]
        {
            assert!(python.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {python:?}");
        }
    }

    #[test]
    fn every_byte_is_in_one_token() {
        let text = "é = '中' # 🙂\r\n\n\tpass";
        for language in ["python", "no such language", "", "js", "c++"] {
            for (line, tokens) in text.split('\n').zip(coloured(language, text)) {
                let joined: String = tokens.iter().map(|(range, _)| &line[range.clone()]).collect();
                assert_eq!(joined, line, "{language}");
            }
        }
    }
}
