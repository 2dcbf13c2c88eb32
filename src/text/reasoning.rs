//! Parts a reasoning model's output into its reasoning and its answer at `<think>` and `</think>`.
//! Whether the model reasons at all, and what is shown, is for the caller to say.

use super::stop::Matcher;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Streamed text and which part it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Reasoning(String),
    Answer(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Answer so far; a `<think>` may still open the reasoning.
    Before,
    Inside,
    /// One block is all a model writes: later tags are text about tags.
    After,
}

/// Splits streamed text at the first reasoning block. The tags themselves are dropped, all other text is kept as it came.
#[derive(Clone, Debug)]
pub struct ReasoningSplitter {
    state: State,
    open: Matcher,
    close: Matcher,
    held: String,
}

impl ReasoningSplitter {
    /// `starts_inside`: the prompt already ended with `<think>`, so only the closing tag will come.
    pub fn new(starts_inside: bool) -> Self {
        Self::in_state(if starts_inside { State::Inside } else { State::Before })
    }

    /// For models that do not reason: everything is answer, tags included.
    pub fn disabled() -> Self {
        Self::in_state(State::After)
    }

    /// What the rendered prompt asks for: it ends with `<think>` (reasoning has begun), with `</think>` (reasoning is
    /// switched off), or with neither (the model may open a block itself).
    pub fn for_prompt(prompt: &str, reasoning_model: bool) -> Self {
        let end = prompt.trim_end();
        if !reasoning_model || end.ends_with(CLOSE) { Self::disabled() } else { Self::new(end.ends_with(OPEN)) }
    }

    fn in_state(state: State) -> Self {
        Self { state, open: Matcher::new(OPEN), close: Matcher::new(CLOSE), held: String::new() }
    }

    /// Takes the next piece of output; what may be the beginning of a tag is held back.
    pub fn push(&mut self, piece: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = piece;
        loop {
            let (matcher, next) = match self.state {
                State::Before => (&mut self.open, State::Inside),
                State::Inside => (&mut self.close, State::After),
                State::After => break,
            };
            let Some(at) = rest.bytes().position(|byte| matcher.push(byte)) else {
                self.held.push_str(rest);
                let kept = self.held.split_off(self.held.len() - matcher.matched());
                let text = std::mem::replace(&mut self.held, kept);
                self.emit(text, &mut pieces);
                return pieces;
            };
            self.held.push_str(&rest[..=at]);
            self.held.truncate(self.held.len() - matcher.len());
            let text = std::mem::take(&mut self.held);
            self.emit(text, &mut pieces);
            self.state = next;
            rest = &rest[at + 1..];
        }
        self.emit(rest.to_owned(), &mut pieces);
        pieces
    }

    /// The held text at the end of the stream.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let text = std::mem::take(&mut self.held);
        self.emit(text, &mut pieces);
        pieces
    }

    fn emit(&self, text: String, pieces: &mut Vec<Piece>) {
        if !text.is_empty() {
            pieces.push(if self.state == State::Inside { Piece::Reasoning(text) } else { Piece::Answer(text) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The reasoning and the answer, each joined.
    fn run(mut splitter: ReasoningSplitter, pieces: &[&str]) -> (String, String) {
        let mut out: Vec<Piece> = pieces.iter().flat_map(|piece| splitter.push(piece)).collect();
        out.extend(splitter.finish());
        let (mut reasoning, mut answer) = (String::new(), String::new());
        for piece in out {
            match piece {
                Piece::Reasoning(text) => reasoning.push_str(&text),
                Piece::Answer(text) => answer.push_str(&text),
            }
        }
        (reasoning, answer)
    }

    #[test]
    fn the_tag_in_the_prompt_or_in_the_output() {
        let parts = |r: &str, a: &str| (r.to_owned(), a.to_owned());
        assert_eq!(run(ReasoningSplitter::new(true), &["why</thi", "nk>\n", "so"]), parts("why", "\nso"));
        assert_eq!(run(ReasoningSplitter::new(false), &["<th", "ink>why", "</think>so"]), parts("why", "so"));
        assert_eq!(run(ReasoningSplitter::new(false), &["a < b <think"]), parts("", "a < b <think"));
        assert_eq!(run(ReasoningSplitter::new(true), &["never closed </think"]), parts("never closed </think", ""));
        assert_eq!(run(ReasoningSplitter::new(true), &["<think>x</think>y"]), parts("<think>x", "y"));
        let talk = ["<think>x</think>the tags <think> and </think>"];
        assert_eq!(run(ReasoningSplitter::new(false), &talk), parts("x", "the tags <think> and </think>"));
        assert_eq!(run(ReasoningSplitter::disabled(), &["<think>x</think>y"]), parts("", "<think>x</think>y"));
    }

    #[test]
    fn the_prompt_says_where_it_starts() {
        let answer = ["x</think>y"];
        let split = |prompt, reasons| run(ReasoningSplitter::for_prompt(prompt, reasons), &answer).0;
        assert_eq!(split("<｜Assistant｜><think>\n", true), "x");
        assert_eq!(split("<｜Assistant｜><think>", true), "x");
        assert_eq!(split("<｜Assistant｜></think>", true), "");
        assert_eq!(split("<｜Assistant｜><think>\n", false), "");
        assert_eq!(split("<｜Assistant｜>", true), "");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_parts(
            parts in prop::collection::vec(prop::sample::select(vec!["<think>", "</think>", "<th", "ink>", "<", "é", "a/"]), 0..10),
            inside: bool,
            step in 1usize..5,
        ) {
            let whole = parts.concat();
            let chars: Vec<char> = whole.chars().collect();
            let cut: Vec<String> = chars.chunks(step).map(|c| c.iter().collect()).collect();
            let cut: Vec<&str> = cut.iter().map(String::as_str).collect();
            let (before, block) = if inside { ("", Some(whole.as_str())) } else {
                whole.split_once(OPEN).map_or((whole.as_str(), None), |(a, b)| (a, Some(b)))
            };
            let (reasoning, after) = block.map_or(("", ""), |b| b.split_once(CLOSE).unwrap_or((b, "")));
            let expected = (reasoning.to_owned(), format!("{before}{after}"));
            prop_assert_eq!(run(ReasoningSplitter::new(inside), &cut), expected.clone());
            prop_assert_eq!(run(ReasoningSplitter::new(inside), &[&whole]), expected);
        }
    }
}
