use half::bf16;
use proptest::prelude::*;
use serde_json::json;

use super::super::testing::{GgufFile, open_dir};
use super::super::{Checkpoint, Scale};
use super::*;

/// Unpacks one stored row with arithmetic of its own, in f64, straight from the layout's description.
fn unpack(format: WeightFormat, quants: &[u8], scales: &[u8]) -> Vec<f64> {
    let half_at = |bytes: &[u8], i: usize| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    let f32_at = |bytes: &[u8], i: usize| f64::from(f32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()));
    let e4m3 = |code: u8| {
        let (e, m) = (i32::from(code >> 3) & 15, f64::from(code & 7));
        let magnitude = if e == 0 { m / 512.0 } else { (8.0 + m) * 2f64.powi(e - 10) };
        if code & 0x80 == 0 { magnitude } else { -magnitude }
    };
    let pair = |scale, i: usize| match scale {
        Scale::F16 => [2 * i, 2 * i + 1].map(|i| f16::from_bits(half_at(scales, i)).to_f64()),
        Scale::Bf16 => [2 * i, 2 * i + 1].map(|i| bf16::from_bits(half_at(scales, i)).to_f64()),
        Scale::F32 => [2 * i, 2 * i + 1].map(|i| f32_at(scales, i)),
    };
    match format {
        WeightFormat::F32 => (0..quants.len() / 4).map(|i| f32_at(quants, i)).collect(),
        WeightFormat::F16 => (0..quants.len() / 2).map(|i| f16::from_bits(half_at(quants, i)).to_f64()).collect(),
        WeightFormat::Bf16 => (0..quants.len() / 2).map(|i| bf16::from_bits(half_at(quants, i)).to_f64()).collect(),
        WeightFormat::Fp8 => (0..quants.len()).map(|i| e4m3(quants[i]) * f32_at(scales, i / 128)).collect(),
        WeightFormat::Affine { bits, group, scale } => {
            let per_word = 32 / usize::from(bits);
            let value = |i: usize| {
                let word = u32::from_le_bytes(quants[i / per_word * 4..i / per_word * 4 + 4].try_into().unwrap());
                let q = word >> (usize::from(bits) * (i % per_word)) & ((1 << bits) - 1);
                let [step, bias] = pair(scale, i / usize::from(group));
                step * f64::from(q) + bias
            };
            (0..quants.len() * 8 / usize::from(bits)).map(value).collect()
        }
    }
}

/// Packs the rows in two calls, and compares them and `decode_rows` with `expected`, `[rows, cols]`, bit by bit; padding is 0.
fn check(matrix: &Matrix, expected: &[f64], padding: usize) {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    assert_eq!(expected.len(), rows * cols, "what the test expects");
    let cols_padded = cols.next_multiple_of(32) + padding * 32;
    let (mut quants, mut scales) = (vec![9; 4], vec![9; 4]);
    matrix.pack_rows(0..rows / 2, cols_padded, &mut quants, &mut scales).unwrap();
    matrix.pack_rows(rows / 2..rows, cols_padded, &mut quants, &mut scales).unwrap();
    let (row_bytes, scale_bytes) = (matrix.format().row_bytes(cols_padded), matrix.format().scale_row_bytes(cols_padded));
    assert_eq!((quants.len(), scales.len()), (4 + rows * row_bytes, 4 + rows * scale_bytes));
    let mut decoded = Vec::new();
    matrix.decode_rows(0..rows, &mut decoded).unwrap();
    assert_eq!(decoded.len(), rows * cols);
    for row in 0..rows {
        let quants = &quants[4 + row * row_bytes..][..row_bytes];
        let scales = &scales[4 + row * scale_bytes..][..scale_bytes];
        let unpacked = unpack(matrix.format(), quants, scales);
        let own = &expected[row * cols..(row + 1) * cols];
        assert_eq!(unpacked[..cols], *own, "row {row} of `{}`, {}", matrix.name(), matrix.format());
        assert!(unpacked[cols..].iter().all(|&value| value == 0.0), "padding of row {row} of `{}`", matrix.name());
        let rounded: Vec<f32> = own.iter().map(|&value| value as f32).collect();
        assert_eq!(decoded[row * cols..(row + 1) * cols], rounded, "decoded row {row} of `{}`", matrix.name());
        let mut twin = Vec::new();
        decode_row(matrix.format(), quants, scales, &mut twin);
        assert!(twin.len() == cols_padded && twin[cols..].iter().all(|&value| value == 0.0), "twin of row {row}");
    }
}

