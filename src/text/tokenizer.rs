//! Text to token ids and back. The byte-pair and regex work is the `tokenizers` crate's; this file checks a vocabulary before
//! handing it over, encodes with or without special tokens, and keeps the bytes of every token for decoding.
//! Reading the two file formats is left to `tokenizer_json` and `vocab`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{
    AddedToken, Model, NormalizedString, Normalizer, NormalizerWrapper, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    Token,
};

use super::spm::SentencePiece;
use super::stream::{Kind, Pieces, StreamDecoder};
use super::{TextError, shown};

/// A longer token is taken for an attack: the longest of the DeepSeek family has 128 bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 8192;

/// A checked vocabulary: text to ids and ids to text. Cheap to share behind an `Arc`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Present for GGUF `llama` vocabularies, whose merging by score the crate does not have.
    sentence_piece: Option<SentencePiece>,
    pieces: Arc<Pieces>,
    ids: HashMap<String, u32>,
    texts: HashMap<u32, String>,
    /// Ids that plain text must never become.
    reserved: HashSet<u32>,
    /// Added tokens (special or not) by their first two characters; one of a single character stands under `(c, None)`.
    added: HashMap<(char, Option<char>), Vec<String>>,
}

/// A vocabulary as read, in one form for both file formats. `assemble` checks it.
pub(super) struct Parts {
    /// Names the file in errors: `tokenizer.json` or `tokenizer.ggml`.
    pub origin: &'static str,
    pub vocab: Vec<(String, u64)>,
    pub merges: Vec<(String, String)>,
    pub added: Vec<(u64, AddedToken)>,
    pub unk: Option<String>,
    pub fuse_unk: bool,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
    pub coding: Coding,
    pub sentence_piece: Option<SentencePiece>,
}

/// How the text of a vocabulary token stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// GPT-2's: every character is one byte.
    ByteLevel,
    /// `▁` is a space, `<0xNN>` a byte.
    SentencePiece { strips_first_space: bool },
    /// The text itself.
    Verbatim,
}

impl Tokenizer {
    /// Reads a Hugging Face `tokenizer.json` with a BPE model. `vocab_rows`: rows of the embedding.
    ///
    /// Truncation, padding and post-processing are left out: callers bound their prompts, templates print BOS.
    ///
    /// # Errors
    /// Names the field (or the token and id) that is not as it must be.
    pub fn from_json(bytes: &[u8], vocab_rows: usize) -> Result<Self, TextError> {
        Self::assemble(super::tokenizer_json::read(bytes)?, vocab_rows)
    }

    /// Builds the tokenizer of a GGUF file. `vocab_rows`: rows of the embedding.
    ///
    /// # Errors
    /// Names the metadata key (or the token and id) that is not as it must be.
    pub fn from_gguf(vocab: super::GgufVocab, vocab_rows: usize) -> Result<Self, TextError> {
        if vocab.tokens.len() > vocab_rows {
            let found = format!("{} tokens", vocab.tokens.len());
            return Err(TextError::field("tokenizer.ggml.tokens", format!("at most {vocab_rows} (the embedding's rows)"), found));
        }
        Self::assemble(vocab.into_parts()?, vocab_rows)
    }

    fn assemble(parts: Parts, vocab_rows: usize) -> Result<Self, TextError> {
        let origin = parts.origin;
        let mut ids: HashMap<String, u32> = HashMap::with_capacity(parts.vocab.len() + parts.added.len());
        let mut texts: HashMap<u32, String> = HashMap::with_capacity(parts.vocab.len() + parts.added.len());
        let mut check = |token: &str, id: u64| -> Result<u32, TextError> {
            let row = match u32::try_from(id) {
                Ok(row) if (row as usize) < vocab_rows => row,
                _ => return Err(TextError::IdPastEmbedding { token: shown(token), id, rows: vocab_rows }),
            };
            if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
                let expected = format!("1 to {MAX_TOKEN_BYTES} bytes");
                return Err(TextError::field(format!("{origin} token {id}"), expected, format!("{} bytes", token.len())));
            }
            if let Some(&other) = ids.get(token).filter(|&&other| other != row) {
                let found = format!("{other} and {row}");
                return Err(TextError::field(format!("{origin} token `{}`", shown(token)), "one id", found));
            }
            if let Some(other) = texts.get(&row).filter(|other| *other != token) {
                let found = format!("`{}` and `{}`", shown(other), shown(token));
                return Err(TextError::field(format!("{origin} token {row}"), "one text", found));
            }
            ids.insert(token.to_owned(), row);
            texts.insert(row, token.to_owned());
            Ok(row)
        };

