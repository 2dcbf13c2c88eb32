//! Reads Hugging Face's `tokenizer.json` (BPE models) into the parts of a tokenizer. Consistency of ids and merges is checked
//! where the parts are put together, in `tokenizer`.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::AddedToken;

use super::tokenizer::{Coding, Parts};
use super::{TextError, shown};

const ORIGIN: &str = "tokenizer.json";

/// Kinds whose code has been read: they neither panic nor unpack binary data.
const NORMALIZERS: &[&str] = &["Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Replace", "Prepend"];
const PRE_TOKENIZERS: &[&str] = &["Sequence", "Split", "Digits", "ByteLevel", "Metaspace", "Punctuation", "Whitespace", "WhitespaceSplit"];

pub(super) fn read(bytes: &[u8]) -> Result<Parts, TextError> {
    let root: Value = serde_json::from_slice(bytes)?;
    let model = &root["model"];
    match model["type"].as_str() {
        Some("BPE") => {}
        None if model["type"].is_null() && model["merges"].is_array() => {}
        other => return Err(wrong("model.type", "`BPE`", other.map_or_else(|| kind(&model["type"]), |t| format!("`{}`", shown(t))))),
    }
    for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[name].as_str().is_none_or(|text| !text.is_empty()) && !model[name].is_null() {
            return Err(wrong(&format!("model.{name}"), "null (byte-level BPE has none)", kind(&model[name])));
        }
    }
    if !model["dropout"].is_null() && model["dropout"].as_f64() != Some(0.0) {
        return Err(wrong("model.dropout", "null (encoding must be deterministic)", kind(&model["dropout"])));
    }

    let vocab = model["vocab"].as_object().ok_or_else(|| wrong("model.vocab", "an object", kind(&model["vocab"])))?;
    let vocab = vocab
        .iter()
        .map(|(token, id)| {
            let number = id.as_u64().ok_or_else(|| wrong(&format!("model.vocab[`{}`]", shown(token)), "an id", kind(id)))?;
            Ok((token.clone(), number))
        })
        .collect::<Result<Vec<_>, TextError>>()?;
    let merges = model["merges"].as_array().ok_or_else(|| wrong("model.merges", "a list", kind(&model["merges"])))?;
    let merges = merges
        .iter()
        .enumerate()
        .map(|(index, merge)| pair(merge).ok_or_else(|| wrong(&format!("model.merges[{index}]"), "two tokens", kind(merge))))
        .collect::<Result<Vec<_>, TextError>>()?;
    let unk = match &model["unk_token"] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => return Err(wrong("model.unk_token", "a token or null", kind(other))),
    };

    check_kinds(&root["normalizer"], "normalizer", "normalizers", NORMALIZERS)?;
    check_kinds(&root["pre_tokenizer"], "pre_tokenizer", "pretokenizers", PRE_TOKENIZERS)?;
    Ok(Parts {
        origin: ORIGIN,
        vocab,
        merges,
        added: added_tokens(&root["added_tokens"])?,
        unk,
        fuse_unk: flag(model, "model.", "fuse_unk")?,
        byte_fallback: flag(model, "model.", "byte_fallback")?,
        ignore_merges: flag(model, "model.", "ignore_merges")?,
        normalizer: part(&root["normalizer"], "normalizer of tokenizer.json")?,
        pre_tokenizer: part(&root["pre_tokenizer"], "pre_tokenizer of tokenizer.json")?,
        coding: coding(&root)?,
        sentence_piece: None,
    })
}

fn wrong(field: &str, expected: &str, found: String) -> TextError {
    TextError::field(format!("{ORIGIN} {field}"), expected, found)
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        other => format!("`{}`", shown(&other.to_string())),
    }
}

fn flag(object: &Value, path: &str, name: &str) -> Result<bool, TextError> {
    match &object[name] {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        other => Err(wrong(&format!("{path}{name}"), "true or false", kind(other))),
    }
}