/// The same bytes for the same seed; every value occurs.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Sixteen-bit floats around 1, of either sign: `exponents` is the field's lowest and how many.
fn halves(seed: u64, len: usize, mantissa_bits: u32, exponents: (u16, u16)) -> Vec<u16> {
    let bytes = noise(seed, len * 3);
    let half = |bytes: &[u8; 3]| {
        let mantissa = u16::from_le_bytes([bytes[0], bytes[1]]) & ((1 << mantissa_bits) - 1);
        let exponent = exponents.0 + u16::from(bytes[2] & 0x7f) % exponents.1;
        u16::from(bytes[2] >> 7) << 15 | exponent << mantissa_bits | mantissa
    };
    bytes.as_chunks::<3>().0.iter().map(half).collect()
}

fn to_bytes(halves: &[u16]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

/// Columns `range` of `[rows, cols]`.
fn cut(values: &[f64], cols: usize, range: Range<usize>) -> Vec<f64> {
    values.chunks_exact(cols).flat_map(|row| row[range.clone()].to_vec()).collect()
}

fn check_cuts(checkpoint: &Checkpoint, name: &str, [rows, cols]: [usize; 2], values: &[f64], unit: usize) {
    let matrix = Matrix::find(checkpoint, name, rows, cols).unwrap();
    for padding in [0, 1, 5] {
        check(&matrix, values, padding);
    }
    let begin = cols / 2 / unit * unit;
    let range = begin..(begin + unit).min(cols);
    for padding in [0, 3] {
        check(&matrix.clone().columns(range.clone()).unwrap(), &cut(values, cols, range.clone()), padding);
    }
    // A cut of a cut.
    let twice = matrix.columns(begin..cols).unwrap().columns(0..range.len()).unwrap();
    check(&twice, &cut(values, cols, range), 0);
}

#[test]
fn plain_formats() {
    for [rows, cols] in [[1, 1], [3, 7], [2, 32], [5, 33], [2, 96]] {
        let count = rows * cols;
        let (f16s, bf16s) = (halves(1, count, 10, (0, 31)), halves(2, count, 7, (0, 255)));
        let f64s: Vec<f64> = f16s.iter().map(|&bits| f16::from_bits(bits).to_f64()).collect();
        let wide: Vec<f64> = bf16s.iter().map(|&bits| bf16::from_bits(bits).to_f64()).collect();
        let shape = [rows, cols];
        let checkpoint = open_dir(
            &json!({}),
            &[
                ("f16", "F16", &shape, to_bytes(&f16s)),
                ("bf16", "BF16", &shape, to_bytes(&bf16s)),
                ("f32", "F32", &shape, wide.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect()),
                ("f64", "F64", &shape, f64s.iter().flat_map(|value| value.to_le_bytes()).collect()),
            ],
        );
        for (name, values) in [("f16", &f64s), ("bf16", &wide), ("f32", &wide), ("f64", &f64s)] {
            check_cuts(&checkpoint, name, shape, values, 1);
        }
    }
}

#[test]
fn fp8_blocks_partial_and_folded() {
    for [experts, rows, cols] in [[1, 1, 1], [1, 3, 40], [1, 130, 129], [3, 129, 200], [2, 128, 384]] {
        let mut codes = noise(3, experts * rows * cols);
        codes.iter_mut().filter(|code| **code & 0x7f == 0x7f).for_each(|code| *code ^= 1);
        let (row_blocks, col_blocks) = (rows.div_ceil(128), cols.div_ceil(128));
        let scales = halves(4, experts * row_blocks * col_blocks, 7, (120, 10));
        let powers = noise(5, scales.len()).iter().map(|byte| byte % 20 + 118).collect::<Vec<u8>>();
        let value = |scale_of: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let at = |i: usize| {
                let (expert, row, col) = (i / (rows * cols), i / cols % rows, i % cols);
                let block = (expert * row_blocks + row / 128) * col_blocks + col / 128;
                unpack(WeightFormat::Fp8, &codes[i..i + 1], &1f32.to_le_bytes())[0] * scale_of(block)
            };
            (0..codes.len()).map(at).collect()
        };
        let (shape, blocks) = ([experts, rows, cols], [experts, row_blocks, col_blocks]);
        let as_f32 = |&bits: &u16| bf16::from_bits(bits).to_f32().to_le_bytes();
        let checkpoint = open_dir(
            &json!({}),
            &[
                ("a", "F8_E4M3", &shape, codes.clone()),
                ("a_scale_inv", "F32", &blocks, scales.iter().flat_map(as_f32).collect()),
                ("b", "F8_E4M3", &shape, codes.clone()),
                ("b_scale_inv", "BF16", &blocks, to_bytes(&scales)),
                ("c", "F8_E4M3", &shape, codes.clone()),
                ("c_scale_inv", "F8_E8M0", &blocks, powers.clone()),
                ("d", "F8_E4M3", &shape, codes.clone()),
            ],
        );
        let scaled = value(&|block| bf16::from_bits(scales[block]).to_f64());
        let folded = [experts * rows, cols];
        check_cuts(&checkpoint, "a", folded, &scaled, 128);
        check_cuts(&checkpoint, "b", folded, &scaled, 128);
        check_cuts(&checkpoint, "c", folded, &value(&|block| 2f64.powi(i32::from(powers[block]) - 127)), 128);
        check_cuts(&checkpoint, "d", folded, &value(&|_| 1.0), 128);
    }
}

