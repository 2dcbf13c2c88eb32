//! One answer as it grows: ids become text, reasoning is parted from it, and what ends it is noticed.

use super::clock::Moment;
use super::language::Prompt;
use super::{Event, Request, Stats, StopReason, Summary};
use crate::text::{Piece, ReasoningSplitter, StopStrings, StreamDecoder};

pub(super) struct Answer {
    pub prompt: Vec<u32>,
    pub ids: Vec<u32>,
    /// The most new ids.
    pub limit: usize,
    /// How many prompt tokens the first attempt found in the cache.
    pub reused: Option<usize>,
    started: Moment,
    first: Option<(Moment, f64)>,
    told_secs: f64,
    eos: Vec<u32>,
    decoder: Option<StreamDecoder>,
    splitter: ReasoningSplitter,
    stop: StopStrings,
    text: String,
    reasoning: String,
}

impl Answer {
    pub fn new(prompt: Prompt, request: &Request, limit: usize, eos: &[u32], decoder: Option<StreamDecoder>, started: Moment) -> Self {
        Self {
            prompt: prompt.ids,
            ids: vec![],
            limit: request.max_tokens.map_or(limit, |most| most.min(limit)),
            reused: None,
            started,
            first: None,
            told_secs: 0.0,
            eos: if request.ignore_eos { vec![] } else { eos.to_vec() },
            decoder,
            splitter: prompt.splitter,
            stop: StopStrings::new(request.stop.clone()),
            text: String::new(),
            reasoning: String::new(),
        }
    }