        let mut pieces = Pieces::default();
        pieces.strips_first_space = parts.coding == (Coding::SentencePiece { strips_first_space: true });
        let byte_of = byte_of_char();
        for (token, id) in &parts.vocab {
            let id = check(token, *id)?;
            pieces.set(id, &piece_bytes(token, parts.coding, &byte_of), Kind::Text);
        }
        let mut reserved = HashSet::new();
        let own: HashSet<&str> = parts.vocab.iter().map(|(token, _)| token.as_str()).collect();
        for (id, token) in &parts.added {
            let id = check(&token.content, *id)?;
            pieces.set(id, token.content.as_bytes(), if token.special { Kind::Special } else { Kind::Text });
            if token.special || !own.contains(token.content.as_str()) {
                reserved.insert(id);
            }
        }
        drop(own);
        check_merges(&parts, &ids)?;

        // Added tokens enter the model's vocabulary too: that is how the crate learns their ids.
        let vocab: Vocab = ids.iter().map(|(token, &id)| (token.clone(), id)).collect();
        let mut builder = BPE::builder()
            .vocab_and_merges(vocab, parts.merges)
            .fuse_unk(parts.fuse_unk)
            .byte_fallback(parts.byte_fallback)
            .ignore_merges(parts.ignore_merges);
        if let Some(unk) = parts.unk {
            if !ids.contains_key(&unk) {
                return Err(TextError::field(format!("{origin} unk_token"), "a known token", format!("`{}`", shown(&unk))));
            }
            builder = builder.unk_token(unk);
        }
        let failed = |source| TextError::Tokenizers { what: "vocabulary", source };
        let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(failed)?);
        inner.with_normalizer(parts.normalizer).map_err(failed)?;
        inner.with_pre_tokenizer(parts.pre_tokenizer);
        let mut added: HashMap<(char, Option<char>), Vec<String>> = HashMap::new();
        for (_, token) in &parts.added {
            let mut chars = token.content.chars();
            if let Some(first) = chars.next() {
                added.entry((first, chars.next())).or_default().push(token.content.clone());
            }
        }
        inner.add_tokens(parts.added.into_iter().map(|(_, token)| token)).map_err(failed)?;
        let sentence_piece = parts.sentence_piece;
        Ok(Self { inner, sentence_piece, pieces: Arc::new(pieces), ids, texts, reserved, added })
    }

    /// Ids of `text`; special tokens written in it are recognised, as templates need. No BOS is added.
    ///
    /// Characters the vocabulary cannot spell are left out, as in the reference.
    ///
    /// # Errors
    /// When a regex of the tokenizer gives up on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_around(text, None)
    }

    /// Ids of text from outside: what looks like a special token in it stays text.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            normalizer.normalize(&mut normalized).map_err(encoding_failed)?;
        }
        self.finish(PreTokenizedString::from(normalized))
    }

    /// As `encode`, but special tokens are looked for before every `marker` is taken out: one with a marker inside is text.
    pub(super) fn encode_around(&self, text: &str, marker: Option<char>) -> Result<Vec<u32>, TextError> {
        let mut split = self.inner.get_added_vocabulary().extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(marker) = marker {
            split
                .normalize(|part| {
                    part.filter(|c| c != marker);
                    Ok(())
                })
                .map_err(encoding_failed)?;
        }
        self.finish(split)
    }

    fn finish(&self, mut split: PreTokenizedString) -> Result<Vec<u32>, TextError> {
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut split).map_err(encoding_failed)?;
        }
        split.tokenize(|part| self.tokenize(part.get())).map_err(encoding_failed)?;
        let encoding = split.into_encoding(None, 0, OffsetType::None).map_err(encoding_failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens of one pre-token.
    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        if let Some(model) = &self.sentence_piece {
            return Ok(model.encode(text).into_iter().map(|id| Token::new(id, String::new(), (0, 0))).collect());
        }
        let tokens = self.inner.get_model().tokenize(text)?;
        if !tokens.iter().any(|token| self.reserved.contains(&token.id)) {
            return Ok(tokens);
        }
        // With `ignore_merges` a whole word can equal a control token's name: it is spelled out instead.
        let mut spelled = Vec::new();
        for (at, c) in text.char_indices() {
            spelled.extend(self.inner.get_model().tokenize(&text[at..at + c.len_utf8()])?);
        }
        spelled.retain(|token| !self.reserved.contains(&token.id));
        Ok(spelled)
    }

    /// The text of `ids`. Control tokens (`<|im_end|>`) are left out; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// `UnknownId` for an id that no token has.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        decode(self.stream(), ids)
    }

    /// The text of `ids` with control tokens written out.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_verbatim(&self, ids: &[u32]) -> Result<String, TextError> {
        decode(self.stream_verbatim(), ids)
    }

    /// A decoder for ids that come one at a time.
    pub fn stream(&self) -> StreamDecoder {
        StreamDecoder::new(Arc::clone(&self.pieces), false)
    }

    /// A decoder that writes control tokens out.
    pub fn stream_verbatim(&self) -> StreamDecoder {
        StreamDecoder::new(Arc::clone(&self.pieces), true)
    }

    /// The id of a token by its exact text in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// A token's text as the vocabulary writes it (byte-level tokens stay in their alphabet).
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.texts.get(&id).map(String::as_str)
    }

    /// A token by itself, control tokens written out; bytes that are no whole character become U+FFFD.
    pub fn piece(&self, id: u32) -> Option<String> {
        self.pieces.get(id).ok().map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned())
    }

    /// True for control tokens, which `decode` leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.pieces.get(id), Ok((_, Kind::Special)))
    }

    /// One more than the largest id: rows of the embedding from here on are unused and must not be sampled.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// True when there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Added tokens that `text` begins with.
    pub(super) fn added_at<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut chars = text.chars();
        let (first, second) = (chars.next().unwrap_or_default(), chars.next());
        let single = self.added.get(&(first, None));
        let longer = second.and_then(|second| self.added.get(&(first, Some(second))));
        single.into_iter().chain(longer).flatten().map(String::as_str).filter(move |token| text.starts_with(token))
    }

    /// All added tokens.
    pub(super) fn added(&self) -> impl Iterator<Item = &str> {
        self.added.values().flatten().map(String::as_str)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let added: usize = self.added.values().map(Vec::len).sum();
        f.debug_struct("Tokenizer").field("len", &self.len()).field("added", &added).finish_non_exhaustive()
    }
}