#[test]
fn affine_as_mlx_packs_it() {
    for bits in [4usize, 8] {
        for group in [32, 64, 128] {
            for [rows, groups] in [[1, 1], [3, 2], [2, 5]] {
                let cols = groups * group;
                let packed = noise(6, rows * cols * bits / 8);
                let steps = halves(7, rows * groups, 7, (120, 4));
                let biases = halves(8, rows * groups, 7, (120, 4));
                let value = |i: usize| {
                    let word = u32::from_le_bytes(packed[i * bits / 32 * 4..][..4].try_into().unwrap());
                    let q = word >> (bits * (i % (32 / bits))) & ((1 << bits) - 1);
                    bf16::from_bits(steps[i / group]).to_f64() * f64::from(q) + bf16::from_bits(biases[i / group]).to_f64()
                };
                let values: Vec<f64> = (0..rows * cols).map(value).collect();
                let convert = |bits: &[u16]| -> [Vec<u8>; 3] {
                    let f16s = bits.iter().flat_map(|&bits| f16::from_f64(bf16::from_bits(bits).to_f64()).to_le_bytes());
                    let f32s = bits.iter().flat_map(|&bits| bf16::from_bits(bits).to_f32().to_le_bytes());
                    [to_bytes(bits), f16s.collect(), f32s.collect()]
                };
                for (dtype, (steps, biases)) in ["BF16", "F16", "F32"].iter().zip(convert(&steps).into_iter().zip(convert(&biases))) {
                    let checkpoint = open_dir(
                        &json!({}),
                        &[
                            ("w.weight", "U32", &[rows, cols * bits / 32], packed.clone()),
                            ("w.scales", dtype, &[rows, groups], steps),
                            ("w.biases", dtype, &[rows, groups], biases),
                        ],
                    );
                    check_cuts(&checkpoint, "w.weight", [rows, cols], &values, group);
                }
            }
        }
    }
}

