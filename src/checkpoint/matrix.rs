//! Matrices of a checkpoint: a weight with its scales, found by name, checked against the shape the model needs.
//!
//! Which storage format a file's format becomes is decided here; the conversion of rows is in `pack`.

use std::ops::Range;
use std::path::Path;

use half::f16;
use serde_json::Value;

use super::error::shown;
use super::pack::block_bytes;
use super::tensor::read;
use super::{BLOCK_COLS, Checkpoint, CheckpointError, Dtype, FP8_BLOCK, Scale, TensorView, WeightFormat};
use crate::files::Extent;

/// A matrix `[rows, cols]`, not yet read.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
    pub(super) rows: usize,
    /// Columns as the file stores them.
    pub(super) stored_cols: usize,
    /// Those of them that belong to this matrix.
    pub(super) cols: Range<usize>,
    pub(super) format: WeightFormat,
    pub(super) stored: Stored<'a>,
}

/// Where a matrix's bytes lie in the file, of the length that rows and columns ask for.
#[derive(Clone, Debug)]
pub(super) enum Stored<'a> {
    /// F32, F16 or BF16, as the format says.
    Plain(Extent<'a>),
    /// To be rounded to f32.
    F64(Extent<'a>),
    /// e4m3 codes; scales of blocks of 128×128, each of the 3-D tensor's matrices with blocks of its own (DEEPSEEK.md §8.3).
    Fp8 { codes: Extent<'a>, scales: Option<TensorView<'a>>, matrix_rows: usize },
    /// MLX: quants, and a scale and a bias for each group.
    Affine { words: Extent<'a>, scales: Extent<'a>, biases: Extent<'a> },
    /// GGUF: Q4_0, Q4_1 or Q8_0.
    Blocks { bytes: Extent<'a>, dtype: Dtype },
}

impl<'a> Matrix<'a> {
    /// The weight `name` with its companions: `{name}_scale_inv` of fp8, MLX's `.scales` and `.biases` beside a U32 `.weight`.
    /// A tensor of more axes, such as fused experts `[experts, rows, cols]`, counts as one matrix of all their rows.
    ///
    /// # Errors
    /// No such tensor, another shape, a dtype or quantisation that is not read, companions that do not fit.
    pub fn find(checkpoint: &'a Checkpoint, name: &str, rows: usize, cols: usize) -> Result<Self, CheckpointError> {
        Self::find_tensor(checkpoint, name, rows, cols).map_err(|error| error.in_file(checkpoint.file_of(name)))
    }

    fn find_tensor(checkpoint: &'a Checkpoint, name: &str, rows: usize, cols: usize) -> Result<Self, CheckpointError> {
        let Some(view) = checkpoint.tensor(name) else {
            return Err(CheckpointError::tensor(name, format!("[{rows}, {cols}]"), "no such tensor"));
        };
        if view.dtype != Dtype::U32 {
            check_shape(&view, rows, cols)?;
        }
        let plain = |format| Ok((format, Stored::Plain(view.bytes)));
        let blocks = |bits, scale| {
            let format = WeightFormat::Affine { bits, group: BLOCK_COLS as u16, scale };
            Ok((format, Stored::Blocks { bytes: view.bytes, dtype: view.dtype }))
        };
        let (format, stored) = match view.dtype {
            Dtype::F32 => plain(WeightFormat::F32),
            Dtype::F16 => plain(WeightFormat::F16),
            Dtype::Bf16 => plain(WeightFormat::Bf16),
            Dtype::F64 => Ok((WeightFormat::F32, Stored::F64(view.bytes))),
            Dtype::F8E4m3 => find_fp8(checkpoint, &view),
            Dtype::U32 => find_affine(checkpoint, &view, rows, cols),
            Dtype::Q4_0 => blocks(4, find_block_scale(&view)?),
            Dtype::Q4_1 => blocks(4, Scale::F16),
            Dtype::Q8_0 => blocks(8, find_block_scale(&view)?),
            other => {
                let expected = "F32, F16, BF16, F64, F8_E4M3, MLX's packed U32, Q8_0, Q4_0 or Q4_1";
                Err(CheckpointError::tensor(name, expected, other.to_string()))
            }
        }?;
        let path = checkpoint.file_of(name);
        Ok(Self { name: view.name, path, rows, stored_cols: cols, cols: 0..cols, format, stored })
    }

    pub fn name(&self) -> &'a str {
        self.name
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols.len()
    }

    /// How its rows are packed.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// The same rows, cut to some of the columns.
    ///
    /// # Errors
    /// A cut through an affine group, or one that begins inside 128 columns of fp8.
    pub fn columns(mut self, range: Range<usize>) -> Result<Self, CheckpointError> {
        assert!(range.start <= range.end && range.end <= self.cols(), "columns {range:?} of {}", self.cols());
        let (unit, fits) = match self.format {
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => (1, true),
            WeightFormat::Fp8 => (FP8_BLOCK, range.start.is_multiple_of(FP8_BLOCK)),
            WeightFormat::Affine { group, .. } => {
                let group = usize::from(group);
                (group, range.start.is_multiple_of(group) && range.len().is_multiple_of(group))
            }
        };
        if !fits {
            let expected = format!("a cut between its groups of {unit} columns");
            return Err(CheckpointError::tensor(self.name, expected, format!("columns {range:?}")).in_file(self.path));
        }
        self.cols = self.cols.start + range.start..self.cols.start + range.end;
        Ok(self)
    }
}

fn check_shape(view: &TensorView, rows: usize, cols: usize) -> Result<(), CheckpointError> {
    if view.shape.last() == Some(&cols) && rows_of(&view.shape) == Some(rows) {
        return Ok(());
    }
    Err(CheckpointError::tensor(view.name, format!("[{rows}, {cols}]"), format!("{:?}", view.shape)))
}

/// The product of all axes but the last. It can overflow in a tensor without elements.
fn rows_of(shape: &[usize]) -> Option<usize> {
    let (_, leading) = shape.split_last()?;
    leading.iter().try_fold(1usize, |product, &axis| product.checked_mul(axis))
}

fn find_fp8<'a>(checkpoint: &'a Checkpoint, view: &TensorView<'a>) -> Result<(WeightFormat, Stored<'a>), CheckpointError> {
    let matrix_rows = view.shape.iter().nth_back(1).copied().unwrap_or(1);
    let name = format!("{}_scale_inv", view.name);
    let scales = checkpoint.tensor(&name);
    if let Some(scales) = &scales {
        let split = view.shape.len().saturating_sub(2);
        let blocks = |(axis, &size): (usize, &usize)| if axis < split { size } else { size.div_ceil(FP8_BLOCK) };
        let expected: Vec<usize> = view.shape.iter().enumerate().map(blocks).collect();
        if scales.shape != expected {
            let expected = format!("{expected:?} (blocks of 128×128 of `{}`)", shown(view.name));
            return Err(CheckpointError::tensor(&name, expected, format!("{:?}", scales.shape)));
        }
        if !matches!(scales.dtype, Dtype::F32 | Dtype::Bf16 | Dtype::F16 | Dtype::F8E8m0) {
            return Err(CheckpointError::tensor(&name, "F32, BF16, F16 or F8_E8M0", scales.dtype.to_string()));
        }
    } else {
        // Scales under another name have another meaning, and to pass over them would be silently wrong.
        let base = view.name.strip_suffix(".weight").unwrap_or(view.name);
        for other in [format!("{}_scale", view.name), format!("{base}.scale"), format!("{base}.scales")] {
            if super::exists(checkpoint, &other) {
                return Err(CheckpointError::tensor(&name, "scales of blocks of 128×128", format!("`{}`", shown(&other))));
            }
        }
    }
    Ok((WeightFormat::Fp8, Stored::Fp8 { codes: view.bytes, scales, matrix_rows }))
}

fn find_affine<'a>(
    checkpoint: &'a Checkpoint,
    view: &TensorView<'a>,
    rows: usize,
    cols: usize,
) -> Result<(WeightFormat, Stored<'a>), CheckpointError> {
    let module = view.name.strip_suffix(".weight").unwrap_or(view.name);
    let stated = StatedAffine::read(checkpoint.config(), module)?;
    let (scales_name, biases_name) = (format!("{module}.scales"), format!("{module}.biases"));
    let companion = |name: &str| {
        let expected = format!("scales and biases beside the packed U32 `{}`", shown(view.name));
        checkpoint.tensor(name).ok_or_else(|| CheckpointError::tensor(name, expected, "no such tensor"))
    };
    let (scales, biases) = (companion(&scales_name)?, companion(&biases_name)?);

    let words = view.shape.last().copied().unwrap_or(0);
    let bits = [4u8, 8].into_iter().find(|&bits| words.checked_mul(32) == cols.checked_mul(usize::from(bits)));
    let Some(bits) = bits.filter(|_| cols > 0 && rows_of(&view.shape) == Some(rows)) else {
        let expected = format!("[{rows}, {}] or [{rows}, {}] (4 or 8 bits for {cols} columns)", cols / 8, cols / 4);
        return Err(CheckpointError::tensor(view.name, expected, format!("{:?}", view.shape)));
    };
    let groups = scales.shape.last().copied().unwrap_or(0);
    let group = [32u16, 64, 128].into_iter().find(|&group| groups.checked_mul(usize::from(group)) == Some(cols));
    let Some(group) = group else {
        let expected = format!("{cols} columns in groups of 32, 64 or 128");
        return Err(CheckpointError::tensor(&scales_name, expected, format!("{:?}", scales.shape)));
    };
    stated.check("bits", bits.into())?;
    stated.check("group_size", group.into())?;

    check_shape(&scales, rows, groups)?;
    check_shape(&biases, rows, groups)?;
    let scale = match scales.dtype {
        Dtype::F16 => Scale::F16,
        Dtype::Bf16 => Scale::Bf16,
        Dtype::F32 => Scale::F32,
        other => return Err(CheckpointError::tensor(&scales_name, "F16, BF16 or F32", other.to_string())),
    };
    if biases.dtype != scales.dtype {
        return Err(CheckpointError::tensor(&biases_name, format!("{} as its scales", scales.dtype), biases.dtype.to_string()));
    }
    let stored = Stored::Affine { words: view.bytes, scales: scales.bytes, biases: biases.bytes };
    Ok((WeightFormat::Affine { bits, group, scale }, stored))
}

