//! Vocabularies as GGUF metadata holds them (`tokenizer.ggml.*`): byte-level BPE (`gpt2`) with a named pre-tokenizer, and
//! SentencePiece (`llama`). Reading the metadata is left to the checkpoint reader.

use std::collections::HashMap;

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::spm::SentencePiece;
use super::tokenizer::{Coding, Parts, byte_token};
use super::{TextError, shown};

/// The vocabulary as GGUF metadata holds it; each field is `tokenizer.ggml.` and the name given.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// `model`: `gpt2` or `llama`.
    pub model: String,
    /// `pre`: the pre-tokenizer's name (`gpt2` only).
    pub pre: String,
    /// `tokens`, by id.
    pub tokens: Vec<String>,
    /// `token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty: all normal.
    pub types: Vec<i32>,
    /// `merges`, best first, two tokens with a space between (`gpt2` only).
    pub merges: Vec<String>,
    /// `scores`, by id (`llama` only).
    pub scores: Vec<f32>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `add_bos_token`. Templates print BOS; this is for raw completion.
    pub add_bos: bool,
    /// `add_space_prefix`, true when the file does not say (`llama` only).
    pub add_space_prefix: bool,
}

const ORIGIN: &str = "tokenizer.ggml";
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

impl GgufVocab {
    pub(super) fn into_parts(self) -> Result<Parts, TextError> {
        self.check()?;
        match self.model.as_str() {
            "gpt2" => self.byte_level(),
            "llama" => self.sentence_piece(),
            other => Err(TextError::field(format!("{ORIGIN}.model"), "`gpt2` or `llama`", format!("`{}`", shown(other)))),
        }
    }

    fn check(&self) -> Result<(), TextError> {
        let count = self.tokens.len();
        let lengths = [("token_type", self.types.len(), self.types.is_empty()), ("scores", self.scores.len(), self.scores.is_empty())];
        for (name, len, absent) in lengths {
            if !absent && len != count {
                let expected = format!("{count}, one for each token");
                return Err(TextError::field(format!("{ORIGIN}.{name}"), expected, len.to_string()));
            }
        }
        for (id, &kind) in self.types.iter().enumerate() {
            if !(NORMAL..=BYTE).contains(&kind) {
                return Err(TextError::field(format!("{ORIGIN}.token_type[{id}]"), "1 to 6", kind.to_string()));
            }
            if kind == BYTE && byte_token(&self.tokens[id]).is_none() {
                let found = format!("`{}`", shown(&self.tokens[id]));
                return Err(TextError::field(format!("{ORIGIN}.tokens[{id}]"), "a byte as `<0x0A>`", found));
            }
        }
        for (name, id) in [("bos_token_id", self.bos), ("eos_token_id", self.eos)] {
            if let Some(id) = id.filter(|&id| id as usize >= count) {
                return Err(TextError::field(format!("{ORIGIN}.{name}"), format!("an id below {count}"), id.to_string()));
            }
        }
        Ok(())
    }

    fn kind(&self, id: usize) -> i32 {
        self.types.get(id).copied().unwrap_or(NORMAL)
    }

    /// Control and user-defined tokens, found in text before anything else.
    fn added(&self) -> Vec<(u64, AddedToken)> {
        let added = |id: usize| matches!(self.kind(id), CONTROL | USER_DEFINED);
        let token = |id: usize| AddedToken::from(self.tokens[id].as_str(), self.kind(id) == CONTROL).normalized(false);
        (0..self.tokens.len()).filter(|&id| added(id)).map(|id| (id as u64, token(id))).collect()
    }

    /// The other tokens in use, as `(text, id)`.
    fn ordinary(&self) -> Vec<(String, u64)> {
        let keep = |id: usize| !matches!(self.kind(id), CONTROL | USER_DEFINED | UNUSED);
        let tokens = self.tokens.iter().enumerate();
        tokens.filter(|(id, _)| keep(*id)).map(|(id, token)| (token.clone(), id as u64)).collect()
    }

