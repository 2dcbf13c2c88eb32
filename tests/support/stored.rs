//! Tensors as safetensors files hold them: decoding to f64 for the reference, encoding for the tiny checkpoints.
//!
//! Formats: f32, f16, bf16, integers; e4m3 with 128×128 block scales (DEEPSEEK.md §8.3, §12.6); MLX's affine
//! packing (`weight` U32, `scales`, `biases`). What the names mean is left to `reference` and `tiny`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

/// Rows and columns that share one fp8 scale; edge blocks are partial.
pub const BLOCK: usize = 128;

/// One tensor's bytes, little endian, slowest axis first.
#[derive(Clone, Debug)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// All tensors of a file or directory by name.
#[derive(Default)]
pub struct Tensors(pub HashMap<String, Stored>);

impl Tensors {
    /// The checkpoint in `dir`: the shards its index names, else `model.safetensors`.
    pub fn read_dir(dir: &Path) -> Self {
        let index = dir.join("model.safetensors.index.json");
        if !index.exists() {
            return Self::read_file(&dir.join("model.safetensors"));
        }
        let index = read_json(&index);
        let weight_map = index["weight_map"].as_object().expect("weight_map");
        let mut files: Vec<&str> = weight_map.values().map(|file| file.as_str().expect("shard name")).collect();
        files.sort_unstable();
        files.dedup();
        let mut all = Self::default();
        for file in files {
            for (name, stored) in Self::read_file(&dir.join(file)).0 {
                assert_eq!(weight_map[&name].as_str(), Some(file), "shard of {name}");
                all.0.insert(name, stored);
            }
        }
        assert_eq!(all.0.len(), weight_map.len(), "tensors in the shards of {}", dir.display());
        all
    }

