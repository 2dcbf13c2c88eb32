use serde_json::json;

use super::super::testing::{GgufFile, Tensor, open_dir};
use super::*;

fn error_of(config: &Value, tensors: &[Tensor], rows: usize, cols: usize) -> String {
    let checkpoint = open_dir(config, tensors);
    let error = Matrix::find(&checkpoint, tensors[0].0, rows, cols).map(|_| ()).unwrap_err().to_string();
    let (file, error) = error.split_once("model.safetensors: ").unwrap();
    assert!(!file.contains(':') && !error.contains('\n'), "{error}");
    error.to_string()
}

/// `x.weight` of 2 rows and 64 columns, 4 bits in groups of 32, with one tensor replaced.
fn affine<'a>(replaced: Tensor<'a>) -> Vec<Tensor<'a>> {
    let mut tensors: Vec<Tensor> = vec![
        ("x.weight", "U32", &[2, 8], vec![0; 64]),
        ("x.scales", "BF16", &[2, 2], vec![0; 8]),
        ("x.biases", "BF16", &[2, 2], vec![0; 8]),
    ];
    match tensors.iter_mut().find(|tensor| tensor.0 == replaced.0) {
        Some(tensor) => *tensor = replaced,
        None => tensors.push(replaced),
    }
    tensors
}

#[test]
fn formats_follow_the_stored_ones() {
    let affine = |bits, group, scale| WeightFormat::Affine { bits, group, scale };
    let checkpoint = open_dir(
        &json!({}),
        &[
            ("f32", "F32", &[2, 3], vec![0; 24]),
            ("f64", "F64", &[2, 3], vec![0; 48]),
            ("f16", "F16", &[1, 2, 3], vec![0; 12]),
            ("bf16", "BF16", &[2, 1, 3], vec![0; 12]),
            ("fp8", "F8_E4M3", &[2, 3], vec![0; 6]),
            ("a.weight", "U32", &[2, 8], vec![0; 64]),
            ("a.scales", "BF16", &[2, 1], vec![0; 4]),
            ("a.biases", "BF16", &[2, 1], vec![0; 4]),
            ("b.weight", "U32", &[1, 2, 32], vec![0; 256]),
            ("b.scales", "F32", &[1, 2, 1], vec![0; 8]),
            ("b.biases", "F32", &[1, 2, 1], vec![0; 8]),
        ],
    );
    let cases = [
        ("f32", 3, WeightFormat::F32),
        ("f64", 3, WeightFormat::F32),
        ("f16", 3, WeightFormat::F16),
        ("bf16", 3, WeightFormat::Bf16),
        ("fp8", 3, WeightFormat::Fp8),
        ("a.weight", 64, affine(4, 64, Scale::Bf16)),
        ("b.weight", 128, affine(8, 128, Scale::F32)),
    ];
    for (name, cols, format) in cases {
        let matrix = Matrix::find(&checkpoint, name, 2, cols).unwrap();
        assert_eq!((matrix.name(), matrix.rows(), matrix.cols(), matrix.format()), (name, 2, cols, format));
    }
}

#[test]
fn gguf_biases_that_overflow_f16_are_f32() {
    let block = |step: f32, bytes: usize| {
        let mut block = vec![0; bytes];
        block[..2].copy_from_slice(&f16::from_f32(step).to_le_bytes());
        block
    };
    let cases = [
        (2, 18, 8188.0, Scale::F16),
        (2, 18, -8192.0, Scale::F32),
        (3, 20, 60000.0, Scale::F16),
        (8, 34, -511.75, Scale::F16),
        (8, 34, 512.0, Scale::F32),
        (8, 34, f32::NAN, Scale::F32),
    ];
    for (kind, block_bytes, step, scale) in cases {
        let data = [block(0.5, block_bytes), block(step, block_bytes)].concat();
        let checkpoint = GgufFile::default().tensor("w", kind, &[32, 2], &data).open();
        let bits = if kind == 8 { 8 } else { 4 };
        let found = Matrix::find(&checkpoint, "w", 2, 32).unwrap().format();
        assert_eq!(found, WeightFormat::Affine { bits, group: 32, scale }, "type {kind}, {step}");
    }
}

