use serde_json::json;

use super::testing::{GgufFile, gguf_string, open_dir};
use super::*;

#[test]
fn a_gguf_file_opens() {
    let file = GgufFile::default().value("general.name", 8, &gguf_string("x")).tensor("norm", 1, &[2], &[0x00, 0x3c, 0x00, 0xc0]);
    let checkpoint = file.open();
    assert_eq!(checkpoint.gguf().unwrap().str("general.name").unwrap(), Some("x"));
    assert!(checkpoint.config().is_none());
    assert!(checkpoint.side_file("tokenizer.json").unwrap().is_none());
    assert_eq!(vector(&checkpoint, "norm", 2).unwrap(), [1.0, -2.0]);
    let view = checkpoint.tensor("norm").unwrap();
    assert_eq!((view.name, view.dtype, view.shape, view.bytes.size_bytes()), ("norm", Dtype::F16, vec![2], 4));
    assert_eq!(checkpoint.file_of("norm"), checkpoint.path());
}

#[test]
fn vectors_are_checked() {
    let checkpoint = open_dir(
        &json!({}),
        &[
            ("f64", "F64", &[1], 1.5f64.to_le_bytes().into()),
            ("int", "I32", &[1], vec![0; 4]),
            ("matrix", "F32", &[1, 1], vec![0; 4]),
            ("nan", "BF16", &[2], vec![0, 0, 0xc0, 0x7f]),
        ],
    );
    assert_eq!(vector(&checkpoint, "f64", 1).unwrap(), [1.5]);
    let error = |name: &str, len: usize| {
        let error = vector(&checkpoint, name, len).unwrap_err().to_string();
        let (file, error) = error.split_once(": ").unwrap();
        assert_eq!(file.ends_with("model.safetensors"), exists(&checkpoint, name), "{file}");
        error.to_string()
    };
    assert_eq!(error("f64", 2), "tensor `f64`: expected [2], found [1]");
    assert_eq!(error("int", 1), "tensor `int`: expected F32, F16, BF16 or F64, found I32");
    assert_eq!(error("matrix", 1), "tensor `matrix`: expected [1], found [1, 1]");
    assert_eq!(error("nan", 2), "tensor `nan`: expected finite numbers, found NaN at 1");
    assert_eq!(error("absent", 2), "tensor `absent`: expected [2], found no such tensor");
}