    pub fn read_file(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let stored = |view: TensorView| Stored { dtype: view.dtype(), shape: view.shape().to_vec(), data: view.data().to_vec() };
        Self(file.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn get(&self, name: &str) -> &Stored {
        self.0.get(name).unwrap_or_else(|| panic!("tensor `{name}` is missing"))
    }

    /// The values of a weight of logical shape `shape`, whatever its format.
    pub fn decode(&self, name: &str, shape: &[usize]) -> Vec<f64> {
        let stored = self.get(name);
        if stored.dtype == Dtype::U32 {
            return self.decode_affine(name, shape);
        }
        assert_eq!(stored.shape, shape, "shape of {name}");
        let mut values = stored.floats();
        if let Some(scales) = self.0.get(&format!("{name}_scale_inv")) {
            let (rows, cols) = matrix_of(shape);
            let (row_blocks, col_blocks) = (rows.div_ceil(BLOCK), cols.div_ceil(BLOCK));
            assert_eq!(matrix_of(&scales.shape), (row_blocks, col_blocks), "blocks of {name}");
            let scales = scales.floats();
            for (i, value) in values.iter_mut().enumerate() {
                let (matrix, row, col) = (i / (rows * cols), i / cols % rows, i % cols);
                *value *= scales[(matrix * row_blocks + row / BLOCK) * col_blocks + col / BLOCK];
            }
        } else {
            assert_ne!(stored.dtype, Dtype::F8_E4M3, "{name} has no scales");
        }
        values
    }

    /// `scale · q + bias`; bits and group follow from the logical width and the stored shapes.
    fn decode_affine(&self, name: &str, shape: &[usize]) -> Vec<f64> {
        let base = name.strip_suffix(".weight").expect("a packed tensor ends in .weight");
        let (packed, scales) = (self.get(name), self.get(&format!("{base}.scales")));
        let biases = self.get(&format!("{base}.biases"));
        let (rows, width) = (shape[..shape.len() - 1].iter().product::<usize>(), shape[shape.len() - 1]);
        let (words, groups) = (packed.shape[packed.shape.len() - 1], scales.shape[scales.shape.len() - 1]);
        assert_eq!(packed.data.len(), rows * words * 4, "rows of {name}");
        assert_eq!(scales.shape, biases.shape, "scales and biases of {base}");
        let (bits, group) = (words * 32 / width, width / groups);
        assert!(matches!(bits, 4 | 8) && group * groups == width, "{name}: {bits} bits in groups of {group}");
        let (scales, biases) = (scales.floats(), biases.floats());
        let words_of = packed.data.as_chunks::<4>().0;
        let per_word = 32 / bits;
        let value = |i: usize| {
            let (row, col) = (i / width, i % width);
            let word = u32::from_le_bytes(words_of[row * words + col / per_word]);
            let q = word >> (bits * (col % per_word)) & ((1 << bits) - 1);
            let at = row * groups + col / group;
            scales[at] * f64::from(q) + biases[at]
        };
        (0..rows * width).map(value).collect()
    }
}

impl Stored {
    /// The stored numbers, each exact; fp8 without its scale.
    pub fn floats(&self) -> Vec<f64> {
        let (data, halves) = (&self.data, self.data.as_chunks::<2>().0);
        match self.dtype {
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
            Dtype::F16 => halves.iter().map(|b| f16::from_le_bytes(*b).into()).collect(),
            Dtype::BF16 => halves.iter().map(|b| bf16::from_le_bytes(*b).into()).collect(),
            Dtype::F8_E4M3 => data.iter().map(|b| e4m3(*b).into()).collect(),
            other => panic!("no floats in {other:?}"),
        }
    }

    pub fn ids(&self) -> Vec<u32> {
        assert_eq!(self.dtype, Dtype::I64);
        let ids = self.data.as_chunks::<8>().0.iter();
        ids.map(|b| u32::try_from(i64::from_le_bytes(*b)).expect("an id")).collect()
    }

    /// Plain floats of type `dtype`: F32, F16 or BF16.
    pub fn encode(values: &[f32], shape: &[usize], dtype: Dtype) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        let data = match dtype {
            Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            other => panic!("cannot encode {other:?}"),
        };
        Self { dtype, shape: shape.to_vec(), data }
    }

    /// A matrix as e4m3 and its `scale_inv` (F32), one scale per 128×128 block.
    pub fn encode_fp8(values: &[f32], shape: &[usize]) -> (Self, Self) {
        let (rows, cols) = matrix_of(shape);
        assert_eq!(values.len(), rows * cols, "one matrix");
        let blocks = [rows.div_ceil(BLOCK), cols.div_ceil(BLOCK)];
        let block_of = |i: usize| i / cols / BLOCK * blocks[1] + i % cols / BLOCK;
        let mut scales = vec![0f32; blocks[0] * blocks[1]];
        for (i, value) in values.iter().enumerate() {
            let scale = &mut scales[block_of(i)];
            *scale = scale.max(value.abs() / 448.0);
        }
        let data = values.iter().enumerate().map(|(i, v)| to_e4m3(v / scales[block_of(i)])).collect();
        let weight = Self { dtype: Dtype::F8_E4M3, shape: shape.to_vec(), data };
        (weight, Self::encode(&scales, &blocks, Dtype::F32))
    }

    /// MLX's affine packing along the last axis: `[weight U32, scales, biases]`, the latter two as `dtype`.
    pub fn encode_affine(values: &[f32], shape: &[usize], bits: usize, group: usize, dtype: Dtype) -> [Self; 3] {
        let steps = ((1 << bits) - 1) as f32;
        let per_word = 32 / bits;
        let (mut words, mut scales, mut biases) = (Vec::new(), Vec::new(), Vec::new());
        // Rounded first: the stored scale and bias are what the codes must fit.
        let rounded = |v: f32| Self::encode(&[v], &[1], dtype).floats()[0] as f32;
        for group in values.chunks(group) {
            let (low, high) = group.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
            let (scale, bias) = (rounded((high - low) / steps), rounded(low));
            let code = |v: &f32| ((v - bias) / scale).round().clamp(0.0, steps) as u32;
            for word in group.chunks(per_word) {
                words.push(word.iter().enumerate().fold(0, |word, (i, v)| word | code(v) << (bits * i)));
            }
            scales.push(scale);
            biases.push(bias);
        }
        let with_width = |width| [&shape[..shape.len() - 1], &[width]].concat();
        let width = shape[shape.len() - 1];
        let data = words.iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
        let grouped = with_width(width / group);
        [
            Self { dtype: Dtype::U32, shape: with_width(width / per_word), data },
            Self::encode(&scales, &grouped, dtype),
            Self::encode(&biases, &grouped, dtype),
        ]
    }
}

/// The last two axes; what precedes them counts matrices.
fn matrix_of(shape: &[usize]) -> (usize, usize) {
    (shape[shape.len() - 2], shape[shape.len() - 1])
}

/// E4M3FN: bias 7, no infinities, 0x7f and 0xff are NaN.
pub fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The nearest e4m3, ties to the even code, saturating at 448.
pub fn to_e4m3(value: f32) -> u8 {
    static MAGNITUDES: LazyLock<Vec<f32>> = LazyLock::new(|| (0..=0x7e).map(e4m3).collect());
    let magnitude = value.abs();
    let distance = |code: usize| (MAGNITUDES[code] - magnitude).abs();
    let above = MAGNITUDES.partition_point(|m| *m < magnitude).min(0x7e);
    let below = above.saturating_sub(1);
    let nearest = match distance(below).total_cmp(&distance(above)) {
        Ordering::Less => below,
        Ordering::Equal if below % 2 == 0 => below,
        _ => above,
    };
    nearest as u8 | if value.is_sign_negative() { 0x80 } else { 0 }
}

pub fn read_json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes the tensors in the given order as one `model.safetensors`, or as `shards` files of about equal size and an index.
pub fn write_dir(dir: &Path, tensors: &[(String, Stored)], shards: usize) {
    if shards == 1 {
        return write_file(&dir.join("model.safetensors"), tensors);
    }
    let total: usize = tensors.iter().map(|(_, stored)| stored.data.len()).sum();
    let mut parts = vec![Vec::new(); shards];
    let (mut written, mut weight_map) = (0, BTreeMap::new());
    for (name, stored) in tensors {
        let shard = (written * shards / total).min(shards - 1);
        weight_map.insert(name.clone(), format!("model-{:05}-of-{shards:06}.safetensors", shard + 1));
        parts[shard].push((name.clone(), stored.clone()));
        written += stored.data.len();
    }
    for part in parts {
        let (name, _) = part.first().expect("a tensor for every shard");
        write_file(&dir.join(&weight_map[name]), &part);
    }
    let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).expect("write the index");
}

fn write_file(path: &Path, tensors: &[(String, Stored)]) {
    let views = tensors.iter().map(|(name, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.data);
        (name, view.expect("bytes that fit the shape"))
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).expect("write a shard");
}