    /// Everything so far, to be fed.
    pub fn all_ids(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.ids].concat()
    }

    /// Takes a new id; the reason, if it ends the answer.
    pub fn push(&mut self, id: u32, on_event: &mut dyn FnMut(Event)) -> Option<StopReason> {
        self.ids.push(id);
        on_event(Event::Token(id));
        let is_first = self.first.is_none();
        let (since, _) = *self.first.get_or_insert_with(|| (Moment::now(), self.started.secs()));
        if self.eos.contains(&id) {
            return Some(StopReason::Eos);
        }
        // An id that no token has is no text: models have rows to spare.
        let text = self.decoder.as_mut().and_then(|decoder| decoder.push(id).ok()).unwrap_or_default();
        let pieces = self.splitter.push(&text);
        self.emit(pieces, on_event);
        if let Some(stop) = self.stop.hit() {
            return Some(StopReason::Stop(stop.to_string()));
        }
        if self.ids.len() >= self.limit {
            return Some(StopReason::Length);
        }
        if is_first || since.secs() >= self.told_secs + 1.0 {
            self.told_secs = since.secs();
            on_event(Event::Stats(self.stats()));
        }
        None
    }

    /// Bytes of reasoning and answer let out so far.
    pub fn ends(&self) -> (usize, usize) {
        (self.reasoning.len(), self.text.len())
    }

    fn emit(&mut self, pieces: Vec<Piece>, on_event: &mut dyn FnMut(Event)) {
        for piece in pieces {
            match piece {
                Piece::Reasoning(text) => {
                    self.reasoning.push_str(&text);
                    on_event(Event::Reasoning(text));
                }
                Piece::Answer(text) => {
                    let text = self.stop.push(&text);
                    self.say(text, on_event);
                }
            }
        }
    }

    fn say(&mut self, text: String, on_event: &mut dyn FnMut(Event)) {
        if !text.is_empty() {
            self.text.push_str(&text);
            on_event(Event::Text(text));
        }
    }

    fn stats(&self) -> Stats {
        let (decode_secs, first_token_secs) = self.first.map_or((0.0, self.started.secs()), |(since, secs)| (since.secs(), secs));
        Stats {
            prompt_tokens: self.prompt.len(),
            reused_tokens: self.reused.unwrap_or(0),
            new_tokens: self.ids.len(),
            first_token_secs,
            decode_secs,
        }
    }

    /// Lets out what was held back and sums up.
    pub fn finish(mut self, stop: StopReason, on_event: &mut dyn FnMut(Event)) -> Summary {
        let stats = self.stats();
        if !matches!(stop, StopReason::Stop(_)) {
            let rest = self.decoder.as_mut().map(StreamDecoder::finish).unwrap_or_default();
            let mut pieces = self.splitter.push(&rest);
            pieces.extend(self.splitter.finish());
            self.emit(pieces, on_event);
            let held = self.stop.finish();
            self.say(held, on_event);
        }
        // Even the held back end may complete a stop string.
        let stop = self.stop.hit().map_or(stop, |hit| StopReason::Stop(hit.to_string()));
        Summary { stop, ids: self.ids, text: self.text, reasoning: self.reasoning, stats }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Input;
    use crate::text::{GgufVocab, Tokenizer};

    fn tokenizer() -> Tokenizer {
        let tokens = ["<think>", "</think>", "<eos>", "a", "b", "c", "Ã"].map(str::to_string).to_vec();
        let types = vec![4, 4, 3, 1, 1, 1, 1];
        let vocab = GgufVocab { model: "gpt2".into(), pre: "deepseek-v3".into(), tokens, types, ..GgufVocab::default() };
        Tokenizer::from_gguf(vocab, 16).unwrap()
    }

    fn run(ids: &[u32], inside: bool, change: impl Fn(&mut Request)) -> (Summary, Vec<Event>) {
        let mut request = Request::new(Input::Ids(vec![3]));
        change(&mut request);
        let prompt = Prompt { ids: vec![3], splitter: ReasoningSplitter::new(inside) };
        let mut answer = Answer::new(prompt, &request, 100, &[2], Some(tokenizer().stream()), Moment::now());
        let mut events = vec![];
        let mut on_event = |event| events.push(event);
        let stop = ids.iter().find_map(|&id| answer.push(id, &mut on_event)).unwrap_or(StopReason::Cancelled);
        let summary = answer.finish(stop, &mut on_event);
        (summary, events)
    }

    #[test]
    fn reasoning_text_and_end() {
        let (summary, events) = run(&[0, 3, 1, 4, 2, 5], false, |_| ());
        assert_eq!((summary.stop, summary.reasoning.as_str(), summary.text.as_str()), (StopReason::Eos, "a", "b"));
        assert_eq!(summary.ids, [0, 3, 1, 4, 2]);
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Token(_))).count(), 5);
        assert!(events.iter().any(|event| matches!(event, Event::Stats(_))));
        let (summary, _) = run(&[3, 1, 4], true, |_| ());
        assert_eq!((summary.stop, summary.reasoning.as_str(), summary.text.as_str()), (StopReason::Cancelled, "a", "b"));
    }

    #[test]
    fn stop_strings_lengths_and_ignored_ends() {
        let (summary, _) = run(&[3, 4, 5, 3], false, |request| request.stop = vec!["bc".into()]);
        assert_eq!((summary.stop, summary.text.as_str()), (StopReason::Stop("bc".into()), "a"));
        let (summary, _) = run(&[3, 4, 3], false, |request| request.stop = vec!["bc".into()]);
        assert_eq!((summary.stop, summary.text.as_str()), (StopReason::Cancelled, "aba"));
        let (summary, _) = run(&[3, 4, 5], false, |request| request.max_tokens = Some(2));
        assert_eq!((summary.stop, summary.ids), (StopReason::Length, vec![3, 4]));
        let (summary, _) = run(&[3, 2, 5], false, |request| request.ignore_eos = true);
        assert_eq!((summary.stop, summary.text.as_str()), (StopReason::Cancelled, "ac"));
    }

    #[test]
    fn half_characters_are_held_and_unknown_ids_are_no_text() {
        let (summary, events) = run(&[6, 9], false, |_| ());
        assert_eq!(summary.text, "\u{FFFD}");
        assert!(matches!(events.last(), Some(Event::Text(_))));
    }
}
