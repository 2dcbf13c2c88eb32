//! Stop strings over streamed text: what may still become one is held back, nothing after one is let through.
//! The matcher is shared with `reasoning`. Stop *tokens* are the engine's business.

/// Follows one byte pattern through a stream (Knuth, Morris, Pratt): constant amortised work per byte.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    pattern: Vec<u8>,
    /// Entry k: length of the longest proper border of the pattern's first k + 1 bytes.
    border: Vec<usize>,
    matched: usize,
}

impl Matcher {
    /// `pattern` must not be empty.
    pub(super) fn new(pattern: &str) -> Self {
        let pattern = pattern.as_bytes().to_vec();
        assert!(!pattern.is_empty(), "an empty pattern matches everywhere");
        let mut border = vec![0; pattern.len()];
        let mut k = 0;
        for i in 1..pattern.len() {
            while k > 0 && pattern[i] != pattern[k] {
                k = border[k - 1];
            }
            if pattern[i] == pattern[k] {
                k += 1;
            }
            border[i] = k;
        }
        Self { pattern, border, matched: 0 }
    }

    /// Takes one byte; true when the pattern ends at it.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        if self.matched == self.pattern.len() {
            self.matched = self.border[self.matched - 1];
        }
        while self.matched > 0 && self.pattern[self.matched] != byte {
            self.matched = self.border[self.matched - 1];
        }
        if self.pattern[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.pattern.len()
    }

    /// How many of the latest bytes may be the beginning of the pattern.
    pub(super) fn matched(&self) -> usize {
        self.matched
    }

    pub(super) fn len(&self) -> usize {
        self.pattern.len()
    }
}

/// Watches streamed text for any of several strings.
///
/// Of two that end at the same place the longer wins; else the one that ends first.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<(String, Matcher)>,
    held: String,
    hit: Option<usize>,
}

impl StopStrings {
    /// Empty strings are left out: they would stop everything.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops
            .into_iter()
            .filter(|stop| !stop.is_empty())
            .map(|stop| {
                let matcher = Matcher::new(&stop);
                (stop, matcher)
            })
            .collect();
        Self { stops, held: String::new(), hit: None }
    }

    /// Takes the next piece and returns the text that is certainly before any stop string; empty after a hit.
    pub fn push(&mut self, piece: &str) -> String {
        if self.hit.is_some() {
            return String::new();
        }
        if self.stops.is_empty() {
            return piece.to_owned();
        }
        let before = self.held.len();
        self.held.push_str(piece);
        for (offset, byte) in piece.bytes().enumerate() {
            let mut longest: Option<(usize, usize)> = None; // (length, index)
            for (index, (_, matcher)) in self.stops.iter_mut().enumerate() {
                if matcher.push(byte) && longest.is_none_or(|(len, _)| len < matcher.len()) {
                    longest = Some((matcher.len(), index));
                }
            }
            if let Some((len, index)) = longest {
                self.hit = Some(index);
                let mut text = std::mem::take(&mut self.held);
                text.truncate(before + offset + 1 - len);
                return text;
            }
        }
        let partial = self.stops.iter().map(|(_, matcher)| matcher.matched()).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - partial);
        std::mem::replace(&mut self.held, kept)
    }

    /// The stop string that was met, if any.
    pub fn hit(&self) -> Option<&str> {
        self.hit.map(|index| self.stops[index].0.as_str())
    }

    /// The held text at the end of the stream: it was no stop string after all. Empty after a hit.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut watch = StopStrings::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut text: String = pieces.iter().map(|piece| watch.push(piece)).collect();
        text.push_str(&watch.finish());
        (text, watch.hit().map(str::to_owned))
    }

    #[test]
    fn stops_and_holds() {
        assert_eq!(run(&["END"], &["a E", "N", "D tail", "more"]), ("a ".into(), Some("END".into())));
        assert_eq!(run(&["END"], &["a E", "N", "d"]), ("a ENd".into(), None));
        assert_eq!(run(&["b", "abc"], &["xabc"]), ("xa".into(), Some("b".into())));
        assert_eq!(run(&["c", "abc"], &["xabc"]), ("x".into(), Some("abc".into())));
        assert_eq!(run(&["abc", "c"], &["xabc"]), ("x".into(), Some("abc".into())));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b", "z"]), ("a".into(), Some("aab".into())));
        assert_eq!(run(&["", "｜x"], &["é｜", "｜x!"]), ("é｜".into(), Some("｜x".into())));
        assert_eq!(run(&[""], &["all"]), ("all".into(), None));
    }

    #[test]
    fn partial_matches_are_held_back() {
        let mut watch = StopStrings::new(vec!["\n\nUser:".into()]);
        assert_eq!(watch.push("hi\n"), "hi");
        assert_eq!(watch.push("\n"), "");
        assert_eq!(watch.push("\nU"), "\n");
        assert_eq!(watch.push("p"), "\n\nUp");
        assert_eq!(watch.finish(), "");
    }

    #[test]
    fn a_long_almost_match_stays_linear() {
        let mut watch = StopStrings::new(vec![format!("{}b", "a".repeat(50_000))]);
        let mut emitted = 0;
        for _ in 0..200_000 {
            emitted += watch.push("a").len();
        }
        assert_eq!(emitted, 150_000);
        assert_eq!(watch.finish().len(), 50_000);
    }

    proptest! {
        #[test]
        fn equals_a_search_in_the_whole(
            pieces in prop::collection::vec("[abé]{0,4}", 0..12),
            stops in prop::collection::vec("[abé]{1,4}", 1..4),
        ) {
            let whole = pieces.concat();
            let first = (0..=whole.len())
                .filter(|&end| whole.is_char_boundary(end))
                .find_map(|end| {
                    let best = stops.iter().filter(|s| whole[..end].ends_with(s.as_str())).max_by_key(|s| s.len())?;
                    Some((whole[..end - best.len()].to_owned(), Some(best.clone())))
                })
                .unwrap_or((whole.clone(), None));
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stops, &pieces), first);
        }
    }
}