/// What `config.json` says of a module's affine quantisation: `quantization`, with an object for a module that differs.
struct StatedAffine<'a> {
    place: String,
    module: Option<&'a Value>,
    global: Option<&'a Value>,
}

impl<'a> StatedAffine<'a> {
    fn read(config: Option<&'a Value>, module: &str) -> Result<Self, CheckpointError> {
        let names = ["quantization", "quantization_config"];
        let found = names.into_iter().find_map(|name| Some((name, config?.get(name).filter(|value| !value.is_null())?)));
        let Some((name, global)) = found else {
            return Ok(Self { place: String::new(), module: None, global: None });
        };
        let own = global.get(module);
        if own.and_then(Value::as_bool) == Some(false) {
            let field = format!("config.json {name}.`{}`", shown(module));
            return Err(CheckpointError::field(field, "a quantised module, as its weight is packed U32", "false"));
        }
        let stated = Self { place: format!("config.json {name}"), module: own, global: Some(global) };
        if let Some((field, mode)) = stated.get("mode").filter(|(_, mode)| *mode != "affine") {
            return Err(CheckpointError::field(field, "\"affine\"", shown(&mode.to_string())));
        }
        for (field, known) in [("bits", &[4, 8][..]), ("group_size", &[32, 64, 128])] {
            if let Some((field, value)) = stated.get(field)
                && !known.iter().any(|known| value == known)
            {
                return Err(CheckpointError::field(field, format!("one of {known:?}"), shown(&value.to_string())));
            }
        }
        Ok(stated)
    }