#[test]
fn gguf_blocks() {
    // The last exponents make the biases overflow f16.
    for exponents in [(0, 20), (24, 4)] {
        for [rows, blocks] in [[1, 1], [3, 2], [2, 5]] {
            let count = rows * blocks;
            let (steps, minima) = (halves(9, count, 10, exponents), halves(10, count, 10, (8, 8)));
            let mut file = GgufFile::default();
            let mut expected = Vec::new();
            for (name, kind, head, tail) in [("q4_0", 2, 2, 16), ("q4_1", 3, 4, 16), ("q8_0", 8, 2, 32)] {
                let mut data = Vec::new();
                let mut values = Vec::new();
                for block in 0..count {
                    let (step, minimum) = (f16::from_bits(steps[block]).to_f64(), f16::from_bits(minima[block]).to_f64());
                    let quants = noise(block as u64, tail);
                    data.extend([steps[block], minima[block]].iter().flat_map(|half| half.to_le_bytes()).take(head));
                    data.extend(&quants);
                    let nibble = |i: usize| f64::from(if i < 16 { quants[i] & 15 } else { quants[i - 16] >> 4 });
                    values.extend((0..32).map(|i| match kind {
                        2 => step * (nibble(i) - 8.0),
                        3 => step * nibble(i) + minimum,
                        _ => step * f64::from(quants[i] as i8),
                    }));
                }
                file = file.tensor(name, kind, &[blocks as u64 * 32, rows as u64], &data);
                expected.push((name, values));
            }
            let checkpoint = file.open();
            for (name, values) in expected {
                check_cuts(&checkpoint, name, [rows, blocks * 32], &values, 32);
            }
        }
    }
}

#[test]
fn scales_and_codes_that_are_no_numbers() {
    let nan = f32::NAN.to_le_bytes();
    let mut codes = vec![0; 200 * 3];
    codes[131 * 3 + 1] = 0xff;
    let mut wide = vec![0; 16];
    wide[8..].copy_from_slice(&1e300f64.to_le_bytes());
    let checkpoint = open_dir(
        &json!({}),
        &[
            ("scale", "F8_E4M3", &[200, 3], vec![0; 600]),
            ("scale_scale_inv", "F32", &[2, 1], [1f32.to_le_bytes(), nan].concat()),
            ("code", "F8_E4M3", &[200, 3], codes),
            ("wide", "F64", &[2, 1], wide),
            ("a.weight", "U32", &[2, 4], vec![0; 32]),
            ("a.scales", "F16", &[2, 1], vec![0, 0, 0, 0x7c]),
            ("a.biases", "F16", &[2, 1], vec![0; 4]),
            ("b.weight", "U32", &[2, 4], vec![0; 32]),
            ("b.scales", "F32", &[2, 1], vec![0; 8]),
            ("b.biases", "F32", &[2, 1], [[0; 4], nan].concat()),
        ],
    );
    let error = |name: &str, rows: usize, cols: usize, bad: usize| {
        let matrix = Matrix::find(&checkpoint, name, rows, cols).unwrap();
        let (mut quants, mut scales) = (Vec::new(), Vec::new());
        matrix.pack_rows(0..bad, 32, &mut quants, &mut scales).unwrap();
        assert!(matrix.decode_rows(bad..bad + 1, &mut Vec::new()).is_err());
        let error = matrix.pack_rows(0..rows, 32, &mut quants, &mut scales).unwrap_err().to_string();
        error.split_once("model.safetensors: ").unwrap().1.to_string()
    };
    assert_eq!(error("scale", 200, 3, 128), "tensor `scale_scale_inv`: expected finite scales, found NaN for a block in row 128");
    assert_eq!(error("code", 200, 3, 131), "tensor `code`: expected numbers, found an fp8 NaN in row 131");
    assert!(error("wide", 2, 1, 1).starts_with("tensor `wide`: expected numbers within the range of f32, found 1000000"));
    let expected = |name| format!("tensor `{name}`: expected finite scales and biases, found NaN or infinity in row 1");
    assert_eq!(error("a.weight", 2, 32, 1), expected("a.weight"));
    assert_eq!(error("b.weight", 2, 32, 1), expected("b.weight"));

    for (kind, block_bytes, at) in [(2, 18, 0), (3, 20, 0), (3, 20, 2), (8, 34, 0)] {
        let mut data = vec![0; block_bytes * 2];
        data[block_bytes + at..][..2].copy_from_slice(&f16::NAN.to_le_bytes());
        let checkpoint = GgufFile::default().tensor("w", kind, &[32, 2], &data).open();
        let matrix = Matrix::find(&checkpoint, "w", 2, 32).unwrap();
        let error = matrix.pack_rows(0..2, 32, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.ends_with("tensor `w`: expected finite scales, found NaN or infinity in row 1"), "{error}");
    }
}