/// `["a", "b"]`, or `"a b"` as older files write it.
fn pair(merge: &Value) -> Option<(String, String)> {
    match merge {
        Value::String(text) => {
            let (left, right) = text.split_once(' ')?;
            (!right.contains(' ')).then(|| (left.to_owned(), right.to_owned()))
        }
        Value::Array(items) => match items.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left.clone(), right.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn added_tokens(list: &Value) -> Result<Vec<(u64, AddedToken)>, TextError> {
    let items = match list {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        other => return Err(wrong("added_tokens", "a list", kind(other))),
    };
    let mut tokens = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("added_tokens[{index}].");
        let id = item["id"].as_u64().ok_or_else(|| wrong(&format!("{path}id"), "an id", kind(&item["id"])))?;
        let content = item["content"].as_str().ok_or_else(|| wrong(&format!("{path}content"), "text", kind(&item["content"])))?;
        let token = AddedToken::from(content, flag(item, &path, "special")?)
            .single_word(flag(item, &path, "single_word")?)
            .lstrip(flag(item, &path, "lstrip")?)
            .rstrip(flag(item, &path, "rstrip")?)
            .normalized(flag(item, &path, "normalized")?);
        tokens.push((id, token));
    }
    Ok(tokens)
}

/// Refuses kinds outside `known`, in sequences too.
fn check_kinds(value: &Value, field: &str, children: &str, known: &[&str]) -> Result<(), TextError> {
    if value.is_null() {
        return Ok(());
    }
    match value["type"].as_str() {
        Some(name) if known.contains(&name) => {}
        other => {
            let found = other.map_or_else(|| kind(&value["type"]), |name| format!("`{}`", shown(name)));
            return Err(wrong(&format!("{field}.type"), &format!("one of {}", known.join(", ")), found));
        }
    }
    for child in value[children].as_array().into_iter().flatten() {
        check_kinds(child, field, children, known)?;
    }
    Ok(())
}

/// Reads one part with the crate's own reader. It wants text: some of its types borrow from it.
fn part<T: DeserializeOwned>(value: &Value, what: &'static str) -> Result<Option<T>, TextError> {
    if value.is_null() {
        return Ok(None);
    }
    serde_json::from_str(&value.to_string()).map(Some).map_err(|error| TextError::Tokenizers { what, source: error.into() })
}

/// How tokens stand for bytes, from the decoder.
fn coding(root: &Value) -> Result<Coding, TextError> {
    let decoder = &root["decoder"];
    let names = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|part| part["type"].as_str().map(str::to_owned)).collect()
    };
    match decoder["type"].as_str() {
        Some("ByteLevel") => Ok(Coding::ByteLevel),
        Some("Metaspace") => {
            let strips = decoder["prepend_scheme"] != "never" && decoder["add_prefix_space"] != false;
            Ok(Coding::SentencePiece { strips_first_space: strips })
        }
        Some("Sequence") => {
            let parts = names(&decoder["decoders"]);
            if parts == ["ByteLevel"] {
                return Ok(Coding::ByteLevel);
            }
            let known = ["Replace", "ByteFallback", "Fuse", "Strip"];
            match parts.iter().find(|name| !known.contains(&name.as_str())) {
                Some(name) => Err(wrong("decoder.decoders", &known.join(", "), format!("`{}`", shown(name)))),
                None => Ok(Coding::SentencePiece { strips_first_space: parts.iter().any(|name| name == "Strip") }),
            }
        }
        None if decoder.is_null() => {
            let pre = &root["pre_tokenizer"];
            let byte_level = pre["type"] == "ByteLevel" || names(&pre["pretokenizers"]).iter().any(|name| name == "ByteLevel");
            Ok(if byte_level { Coding::ByteLevel } else { Coding::Verbatim })
        }
        _ => Err(wrong("decoder.type", "ByteLevel, Metaspace or Sequence", kind(&decoder["type"]))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tokenizer;
    use super::*;
    use serde_json::json;

    /// A byte-level tokenizer over lower-case letters with a few merges, V3's splits, and added tokens like DeepSeek's.
    fn sample() -> Value {
        let mut vocab = serde_json::Map::new();
        let letters = ('a'..='z').chain(['Ġ', 'Ċ', '<', '>', '/', '1', '2', '3', '|', 'ï', '½', 'ľ', 'U']);
        for (id, c) in letters.enumerate() {
            vocab.insert(c.to_string(), json!(id));
        }
        for token in ["he", "ll", "hell", "hello", "Ġhello"] {
            vocab.insert(token.to_owned(), json!(vocab.len()));
        }
        let merges = json!([["h", "e"], "l l", ["he", "ll"], ["hell", "o"], ["Ġ", "hello"]]);
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        json!({
            "version": "1.0", "truncation": {"max_length": 1}, "padding": null,
            "added_tokens": [
                {"id": 90, "content": "<｜end｜>", "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false},
                {"id": 95, "content": "<think>", "special": false, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false},
            ],
            "normalizer": {"type": "Sequence", "normalizers": []},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                split(super::super::vocab::V3_DIGITS), split(super::super::vocab::V3_CJK), split(super::super::vocab::V3_WORDS),
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            ]},
            "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges},
        })
    }

    fn load(value: &Value) -> Result<Tokenizer, TextError> {
        Tokenizer::from_json(value.to_string().as_bytes(), 100)
    }

    #[test]
    fn special_tokens_only_where_asked() {
        let tokenizer = load(&sample()).unwrap();
        let hello = tokenizer.token_id("hello").unwrap();
        let spaced = tokenizer.token_id("Ġhello").unwrap();
        assert_eq!(tokenizer.encode("hello hello<｜end｜><think>").unwrap(), [hello, spaced, 90, 95]);
        let plain = tokenizer.encode_plain("hello<｜end｜><think>").unwrap();
        assert!(!plain.contains(&90) && !plain.contains(&95), "{plain:?}");
        assert_eq!(tokenizer.decode(&plain).unwrap(), "hello<｜end｜><think>");
        assert_eq!(tokenizer.decode(&[spaced, 90, 95]).unwrap(), " hello<think>");
        assert_eq!(tokenizer.decode_verbatim(&[spaced, 90, 95]).unwrap(), " hello<｜end｜><think>");
        assert_eq!((tokenizer.len(), tokenizer.token_text(95), tokenizer.token_text(94)), (96, Some("<think>"), None));
        assert!(tokenizer.is_special(90) && !tokenizer.is_special(95));
        assert!(tokenizer.decode(&[94]).is_err());
    }

    #[test]
    fn a_word_that_equals_a_control_token_is_spelled() {
        let mut json = sample();
        json["model"]["ignore_merges"] = json!(true);
        json["added_tokens"].as_array_mut().unwrap().push(json!({"id": 97, "content": "lol", "special": true}));
        let tokenizer = load(&json).unwrap();
        assert_eq!(tokenizer.encode("lol").unwrap(), [97]);
        let plain = tokenizer.encode_plain("lol").unwrap();
        assert_eq!((plain.len(), plain.contains(&97)), (3, false));
    }

    #[test]
    fn hostile_files_are_refused_by_field() {
        let refuse = |change: &dyn Fn(&mut Value), expected: &str| {
            let mut json = sample();
            change(&mut json);
            let error = load(&json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        };
        refuse(&|j| j["model"]["type"] = json!("Unigram"), "model.type: expected `BPE`, found `Unigram`");
        refuse(&|j| j["model"]["vocab"]["a"] = json!(-1), "model.vocab[`a`]");
        refuse(&|j| j["model"]["vocab"]["a"] = json!(100), "token `a`: expected an id below 100");
        refuse(&|j| j["model"]["vocab"]["a"] = json!(1u64 << 32), "found 4294967296");
        refuse(&|j| j["model"]["vocab"]["a"] = json!(1), "one text");
        refuse(&|j| j["model"]["vocab"][""] = json!(99), "1 to 8192 bytes");
        refuse(&|j| j["model"]["vocab"]["x".repeat(9000)] = json!(99), "1 to 8192 bytes");
        refuse(&|j| j["added_tokens"][0]["id"] = json!(129_280), "token `<｜end｜>`");
        refuse(&|j| j["added_tokens"][0]["content"] = json!("hello"), "one id");
        refuse(&|j| j["added_tokens"][0]["special"] = json!("yes"), "added_tokens[0].special");
        refuse(&|j| j["model"]["merges"][1] = json!("l l l"), "model.merges[1]");
        refuse(&|j| j["model"]["merges"][1] = json!(["Ġhello", "Ġhello"]), "merges[1]: expected known tokens");
        refuse(&|j| j["model"]["merges"][1] = json!(["h", "e"]), "a new pair");
        refuse(&|j| j["model"]["continuing_subword_prefix"] = json!("####"), "continuing_subword_prefix");
        refuse(&|j| j["model"]["dropout"] = json!(0.5), "model.dropout");
        refuse(&|j| j["model"]["unk_token"] = json!("<unk>"), "unk_token");
        refuse(&|j| j["normalizer"]["normalizers"] = json!([{"type": "Precompiled", "precompiled_charsmap": "AAAA"}]), "Precompiled");
        refuse(&|j| j["pre_tokenizer"]["pretokenizers"][0]["pattern"] = json!({"Regex": "("}), "pre_tokenizer");
        refuse(&|j| j["decoder"]["type"] = json!("CTC"), "decoder.type");
        assert!(Tokenizer::from_json(b"{", 10).unwrap_err().to_string().contains("tokenizer.json"));
        assert!(Tokenizer::from_json("[".repeat(1_000_000).as_bytes(), 10).is_err());
        assert!(Tokenizer::from_json(b"[]", 10).is_err());
    }
}
