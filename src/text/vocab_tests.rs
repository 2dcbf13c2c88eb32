use super::*;
use crate::text::{ChatTemplate, RenderOptions, SpecialTokens, Tokenizer, template::tests::user_turns};

fn split(name: &str, text: &str) -> Vec<String> {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
    let (patterns, _) = pre_tokenizer(name).unwrap();
    let mut text = PreTokenizedString::from(text);
    for pattern in patterns {
        let pattern = SplitPattern::Regex(pattern);
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap().pre_tokenize(&mut text).unwrap();
    }
    text.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter().map(|(part, _, _)| part.to_owned()).collect()
}

#[test]
fn pre_tokenizers_split_as_named() {
    let text = "It's  Été 1234!\n\n你好ab";
    assert_eq!(split("gpt-2", text), ["It", "'s", " ", " Été", " 1234", "!", "\n", "\n", "你好ab"]);
    assert_eq!(split("smollm", text), ["It", "'s", " ", " Été", " ", "1", "2", "3", "4", "!", "\n", "\n", "你好ab"]);
    assert_eq!(split("qwen2", text), ["It", "'s", " ", " Été", " ", "1", "2", "3", "4", "!\n\n", "你好ab"]);
    assert_eq!(split("llama-bpe", text), ["It", "'s", " ", " Été", " ", "123", "4", "!\n\n", "你好ab"]);
    assert_eq!(split("deepseek-v3", text), ["It", "'s", " ", " Été", " ", "123", "4", "!\n\n", "你好", "ab"]);
    assert_eq!(split("deepseek-llm", text), ["It", "'", "s", " ", " É", "t", "é", " ", "1", "2", "3", "4", "!", "\n", "\n", "你好", "ab"]);
    assert_eq!(split("deepseek-coder", text), ["It", "'", "s", " ", " Été", " ", "1", "2", "3", "4", "!", "\n", "\n", "你好", "ab"]);
    for name in SUPPORTED {
        assert_eq!(split(name, text).concat(), text, "{name}");
        // Long runs must not be quadratic.
        let long = format!("{}a{}", " ".repeat(100_000), "!".repeat(100_000));
        assert_eq!(split(name, &long).concat(), long, "{name}");
    }
}

fn sample() -> GgufVocab {
    let tokens = ["a", "b", "Ġ", "ab", "Ġab", "<|end|>", "<tool>", "<pad>"].map(str::to_owned).to_vec();
    GgufVocab {
        model: "gpt2".into(),
        pre: "gpt-2".into(),
        tokens,
        types: vec![1, 1, 1, 1, 1, 3, 4, 5],
        merges: vec!["a b".into(), "Ġ ab".into()],
        ..GgufVocab::default()
    }
}

#[test]
fn byte_level_vocabulary() {
    let tokenizer = Tokenizer::from_gguf(sample(), 8).unwrap();
    assert_eq!(tokenizer.encode("ab ab<|end|><tool>ba").unwrap(), [3, 4, 5, 6, 1, 0]);
    assert_eq!(tokenizer.decode(&[3, 4, 5, 6]).unwrap(), "ab ab<tool>");
    assert!(!tokenizer.encode_plain("ab<|end|>").unwrap().contains(&5));
    assert!(tokenizer.decode(&[7]).is_err(), "an unused token has no text");
    assert_eq!(tokenizer.len(), 7);
}

