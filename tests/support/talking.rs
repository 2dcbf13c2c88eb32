//! A tiny random checkpoint that can be talked to: a golden one with a byte-level tokenizer of DeepSeek's special tokens.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Ids from here on have no token, though the model has rows for them.
pub const TOKENS: u32 = 260;

/// A copy of the golden checkpoint `v2lite` with a tokenizer beside it.
pub fn checkpoint() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2lite");
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("tokenizer.json"), tokenizer().to_string()).unwrap();
    dir
}

/// Specials first, so that the config's BOS 0 and EOS 1 are what they say; then the 256 bytes as GPT-2 writes them.
fn tokenizer() -> Value {
    let specials = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"];
    let mut vocab = Map::new();
    let mut beyond = 0x100;
    for byte in 0..=255u32 {
        let shown = if matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) {
            byte
        } else {
            beyond += 1;
            beyond - 1
        };
        vocab.insert(char::from_u32(shown).unwrap().to_string(), (byte + 4).into());
    }
    let added: Vec<Value> = specials
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "special": id < 2, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}