    fn byte_level(self) -> Result<Parts, TextError> {
        let (patterns, ignore_merges) = pre_tokenizer(&self.pre)?;
        let failed = |source| TextError::Tokenizers { what: "pre-tokenizer", source };
        let mut steps = Vec::with_capacity(patterns.len() + 1);
        for pattern in patterns {
            let pattern = SplitPattern::Regex(pattern);
            steps.push(PreTokenizerWrapper::Split(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed)?));
        }
        steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)));
        let mut merges = Vec::with_capacity(self.merges.len());
        for (index, merge) in self.merges.iter().enumerate() {
            // A token may itself begin with a space, never be one: the separator is the first space after the first byte.
            let at = merge.bytes().skip(1).position(|byte| byte == b' ').map(|at| at + 1);
            let Some(at) = at else {
                let found = format!("`{}`", shown(merge));
                return Err(TextError::field(format!("{ORIGIN}.merges[{index}]"), "two tokens and a space", found));
            };
            merges.push((merge[..at].to_owned(), merge[at + 1..].to_owned()));
        }
        Ok(Parts {
            origin: ORIGIN,
            vocab: self.ordinary(),
            merges,
            added: self.added(),
            unk: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges,
            normalizer: None,
            pre_tokenizer: Some(PreTokenizerWrapper::Sequence(Sequence::new(steps))),
            coding: Coding::ByteLevel,
            sentence_piece: None,
        })
    }

    fn sentence_piece(self) -> Result<Parts, TextError> {
        if self.scores.len() != self.tokens.len() {
            let expected = format!("{}, one for each token", self.tokens.len());
            return Err(TextError::field(format!("{ORIGIN}.scores"), expected, self.scores.len().to_string()));
        }
        let mut model = SentencePiece { tokens: HashMap::new(), bytes: [None; 256], unknown: None, adds_space: self.add_space_prefix };
        for (id, (token, &score)) in self.tokens.iter().zip(&self.scores).enumerate() {
            if !score.is_finite() {
                return Err(TextError::field(format!("{ORIGIN}.scores[{id}]"), "a finite number", score.to_string()));
            }
            let row = id as u32;
            match (self.kind(id), byte_token(token)) {
                (NORMAL, _) => {
                    model.tokens.insert(token.clone(), (row, score));
                }
                (BYTE, Some(byte)) => model.bytes[usize::from(byte)] = Some(row),
                (UNKNOWN, _) => model.unknown = Some(row),
                _ => {}
            }
        }
        Ok(Parts {
            origin: ORIGIN,
            vocab: self.ordinary(),
            merges: Vec::new(),
            added: self.added(),
            unk: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            normalizer: None,
            pre_tokenizer: None,
            coding: Coding::SentencePiece { strips_first_space: self.add_space_prefix },
            sentence_piece: Some(model),
        })
    }
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const LINE_BREAK: &str = r"[\r\n]";
/// U+0800…U+9FA5 and Hangul, as DeepSeek's V2 tokenizer has it.
const V2_EAST_ASIAN: &str = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
/// `:-~` takes in the ASCII letters, so this splits accented words again: so does the released tokenizer.
const V2_PUNCTUATION: &str = r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+";
pub(super) const V3_DIGITS: &str = r"\p{N}{1,3}";
pub(super) const V3_CJK: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
pub(super) const V3_WORDS: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// The letters with case that DeepSeek's V2 tokenizer lists. `\p{L&}` of today has more.
const V2_LETTERS: &str = concat!(
    r"A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}",
    r"\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}",
    r"\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}",
    r"\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}",
    r"\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}",
    r"\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}",
    r"\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}",
    r"\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}",
    r"\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}",
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}",
    r"\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}",
    r"\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}",
    r"\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}",
);

/// Names understood in `tokenizer.ggml.pre`.
const SUPPORTED: &[&str] = &[
    "smollm",
    "gpt-2",
    "default",
    "llama-bpe",
    "llama3",
    "llama-v3",
    "qwen2",
    "deepseek-r1-qwen",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
];

/// The splits of a named pre-tokenizer, in order, and whether a whole word in the vocabulary skips the merges.
fn pre_tokenizer(name: &str) -> Result<(Vec<String>, bool), TextError> {
    let patterns: &[&str] = match name {
        "smollm" => &[DIGIT, GPT2],
        "gpt-2" => &[GPT2],
        // What GGUF's readers do when the converter did not know the tokenizer.
        "default" => &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        "llama-bpe" | "llama3" | "llama-v3" => &[LLAMA3],
        "qwen2" | "deepseek-r1-qwen" => &[QWEN2],
        "deepseek-llm" => {
            let letters = format!(r"\s?[{V2_LETTERS}]+");
            let patterns = [LINE_BREAK, &letters, V2_PUNCTUATION, r"\s+$", V2_EAST_ASIAN, DIGIT];
            return Ok((patterns.map(str::to_owned).to_vec(), false));
        }
        "deepseek-coder" => &[LINE_BREAK, r"\s?\p{L}+", r"\s?\p{P}+", V2_EAST_ASIAN, DIGIT],
        "deepseek-v3" => &[V3_DIGITS, V3_CJK, V3_WORDS],
        other => {
            let expected = format!("one of {}", SUPPORTED.join(", "));
            return Err(TextError::field(format!("{ORIGIN}.pre"), expected, format!("`{}`", shown(other))));
        }
    };
    Ok((patterns.iter().map(|&pattern| pattern.to_owned()).collect(), name.starts_with("llama")))
}

#[cfg(test)]
#[path = "vocab_tests.rs"]
mod tests;