#[test]
fn hostile_vocabularies_are_refused_by_key() {
    let refuse = |change: &dyn Fn(&mut GgufVocab), rows: usize, expected: &str| {
        let mut vocab = sample();
        change(&mut vocab);
        let error = Tokenizer::from_gguf(vocab, rows).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    refuse(&|v| v.model = "bert".into(), 8, "tokenizer.ggml.model: expected `gpt2` or `llama`, found `bert`");
    refuse(&|v| v.pre = "mystery".into(), 8, "found `mystery`");
    refuse(&|v| v.pre = String::new(), 8, "one of smollm");
    refuse(&|_| (), 7, "at most 7 (the embedding's rows), found 8 tokens");
    refuse(&|v| v.types.truncate(7), 8, "token_type: expected 8, one for each token, found 7");
    refuse(&|v| v.types[2] = 9, 8, "token_type[2]");
    refuse(&|v| v.scores = vec![0.0], 8, "tokenizer.ggml.scores");
    refuse(&|v| v.tokens[1] = "a".into(), 8, "token `a`: expected one id, found 0 and 1");
    refuse(&|v| v.tokens[1] = String::new(), 8, "1 to 8192 bytes");
    refuse(&|v| v.tokens[1] = "x".repeat(1 << 20), 8, "found 1048576 bytes");
    refuse(&|v| v.merges[0] = "a zz".into(), 8, "merges[0]: expected known tokens, found unknown `zz`");
    refuse(&|v| v.merges[0] = "b a".into(), 8, "unknown `ba`");
    refuse(&|v| v.merges[0] = "ab".into(), 8, "merges[0]: expected two tokens and a space");
    refuse(&|v| v.merges[0] = "é".into(), 8, "two tokens");
    refuse(&|v| v.merges.push("a b".into()), 8, "merges[2]: expected a new pair");
    refuse(&|v| v.eos = Some(8), 8, "eos_token_id: expected an id below 8");
    for byte in ["<0x-1>", "<0x+1>", "<0x100>", "<0x1>", "<0xG0>", "<0x１>"] {
        refuse(&|v| (v.types[1], v.tokens[1]) = (6, byte.into()), 8, "a byte as `<0x0A>`");
    }
}

/// Tokens with scores: `▁ab` beats `ab`, equal scores go left to right, bytes spell the rest.
#[test]
fn sentence_piece_vocabulary() {
    let named = ["<unk>", "<s>", "▁", "a", "b", "ab", "▁ab", "aa", "ba"];
    let mut tokens = named.map(str::to_owned).to_vec();
    let mut types = vec![2, 3, 1, 1, 1, 1, 1, 1, 1];
    let mut scores = vec![0.0, 0.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0, -2.0];
    for byte in 0..=255u8 {
        tokens.push(format!("<0x{byte:02X}>"));
        types.push(6);
        scores.push(0.0);
    }
    let vocab = GgufVocab { model: "llama".into(), tokens, types, scores, add_space_prefix: true, ..GgufVocab::default() };
    let tokenizer = Tokenizer::from_gguf(vocab.clone(), 1000).unwrap();
    assert_eq!(tokenizer.encode("ab ab").unwrap(), [6, 6]);
    assert_eq!(tokenizer.encode("<s>aab").unwrap(), [1, 2, 3, 5]);
    assert_eq!(tokenizer.encode("bab").unwrap(), [2, 8, 4], "equal scores: the leftmost pair first");
    assert_eq!(tokenizer.encode("é\n").unwrap(), [2, 9 + 0xC3, 9 + 0xA9, 9 + 10]);
    assert!(!tokenizer.encode_plain("<s>").unwrap().contains(&1));
    assert_eq!(tokenizer.encode("").unwrap(), [] as [u32; 0]);
    for text in ["ab ab", " a", "é ｜ ab", "a\nb  "] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
    }
    let mut bad = vocab;
    bad.scores[3] = f32::NAN;
    assert!(Tokenizer::from_gguf(bad, 1000).unwrap_err().to_string().contains("scores[3]"));
}