fn decode(mut stream: StreamDecoder, ids: &[u32]) -> Result<String, TextError> {
    let mut text = String::new();
    for &id in ids {
        text.push_str(&stream.push(id)?);
    }
    text.push_str(&stream.finish());
    Ok(text)
}

fn encoding_failed(source: tokenizers::Error) -> TextError {
    TextError::Tokenizers { what: "text", source }
}

/// Every merge joins two known tokens to a known third, once. The crate would panic on some that do not.
fn check_merges(parts: &Parts, ids: &HashMap<String, u32>) -> Result<(), TextError> {
    let mut seen = HashSet::with_capacity(parts.merges.len());
    let mut joined = String::new();
    for (index, (left, right)) in parts.merges.iter().enumerate() {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        for token in [left, right, &joined] {
            if !ids.contains_key(token.as_str()) {
                let found = format!("unknown `{}` in `{} {}`", shown(token), shown(left), shown(right));
                return Err(TextError::field(format!("{}.merges[{index}]", parts.origin), "known tokens", found));
            }
        }
        if !seen.insert((left, right)) {
            let found = format!("`{} {}` again", shown(left), shown(right));
            return Err(TextError::field(format!("{}.merges[{index}]", parts.origin), "a new pair", found));
        }
    }
    Ok(())
}

fn piece_bytes(token: &str, coding: Coding, byte_of: &HashMap<char, u8>) -> Vec<u8> {
    match coding {
        Coding::ByteLevel => {
            let bytes: Option<Vec<u8>> = token.chars().map(|c| byte_of.get(&c).copied()).collect();
            bytes.unwrap_or_else(|| token.as_bytes().to_vec())
        }
        Coding::SentencePiece { .. } => match byte_token(token) {
            Some(byte) => vec![byte],
            None => token.replace('▁', " ").into_bytes(),
        },
        Coding::Verbatim => token.as_bytes().to_vec(),
    }
}

/// The byte that `<0xNN>` stands for; the form is exact, so `<0x-1>` and `<0x+F>` are no bytes.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}

/// GPT-2's byte alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 onwards, in order.
fn byte_of_char() -> HashMap<char, u8> {
    let mut next = 0x100u32;
    let mut map = HashMap::with_capacity(256);
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let c = if printable { Some(char::from(byte)) } else { char::from_u32(next) };
        next += u32::from(!printable);
        if let Some(c) = c {
            map.insert(c, byte);
        }
    }
    map
}