#[test]
fn tensors_that_cannot_be_used() {
    let f32s = |shape| -> [Tensor; 1] { [("w", "F32", shape, vec![0; 24])] };
    let none = json!({});
    assert_eq!(error_of(&none, &f32s(&[2, 3]), 3, 2), "tensor `w`: expected [3, 2], found [2, 3]");
    assert_eq!(error_of(&none, &f32s(&[3, 1, 2]), 2, 3), "tensor `w`: expected [2, 3], found [3, 1, 2]");
    assert_eq!(error_of(&none, &f32s(&[6]), 2, 3), "tensor `w`: expected [2, 3], found [6]");
    let bytes: [Tensor; 1] = [("w", "U8", &[2, 3], vec![0; 6])];
    let expected = "F32, F16, BF16, F64, F8_E4M3, MLX's packed U32, Q8_0, Q4_0 or Q4_1";
    assert_eq!(error_of(&none, &bytes, 2, 3), format!("tensor `w`: expected {expected}, found U8"));
    let checkpoint = open_dir(&none, &f32s(&[2, 3]));
    let error = Matrix::find(&checkpoint, "v", 2, 3).unwrap_err().to_string();
    assert!(error.ends_with(": tensor `v`: expected [2, 3], found no such tensor"), "{error}");

    let checkpoint = GgufFile::default().tensor("k", 14, &[256], &[0; 210]).describe("later", 99, &[8, 2], 0).open();
    let error = |name, rows, cols| Matrix::find(&checkpoint, name, rows, cols).unwrap_err().to_string();
    assert!(error("k", 1, 256).ends_with(&format!("tensor `k`: expected {expected}, found Q6_K")));
    assert!(error("later", 2, 8).ends_with(&format!("tensor `later`: expected {expected}, found GGUF type 99")));
}

#[test]
fn empty_tensors_with_overflowing_shapes() {
    let shape = [1usize << 40, 1 << 40, 0];
    let checkpoint = GgufFile::default().tensor("w", 0, &[0, 1 << 40, 1 << 40], &[]).open();
    let error = Matrix::find(&checkpoint, "w", 2, 0).unwrap_err().to_string();
    assert!(error.ends_with(&format!("expected [2, 0], found {shape:?}")), "{error}");
}

#[test]
fn fp8_scales_that_do_not_fit() {
    let with = |scales: Tensor| error_of(&json!({}), &[("w.weight", "F8_E4M3", &[130, 3], vec![0; 390]), scales], 130, 3);
    assert_eq!(
        with(("w.weight_scale_inv", "F32", &[1, 1], vec![0; 4])),
        "tensor `w.weight_scale_inv`: expected [2, 1] (blocks of 128×128 of `w.weight`), found [1, 1]"
    );
    assert_eq!(
        with(("w.weight_scale_inv", "U8", &[2, 1], vec![0; 2])),
        "tensor `w.weight_scale_inv`: expected F32, BF16, F16 or F8_E8M0, found U8"
    );
    for other in ["w.weight_scale", "w.scale", "w.scales"] {
        let expected = format!("tensor `w.weight_scale_inv`: expected scales of blocks of 128×128, found `{other}`");
        assert_eq!(with((other, "F32", &[2, 1], vec![0; 8])), expected);
    }
}

#[test]
fn affine_companions_that_do_not_fit() {
    let with = |replaced| error_of(&json!({}), &affine(replaced), 2, 64);
    let expected = "tensor `x.weight`: expected [2, 8] or [2, 16] (4 or 8 bits for 64 columns), found ";
    assert_eq!(with(("x.weight", "U32", &[2, 6], vec![0; 48])), format!("{expected}[2, 6]"));
    assert_eq!(with(("x.weight", "U32", &[3, 8], vec![0; 96])), format!("{expected}[3, 8]"));
    assert_eq!(with(("x.weight", "U32", &[], vec![0; 4])), format!("{expected}[]"));
    assert_eq!(
        with(("x.scales", "BF16", &[2, 4], vec![0; 16])),
        "tensor `x.scales`: expected 64 columns in groups of 32, 64 or 128, found [2, 4]"
    );
    assert_eq!(with(("x.scales", "BF16", &[1, 2], vec![0; 4])), "tensor `x.scales`: expected [2, 2], found [1, 2]");
    assert_eq!(with(("x.biases", "BF16", &[2, 1], vec![0; 4])), "tensor `x.biases`: expected [2, 2], found [2, 1]");
    assert_eq!(with(("x.scales", "U8", &[2, 2], vec![0; 4])), "tensor `x.scales`: expected F16, BF16 or F32, found U8");
    assert_eq!(with(("x.biases", "F16", &[2, 2], vec![0; 8])), "tensor `x.biases`: expected BF16 as its scales, found F16");
    let alone: [Tensor; 1] = [("x.weight", "U32", &[2, 8], vec![0; 64])];
    let expected = "tensor `x.scales`: expected scales and biases beside the packed U32 `x.weight`, found no such tensor";
    assert_eq!(error_of(&json!({}), &alone, 2, 64), expected);
}

