//! From token ids to text one token at a time, never showing half a character.
//! Which ids end an answer is the engine's business.

use std::sync::Arc;

use super::TextError;

/// The bytes each token stands for, by id.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// Per id: where its bytes begin and end, and how it is treated.
    spans: Vec<(u32, u32, Kind)>,
    /// SentencePiece writes a space before the first word, which is not part of the text.
    pub(super) strips_first_space: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No token has this id.
    Missing,
    Text,
    /// A control token: left out unless asked for.
    Special,
}

impl Pieces {
    /// Sets the bytes of `id`. The caller has bounded ids by the embedding's rows and lengths by `MAX_TOKEN_BYTES`.
    pub(super) fn set(&mut self, id: u32, bytes: &[u8], kind: Kind) {
        let index = id as usize;
        if self.spans.len() <= index {
            self.spans.resize(index + 1, (0, 0, Kind::Missing));
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.spans[index] = (start as u32, self.bytes.len() as u32, kind);
    }

    /// One more than the largest id.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn get(&self, id: u32) -> Result<(&[u8], Kind), TextError> {
        match self.spans.get(id as usize) {
            Some(&(start, end, kind)) if kind != Kind::Missing => Ok((&self.bytes[start as usize..end as usize], kind)),
            _ => Err(TextError::UnknownId { id, len: self.spans.len() }),
        }
    }
}

/// Turns ids into text as they come. The pieces joined equal [`super::Tokenizer::decode`] of all ids at once.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    pieces: Arc<Pieces>,
    keeps_special: bool,
    /// The unfinished character: at most three bytes between calls.
    pending: Vec<u8>,
    at_start: bool,
}

impl StreamDecoder {
    pub(super) fn new(pieces: Arc<Pieces>, keeps_special: bool) -> Self {
        Self { pieces, keeps_special, pending: Vec::new(), at_start: true }
    }

    /// The text that `id` completes; empty while a character is unfinished. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// `UnknownId` if no token has this id; the decoder can go on.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        let (mut bytes, kind) = self.pieces.get(id)?;
        if kind == Kind::Special && !self.keeps_special {
            return Ok(String::new());
        }
        if self.at_start && self.pieces.strips_first_space {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.at_start = false;
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    if let Some(bad) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &rest[bad..];
                        continue;
                    }
                }
            }
            break;
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        Ok(text)
    }

    /// What is left at the end: U+FFFD for a character never finished, else nothing. The decoder starts afresh.
    pub fn finish(&mut self) -> String {
        self.at_start = true;
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ids 0…255 are single bytes, 256 a control token, 258 a whole word; 257 is missing.
    fn pieces() -> Arc<Pieces> {
        let mut pieces = Pieces::default();
        for byte in 0..=255u8 {
            pieces.set(u32::from(byte), &[byte], Kind::Text);
        }
        pieces.set(256, b"<|end|>", Kind::Special);
        pieces.set(258, "né ｜".as_bytes(), Kind::Text);
        Arc::new(pieces)
    }

    #[test]
    fn half_characters_wait() {
        let mut stream = StreamDecoder::new(pieces(), false);
        let out: Vec<String> = "é｜😀".bytes().map(|b| stream.push(u32::from(b)).unwrap()).collect();
        assert_eq!(out, ["", "é", "", "", "｜", "", "", "", "😀"]);
        assert_eq!(stream.push(0xE2).unwrap(), "");
        assert_eq!(stream.push(u32::from(b'a')).unwrap(), "\u{FFFD}a");
        assert_eq!(stream.push(0xF0).unwrap(), "");
        assert_eq!(stream.finish(), "\u{FFFD}");
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn control_tokens_and_unknown_ids() {
        assert_eq!(StreamDecoder::new(pieces(), false).push(256).unwrap(), "");
        assert_eq!(StreamDecoder::new(pieces(), true).push(256).unwrap(), "<|end|>");
        for id in [257, 259, u32::MAX] {
            let error = StreamDecoder::new(pieces(), false).push(id).unwrap_err();
            assert!(error.to_string().contains(&id.to_string()), "{error}");
        }
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_whole(ids in prop::collection::vec(prop_oneof![0u32..=256, Just(258), 0xC0u32..=0xF8], 0..40)) {
            let table = pieces();
            let mut whole = Vec::new();
            for &id in ids.iter().filter(|&&id| id != 256) {
                whole.extend_from_slice(table.get(id).unwrap().0);
            }
            let mut stream = StreamDecoder::new(table, false);
            let mut text = String::new();
            for id in ids {
                text.push_str(&stream.push(id).unwrap());
            }
            text.push_str(&stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&whole).into_owned());
        }
    }
}