    /// A field's place and value, the module's before the model's.
    fn get(&self, field: &str) -> Option<(String, &'a Value)> {
        let own = self.module.and_then(|own| own.get(field)).map(|value| (format!("{} of this module, {field}", self.place), value));
        own.or_else(|| self.global?.get(field).map(|value| (format!("{}.{field}", self.place), value)))
    }

    /// Compares what is stated, if it is, with what the tensors' shapes say.
    fn check(&self, field: &str, found: u64) -> Result<(), CheckpointError> {
        match self.get(field) {
            Some((place, stated)) if stated.as_u64() != Some(found) => {
                Err(CheckpointError::field(place, format!("{found}, as the tensors' shapes say"), stated.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// Blocks looked at in one go.
const SCAN_BLOCKS: usize = 1 << 16;

/// Whether all of a tensor's biases (`-8 d`, `-128 d`) are f16 numbers, as its scales `d` are: multiplication by a power of
/// two is exact unless it overflows.
fn find_block_scale(view: &TensorView) -> Result<Scale, CheckpointError> {
    let block_bytes = block_bytes(view.dtype);
    let limit = if view.dtype == Dtype::Q4_0 { f16::from_f32_const(8188.0) } else { f16::from_f32_const(511.75) };
    let mut largest = 0;
    let size_bytes = view.bytes.size_bytes();
    for begin in (0..size_bytes).step_by(SCAN_BLOCKS * block_bytes) {
        let part = begin..size_bytes.min(begin + (SCAN_BLOCKS * block_bytes) as u64);
        for block in read(view.name, &view.bytes, part)?.chunks_exact(block_bytes) {
            largest = largest.max(u16::from_le_bytes([block[0], block[1]]) & 0x7fff);
        }
    }
    // Infinities and NaN are refused with their place when the row is packed.
    Ok(if largest <= limit.to_bits() { Scale::F16 } else { Scale::F32 })
}

#[cfg(test)]
mod tests;