/// The GGUF's strings, read in the barest way: only what this test needs of the format.
fn smollm() -> Option<GgufVocab> {
    struct Reader(std::io::BufReader<std::fs::File>);
    impl Reader {
        fn bytes(&mut self, len: u64) -> Vec<u8> {
            use std::io::Read;
            let mut bytes = vec![0; usize::try_from(len).unwrap()];
            self.0.read_exact(&mut bytes).unwrap();
            bytes
        }
        fn number(&mut self, len: u64) -> u64 {
            self.bytes(len).iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
        }
        fn text(&mut self) -> String {
            let len = self.number(8);
            String::from_utf8(self.bytes(len)).unwrap()
        }
        /// Texts of a value; numbers are written out.
        fn value(&mut self, kind: u64) -> Vec<String> {
            match kind {
                8 => vec![self.text()],
                9 => {
                    let (kind, count) = (self.number(4), self.number(8));
                    (0..count).flat_map(|_| self.value(kind)).collect()
                }
                0 | 1 | 7 => vec![self.number(1).to_string()],
                2 | 3 => vec![self.number(2).to_string()],
                4..=6 => vec![self.number(4).to_string()],
                _ => vec![self.number(8).to_string()],
            }
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/smollm2-135m-instruct-q4_1.gguf");
    let mut reader = Reader(std::io::BufReader::new(std::fs::File::open(path).ok()?));
    assert_eq!(reader.bytes(8), b"GGUF\x03\0\0\0");
    let (_, count) = (reader.number(8), reader.number(8));
    let mut vocab = GgufVocab::default();
    for _ in 0..count {
        let key = reader.text();
        let kind = reader.number(4);
        let value = reader.value(kind);
        match key.strip_prefix("tokenizer.ggml.") {
            Some("model") => vocab.model = value.concat(),
            Some("pre") => vocab.pre = value.concat(),
            Some("tokens") => vocab.tokens = value,
            Some("token_type") => vocab.types = value.iter().map(|n| n.parse().unwrap()).collect(),
            Some("merges") => vocab.merges = value,
            Some("eos_token_id") => vocab.eos = value[0].parse().ok(),
            _ => {}
        }
    }
    Some(vocab)
}

/// Ids of the embedded default against those of transformers (DEFAULT-MODEL.md). The file is fetched by the set-up step.
#[test]
fn smollm_prompts_have_the_reference_ids() {
    let vocab = smollm().expect("assets/smollm2-135m-instruct-q4_1.gguf, which the set-up step fetches");
    let tokenizer = Tokenizer::from_gguf(vocab, 49152).unwrap();
    let template = ChatTemplate::new(crate::text::template::tests::SMOLLM, SpecialTokens::default()).unwrap();
    for (question, ids, answer_ids, answer) in [
        ("What is the capital of France, and why is it famous?", FRANCE, FRANCE_ANSWER, "The capital of France is Paris."),
        ("Explain in two sentences why the sky is blue.", SKY, &[504, 6376, 314, 4461][..], "The sky is blue"),
    ] {
        let messages = user_turns(&[("user", question)]);
        let options = RenderOptions::default();
        assert_eq!(template.encode(&tokenizer, &messages, &options).unwrap(), ids);
        let rendered = template.render(&messages, &options).unwrap();
        assert_eq!(tokenizer.encode(&rendered).unwrap(), ids);
        assert_eq!(tokenizer.decode_verbatim(ids).unwrap(), rendered);
        assert_eq!(tokenizer.decode(answer_ids).unwrap(), answer);
    }
    for text in ["<|im_end|> 12 é\t\n\n  x 你好 😀", "don't  DON'T\r\n"] {
        let plain = tokenizer.encode_plain(text).unwrap();
        assert!(plain.iter().all(|&id| !tokenizer.is_special(id)));
        assert_eq!(tokenizer.decode(&plain).unwrap(), text);
    }
}

const FRANCE: &[u32] = &[
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198, 1, 4093, 198, 1780,
    314, 260, 3575, 282, 4649, 28, 284, 1701, 314, 357, 4248, 47, 2, 198, 1, 520, 9531, 198,
];
const FRANCE_ANSWER: &[u32] = &[504, 3575, 282, 4649, 314, 7042, 30];
const SKY: &[u32] = &[
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198, 1, 4093, 198, 36971,
    281, 827, 8545, 1701, 260, 6376, 314, 4461, 30, 2, 198, 1, 520, 9531, 198,
];