#[test]
#[should_panic(expected = "rows 1..3 of 2")]
fn rows_past_the_end_are_our_own_mistake() {
    let checkpoint = open_dir(&json!({}), &[("w", "F32", &[2, 1], vec![0; 8])]);
    let matrix = Matrix::find(&checkpoint, "w", 2, 1).unwrap();
    let _ = matrix.pack_rows(1..3, 32, &mut Vec::new(), &mut Vec::new());
}

proptest! {
    #[test]
    fn nibbles_are_reordered_and_not_changed(block: [u8; 16]) {
        let out = reorder_nibbles(&block);
        for i in 0..32 {
            let before = if i < 16 { block[i] & 15 } else { block[i - 16] >> 4 };
            prop_assert_eq!(out[i / 2] >> (4 * (i % 2)) & 15, before, "weight {}", i);
        }
    }
}

/// The oracle's checkpoints against the safetensors crate and [`unpack`].
#[test]
fn golden_checkpoints() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, has_fp8) in [("v3-fp8", true), ("v3", false), ("v2lite", false)] {
        let checkpoint = Checkpoint::open(&golden.join(name)).unwrap();
        let mut found_fp8 = false;
        for name in checkpoint.names() {
            let file = std::fs::read(checkpoint.file_of(name)).unwrap();
            let file = ::safetensors::SafeTensors::deserialize(&file).unwrap();
            let stored = file.tensor(name).unwrap();
            assert_eq!(
                *checkpoint.tensor(name).map(|view| view.bytes.read(0..view.bytes.size_bytes())).unwrap().unwrap(),
                *stored.data(),
                "{name}"
            );
            let &[rows, cols] = stored.shape() else { continue };
            let matrix = Matrix::find(&checkpoint, name, rows, cols).unwrap();
            let mut expected = match stored.dtype() {
                ::safetensors::Dtype::F32 => unpack(WeightFormat::F32, stored.data(), &[]),
                ::safetensors::Dtype::BF16 => unpack(WeightFormat::Bf16, stored.data(), &[]),
                ::safetensors::Dtype::F8_E4M3 => {
                    found_fp8 = true;
                    unpack(WeightFormat::Fp8, stored.data(), &1f32.to_le_bytes().repeat(stored.data().len().div_ceil(128)))
                }
                other => panic!("{name} is {other:?}"),
            };
            if let Ok(scales) = file.tensor(&format!("{name}_scale_inv")) {
                let scales = unpack(WeightFormat::F32, scales.data(), &[]);
                let scale = |i: usize| scales[i / cols / 128 * cols.div_ceil(128) + i % cols / 128];
                expected.iter_mut().enumerate().for_each(|(i, value)| *value *= scale(i));
            }
            check(&matrix, &expected, 0);
        }
        assert_eq!(found_fp8, has_fp8, "{name}");
    }
}
