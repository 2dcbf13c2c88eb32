//! SentencePiece's BPE as GGUF `llama` vocabularies hold it: a score per token and no merge list. The `tokenizers` crate
//! orders merges by a list, which cannot express equal scores, so the merging is done here.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// Merges neighbours while a token spells both, best score first, leftmost first among equals.
pub(super) struct SentencePiece {
    /// Ids and scores of the tokens that text may become.
    pub tokens: HashMap<String, (u32, f32)>,
    /// What a byte becomes that no token spells; `None` drops it.
    pub bytes: [Option<u32>; 256],
    pub unknown: Option<u32>,
    /// A space goes before the text, and before what follows a special token.
    pub adds_space: bool,
}

struct Symbol {
    /// Bytes of the text, empty once merged into the one before.
    start: usize,
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
}

struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Candidate {}

impl SentencePiece {
    /// Ids of one stretch of text between special tokens.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        if text.is_empty() {
            return Vec::new();
        }
        let text = format!("{}{text}", if self.adds_space { " " } else { "" }).replace(' ', "▁");
        let count = text.chars().count();
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(i, (start, c))| Symbol {
                start,
                end: start + c.len_utf8(),
                before: i.checked_sub(1),
                after: Some(i + 1).filter(|&next| next < count),
            })
            .collect();
        let mut queue = BinaryHeap::new();
        for left in 0..count.saturating_sub(1) {
            self.propose(&text, &symbols, left, &mut queue);
        }
        while let Some(Candidate { left, right, len, .. }) = queue.pop() {
            // Stale when either side has changed since: then the lengths no longer add up.
            let (a, b) = (&symbols[left], &symbols[right]);
            if a.start == a.end || b.start == b.end || b.end - a.start != len || a.after != Some(right) {
                continue;
            }
            let (end, after) = (b.end, b.after);
            symbols[left].end = end;
            symbols[left].after = after;
            symbols[right].start = end;
            if let Some(after) = after {
                symbols[after].before = Some(left);
                self.propose(&text, &symbols, left, &mut queue);
            }
            if let Some(before) = symbols[left].before {
                self.propose(&text, &symbols, before, &mut queue);
            }
        }
        let mut ids = Vec::new();
        let mut next = Some(0);
        while let Some(symbol) = next.map(|i| &symbols[i]) {
            let piece = &text[symbol.start..symbol.end];
            match self.tokens.get(piece) {
                Some(&(id, _)) => ids.push(id),
                None => ids.extend(piece.bytes().filter_map(|byte| self.bytes[usize::from(byte)].or(self.unknown))),
            }
            next = symbol.after;
        }
        ids
    }

    /// Queues the merge of the symbol `left` with the one after it, if a token spells both.
    fn propose(&self, text: &str, symbols: &[Symbol], left: usize, queue: &mut BinaryHeap<Candidate>) {
        let Some(right) = symbols[left].after else { return };
        let (start, end) = (symbols[left].start, symbols[right].end);
        if let Some(&(_, score)) = self.tokens.get(&text[start..end]) {
            queue.push(Candidate { score, left, right, len: end - start });
        }
    }
}