#[test]
fn affine_configurations_that_disagree() {
    let same = || affine(("x.scales", "BF16", &[2, 2], vec![0; 8]));
    let error = |quantization: Value| error_of(&json!({"quantization": quantization}), &same(), 2, 64);
    assert_eq!(
        error(json!({"bits": 8, "group_size": 32})),
        "config.json quantization.bits: expected 4, as the tensors' shapes say, found 8"
    );
    assert_eq!(
        error(json!({"bits": 4, "group_size": 64})),
        "config.json quantization.group_size: expected 32, as the tensors' shapes say, found 64"
    );
    assert_eq!(error(json!({"bits": 3})), "config.json quantization.bits: expected one of [4, 8], found 3");
    assert_eq!(error(json!({"group_size": 16})), "config.json quantization.group_size: expected one of [32, 64, 128], found 16");
    assert_eq!(error(json!({"bits": "4"})), "config.json quantization.bits: expected one of [4, 8], found \"4\"");
    assert_eq!(error(json!({"mode": "mxfp4"})), "config.json quantization.mode: expected \"affine\", found \"mxfp4\"");
    assert_eq!(
        error(json!({"bits": 4, "x": {"bits": 8}})),
        "config.json quantization of this module, bits: expected 4, as the tensors' shapes say, found 8"
    );
    assert_eq!(
        error(json!({"bits": 4, "x": false})),
        "config.json quantization.`x`: expected a quantised module, as its weight is packed U32, found false"
    );
    for agreeing in
        [json!({"bits": 8, "group_size": 64, "x": {"bits": 4, "group_size": 32, "mode": "affine"}}), json!({"bits": 4}), json!(null)]
    {
        let checkpoint = open_dir(&json!({"quantization": agreeing}), &same());
        assert!(Matrix::find(&checkpoint, "x.weight", 2, 64).is_ok(), "{agreeing}");
    }
}

#[test]
fn columns_are_cut_between_groups() {
    let mut tensors = affine(("fp8", "F8_E4M3", &[1, 300], vec![0; 300]));
    tensors.push(("f16", "F16", &[1, 7], vec![0; 14]));
    let checkpoint = open_dir(&json!({}), &tensors);
    let cut = |name, rows, cols, range: Range<usize>| {
        let cut = Matrix::find(&checkpoint, name, rows, cols).unwrap().columns(range);
        cut.map(|matrix| matrix.cols()).map_err(|error| error.to_string().split_once(".safetensors: ").unwrap().1.to_string())
    };
    assert_eq!(cut("f16", 1, 7, 1..6), Ok(5));
    assert_eq!(cut("fp8", 1, 300, 128..300), Ok(172));
    assert_eq!(cut("fp8", 1, 300, 0..5), Ok(5));
    assert_eq!(cut("x.weight", 2, 64, 32..64), Ok(32));
    let expected = "tensor `fp8`: expected a cut between its groups of 128 columns, found columns 64..128";
    assert_eq!(cut("fp8", 1, 300, 64..128), Err(expected.to_string()));
    for range in [16..48, 0..48, 16..64] {
        let expected = format!("tensor `x.weight`: expected a cut between its groups of 32 columns, found columns {range:?}");
        assert_eq!(cut("x.weight", 2, 64, range), Err(expected));
    }
}
