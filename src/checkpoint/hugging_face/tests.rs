use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::super::testing::{open_error, safetensors, write_dir};
use super::super::{Checkpoint, exists, vector};
use super::*;

/// Two shards, each with one tensor, and an index.
fn sharded(index: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    file("config.json", b"{}");
    file("m-1.safetensors", &safetensors(&[("a", "F32", &[1], 1f32.to_le_bytes().into())]));
    file("m-2.safetensors", &safetensors(&[("b", "F32", &[1], 2f32.to_le_bytes().into())]));
    file(INDEX, index.to_string().as_bytes());
    dir
}

#[test]
fn a_single_file_by_its_directory_and_by_itself() {
    let dir = write_dir(&json!({"model_type": "deepseek_v3"}), &[("w", "BF16", &[2], vec![0x80, 0x3f, 0x00, 0x40])]);
    fs::write(dir.path().join("tokenizer.json"), b"{}").unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join(SINGLE)] {
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.path(), path);
        assert_eq!(checkpoint.config().unwrap()["model_type"], "deepseek_v3");
        assert!(checkpoint.gguf().is_none());
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["w"]);
        assert!(exists(&checkpoint, "w") && !exists(&checkpoint, "x"));
        assert_eq!(checkpoint.file_of("w"), dir.path().join(SINGLE));
        assert_eq!(vector(&checkpoint, "w", 2).unwrap(), [1.0, 2.0]);
        checkpoint.release_pages();
        assert_eq!(vector(&checkpoint, "w", 2).unwrap(), [1.0, 2.0]);
        assert_eq!(checkpoint.side_file("tokenizer.json").unwrap().unwrap(), b"{}");
        assert!(checkpoint.side_file("chat_template.jinja").unwrap().is_none());
    }
    fs::rename(dir.path().join(SINGLE), dir.path().join("other.safetensors")).unwrap();
    assert!(exists(&Checkpoint::open(dir.path()).unwrap(), "w"));
}

#[test]
fn shards_by_their_index() {
    let dir = sharded(&json!({"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}));
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(vector(&checkpoint, "b", 1).unwrap(), [2.0]);
    assert_eq!(checkpoint.file_of("b"), dir.path().join("m-2.safetensors"));
}

#[test]
fn an_index_that_is_wrong() {
    let error = |map: Value| {
        let dir = sharded(&json!({"weight_map": map}));
        open_error(dir.path()).replace(&format!("{}/", dir.path().display()), "")
    };
    for name in ["../m-1.safetensors", "/etc/passwd", "x/m-1.safetensors", "..", ""] {
        let expected = format!("{INDEX}: weight_map `a`: expected the name of a file in this directory, found \"{name}\"");
        assert_eq!(error(json!({"a": name})), expected);
    }
    assert_eq!(error(json!({"a": 3})), format!("{INDEX}: weight_map `a`: expected the name of a file in this directory, found a number"));
    assert_eq!(error(json!(["a"])), format!("{INDEX}: weight_map: expected an object of file names, found a list"));
    let expected = format!("{INDEX}: tensor `c`: expected to be in `m-1.safetensors`, found no such tensor");
    assert_eq!(error(json!({"a": "m-1.safetensors", "c": "m-1.safetensors"})), expected);
    let swapped = error(json!({"a": "m-2.safetensors", "b": "m-1.safetensors"}));
    assert_eq!(swapped, format!("{INDEX}: tensor `a`: expected to be in `m-2.safetensors`, found it in `m-1.safetensors`"));
    assert!(error(json!({"a": "m-3.safetensors"})).starts_with("m-3.safetensors: No such file"));
    let dir = sharded(&json!({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}));
    fs::copy(dir.path().join("m-1.safetensors"), dir.path().join("m-2.safetensors")).unwrap();
    assert!(open_error(dir.path()).contains("tensor `a`: expected one such tensor, found another in `"));
    fs::write(dir.path().join(INDEX), b"[1").unwrap();
    assert!(open_error(dir.path()).contains(&format!("{INDEX}: expected JSON, found an error: ")));
}

#[test]
fn directories_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let error = || open_error(dir.path()).replace(&dir.path().display().to_string(), "DIR");
    assert_eq!(error(), "DIR/config.json: expected a file, found none");
    fs::write(dir.path().join("x.gguf"), b"").unwrap();
    assert_eq!(error(), "DIR/config.json: expected a file, found none, but `x.gguf`: give that file instead");
    fs::write(dir.path().join("config.json"), b"{").unwrap();
    assert!(error().starts_with("DIR/config.json: expected JSON, found an error: "), "{}", error());
    fs::write(dir.path().join("config.json"), b"{}").unwrap();
    assert_eq!(
        error(),
        "DIR: expected model.safetensors.index.json, model.safetensors or one .safetensors file, found 0 safetensors files"
    );
    for name in ["a", "b"] {
        fs::write(dir.path().join(name).with_extension("safetensors"), b"").unwrap();
    }
    assert!(error().ends_with("found 2 safetensors files"));
    fs::remove_file(dir.path().join("b.safetensors")).unwrap();
    assert_eq!(error(), "DIR/a.safetensors: safetensors header length: expected 8 bytes, found a file of 0");
    assert!(open_error(&dir.path().join("nothing")).contains("No such file"));
    fs::write(dir.path().join("x.bin"), b"PK").unwrap();
    assert!(
        open_error(&dir.path().join("x.bin")).ends_with("expected a model directory, a GGUF or a .safetensors file, found something else")
    );
    assert!(
        open_error(&dir.path().join("x.gguf")).ends_with("expected a model directory, a GGUF or a .safetensors file, found something else")
    );
}

#[test]
fn quantisations_that_are_not_read() {
    let check = |value: Value| check_quantization_config(&json!({"quantization_config": value})).map_err(|error| error.to_string());
    let fp8 = json!({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"});
    assert_eq!(check(fp8), Ok(()));
    assert_eq!(check(json!({"bits": 4, "group_size": 64})), Ok(()));
    assert_eq!(check(Value::Null), Ok(()));
    assert!(check_quantization_config(&json!({})).is_ok());
    let cases = [
        (
            json!({"quant_method": "fp8", "weight_block_size": [64, 128]}),
            "quantization_config.weight_block_size: expected [128,128], found [64,128]",
        ),
        (json!({"weight_block_size": null}), "quantization_config.weight_block_size: expected [128,128], found null"),
        (json!({"quant_method": "gptq", "bits": 4}), "quantization_config.quant_method: expected \"fp8\", found \"gptq\""),
        (json!({"fmt": "e5m2"}), "quantization_config.fmt: expected \"e4m3\", found \"e5m2\""),
        (json!("fp8"), "quantization_config: expected an object, found \"fp8\""),
    ];
    for (value, expected) in cases {
        assert_eq!(check(value), Err(expected.to_string()));
    }
    let dir = write_dir(&json!({"quantization_config": {"quant_method": "awq"}}), &[]);
    assert!(open_error(dir.path()).contains("config.json: quantization_config.quant_method: expected"));
}
