//! From a file's rows to rows as the kernels read them ([`WeightFormat`]), nothing rounded but F64.

use std::borrow::Cow;
use std::ops::Range;

use half::f16;

use super::formats::{decode_row, float_at, is_finite_16};
use super::matrix::{Matrix, Stored};
use super::{BLOCK_COLS, CheckpointError, Dtype, FP8_BLOCK, Scale, TensorView, WeightFormat, tensor};
use crate::files::Extent;

/// Some of a matrix's rows as they lie in the file.
struct Read<'a> {
    /// The first of them.
    first: usize,
    /// Numbers, codes, words or blocks.
    numbers: Cow<'a, [u8]>,
    /// What goes with them, if anything: of fp8 from the first row's blocks on.
    scales: Cow<'a, [u8]>,
    biases: Cow<'a, [u8]>,
}

impl<'a> Matrix<'a> {
    /// Appends packed rows to `quants` and, where the format has any, their scales to `scales`. Columns beyond the matrix's
    /// own, up to `cols_padded` (a multiple of 32), decode to 0.
    ///
    /// # Errors
    /// A scale that is NaN or infinite, an fp8 code that is NaN, an F64 beyond f32's range, naming tensor and row.
    pub fn pack_rows(
        &self,
        range: Range<usize>,
        cols_padded: usize,
        quants: &mut Vec<u8>,
        scales: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        assert!(cols_padded >= self.cols() && cols_padded.is_multiple_of(BLOCK_COLS), "{} columns padded to {cols_padded}", self.cols());
        quants.reserve(range.len() * self.format.row_bytes(cols_padded));
        scales.reserve(range.len() * self.format.scale_row_bytes(cols_padded));
        let whole = self.cols == (0..self.stored_cols) && cols_padded == self.stored_cols;
        if range.is_empty() {
            return Ok(());
        }
        let mut pack = || {
            let read = self.read(range.clone())?;
            if matches!(self.stored, Stored::Plain(_)) && whole {
                quants.extend_from_slice(&read.numbers);
                return Ok(());
            }
            range.clone().try_for_each(|row| self.pack_row(row, &read, cols_padded, quants, scales))
        };
        pack().map_err(|error: CheckpointError| error.in_file(self.path))
    }

    fn read(&self, range: Range<usize>) -> Result<Read<'a>, CheckpointError> {
        let (cols, first) = (self.stored_cols, range.start);
        let rows = |extent: &Extent<'a>, range: Range<usize>, row_bytes: usize| {
            let (begin, end, size) = (range.start as u64, range.end as u64, row_bytes as u64);
            tensor::read(self.name, extent, begin * size..end * size)
        };
        let numbers = |numbers| Read { first, numbers, scales: Cow::default(), biases: Cow::default() };
        Ok(match &self.stored {
            Stored::Plain(bytes) => numbers(rows(bytes, range, self.format.row_bytes(1) * cols)?),
            Stored::F64(bytes) => numbers(rows(bytes, range, 8 * cols)?),
            Stored::Fp8 { codes, scales, matrix_rows } => {
                let blocks = self.fp8_block_row(range.start, *matrix_rows)..self.fp8_block_row(range.end - 1, *matrix_rows) + 1;
                let row_bytes = |view: &TensorView<'a>| view.dtype.size_bytes() * cols.div_ceil(FP8_BLOCK);
                let scales = scales.as_ref().map(|view| rows(&view.bytes, blocks, row_bytes(view))).transpose()?;
                Read { scales: scales.unwrap_or_default(), ..numbers(rows(codes, range, cols)?) }
            }
            Stored::Affine { words, scales, biases } => {
                let WeightFormat::Affine { bits, group, scale } = self.format else {
                    unreachable!("affine tensors have affine formats");
                };
                let row_bytes = scale.pair_bytes() / 2 * (cols / usize::from(group));
                let (scales, biases) = (rows(scales, range.clone(), row_bytes)?, rows(biases, range.clone(), row_bytes)?);
                Read { scales, biases, ..numbers(rows(words, range, cols * usize::from(bits) / 8)?) }
            }
            Stored::Blocks { bytes, dtype } => numbers(rows(bytes, range, cols / BLOCK_COLS * block_bytes(*dtype))?),
        })
    }

    /// The row of 128×128 blocks that a row lies in: each matrix of a 3-D tensor has blocks of its own.
    fn fp8_block_row(&self, row: usize, matrix_rows: usize) -> usize {
        row / matrix_rows * matrix_rows.div_ceil(FP8_BLOCK) + row % matrix_rows / FP8_BLOCK
    }

    /// Appends rows as f32, each number the nearest to the file's: exact for all formats but F64 and products too long for f32.
    ///
    /// # Errors
    /// As [`Self::pack_rows`].
    pub fn decode_rows(&self, range: Range<usize>, out: &mut Vec<f32>) -> Result<(), CheckpointError> {
        let cols_padded = self.cols().next_multiple_of(BLOCK_COLS);
        let (mut quants, mut scales) = (Vec::new(), Vec::new());
        out.reserve(range.len() * self.cols());
        for row in range {
            quants.clear();
            scales.clear();
            self.pack_rows(row..row + 1, cols_padded, &mut quants, &mut scales)?;
            let end = out.len() + self.cols();
            decode_row(self.format, &quants, &scales, out);
            out.truncate(end);
        }
        Ok(())
    }

    fn pack_row(
        &self,
        row: usize,
        read: &Read<'_>,
        cols_padded: usize,
        quants: &mut Vec<u8>,
        scales: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        let quants_end = quants.len() + self.format.row_bytes(cols_padded);
        let scales_end = scales.len() + self.format.scale_row_bytes(cols_padded);
        match &self.stored {
            Stored::Plain(_) => quants.extend_from_slice(self.cut(read, row, self.format.row_bytes(1))),
            Stored::F64(_) => self.pack_f64(row, self.cut(read, row, 8), quants)?,
            Stored::Fp8 { scales: blocks, matrix_rows, .. } => {
                let codes = self.cut(read, row, 1);
                // Without a branch in the loop, so that it runs many bytes at a time.
                if codes.iter().fold(false, |found, &code| found | (code & 0x7f == 0x7f)) {
                    return Err(self.wrong(self.name, "numbers", "an fp8 NaN", row));
                }
                quants.extend_from_slice(codes);
                self.pack_fp8_scales(row, read, blocks.as_ref(), *matrix_rows, scales)?;
            }
            Stored::Affine { .. } => {
                let bits = if let WeightFormat::Affine { bits: 4, .. } = self.format { 4 } else { 8 };
                let row_bytes = self.stored_cols * bits / 8;
                let words = &read.numbers[(row - read.first) * row_bytes..][..row_bytes];
                quants.extend_from_slice(&words[self.cols.start * bits / 8..self.cols.end * bits / 8]);
                self.pack_affine_scales(row, read, scales)?;
            }
            Stored::Blocks { dtype, .. } => self.pack_blocks(row, read, *dtype, quants, scales)?,
        }
        quants.resize(quants_end, 0);
        scales.resize(scales_end, 0);
        Ok(())
    }

    /// This matrix's columns of a row of numbers of `size` bytes.
    fn cut<'b>(&self, read: &'b Read<'_>, row: usize, size: usize) -> &'b [u8] {
        let begin = (row - read.first) * self.stored_cols;
        &read.numbers[(begin + self.cols.start) * size..(begin + self.cols.end) * size]
    }

    fn wrong(&self, name: &str, expected: &str, found: &str, row: usize) -> CheckpointError {
        CheckpointError::tensor(name, expected, format!("{found} in row {row}"))
    }

    fn pack_f64(&self, row: usize, bytes: &[u8], quants: &mut Vec<u8>) -> Result<(), CheckpointError> {
        for &bytes in bytes.as_chunks::<8>().0 {
            let number = f64::from_le_bytes(bytes);
            let rounded = number as f32;
            if number.is_finite() && rounded.is_infinite() {
                return Err(self.wrong(self.name, "numbers within the range of f32", &number.to_string(), row));
            }
            quants.extend_from_slice(&rounded.to_le_bytes());
        }
        Ok(())
    }

    /// Each row gets its block's scales, so that rows can be cut and permuted freely.
    fn pack_fp8_scales(
        &self,
        row: usize,
        read: &Read<'_>,
        blocks: Option<&TensorView>,
        matrix_rows: usize,
        scales: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        let count = self.cols().div_ceil(FP8_BLOCK);
        let Some(blocks) = blocks else {
            scales.extend((0..count).flat_map(|_| 1f32.to_le_bytes()));
            return Ok(());
        };
        let block_row = self.fp8_block_row(row, matrix_rows) - self.fp8_block_row(read.first, matrix_rows);
        let first = block_row * self.stored_cols.div_ceil(FP8_BLOCK) + self.cols.start / FP8_BLOCK;
        for index in first..first + count {
            let scale = float_at(&read.scales, blocks.dtype, index);
            if !scale.is_finite() {
                return Err(self.wrong(blocks.name, "finite scales", &format!("{scale} for a block"), row));
            }
            scales.extend_from_slice(&scale.to_le_bytes());
        }
        Ok(())
    }

    fn pack_affine_scales(&self, row: usize, read: &Read<'_>, scales: &mut Vec<u8>) -> Result<(), CheckpointError> {
        let WeightFormat::Affine { group, scale, .. } = self.format else {
            unreachable!("affine tensors have affine formats");
        };
        let size = scale.pair_bytes() / 2;
        let group = usize::from(group);
        let begin = (row - read.first) * (self.stored_cols / group);
        let groups = (begin + self.cols.start / group) * size..(begin + self.cols.end / group) * size;
        let pairs = read.scales[groups.clone()].chunks_exact(size).zip(read.biases[groups].chunks_exact(size));
        for (step, bias) in pairs {
            let is_finite = |bytes: &[u8]| match scale {
                Scale::F32 => float_at(bytes, Dtype::F32, 0).is_finite(),
                Scale::F16 | Scale::Bf16 => is_finite_16(scale, u16::from_le_bytes([bytes[0], bytes[1]])),
            };
            if !is_finite(step) || !is_finite(bias) {
                return Err(self.wrong(self.name, "finite scales and biases", "NaN or infinity", row));
            }
            scales.extend_from_slice(step);
            scales.extend_from_slice(bias);
        }
        Ok(())
    }

    fn pack_blocks(
        &self,
        row: usize,
        read: &Read<'_>,
        dtype: Dtype,
        quants: &mut Vec<u8>,
        scales: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        let block_bytes = block_bytes(dtype);
        let begin = (row - read.first) * (self.stored_cols / BLOCK_COLS);
        let blocks = begin + self.cols.start / BLOCK_COLS..begin + self.cols.end / BLOCK_COLS;
        for block in read.numbers[blocks.start * block_bytes..blocks.end * block_bytes].chunks_exact(block_bytes) {
            let step = f16::from_le_bytes([block[0], block[1]]);
            let minimum = f16::from_le_bytes([block[2], block[3]]);
            if !step.is_finite() || (dtype == Dtype::Q4_1 && !minimum.is_finite()) {
                return Err(self.wrong(self.name, "finite scales", "NaN or infinity", row));
            }
            let bias = match dtype {
                Dtype::Q4_0 => -8.0 * step.to_f32(),
                Dtype::Q4_1 => minimum.to_f32(),
                _ => -128.0 * step.to_f32(),
            };
            if let WeightFormat::Affine { scale: Scale::F32, .. } = self.format {
                scales.extend_from_slice(&step.to_f32().to_le_bytes());
                scales.extend_from_slice(&bias.to_le_bytes());
            } else {
                scales.extend_from_slice(&block[..2]);
                scales.extend_from_slice(&f16::from_f32(bias).to_le_bytes());
            }
            match dtype {
                Dtype::Q4_0 => quants.extend_from_slice(&reorder_nibbles(&block[2..])),
                Dtype::Q4_1 => quants.extend_from_slice(&reorder_nibbles(&block[4..])),
                _ => quants.extend(block[2..].iter().map(|&q| q ^ 0x80)),
            }
        }
        Ok(())
    }
}

/// Bytes of a GGUF block of 32 weights.
pub(super) fn block_bytes(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Q4_0 => 18,
        Dtype::Q4_1 => 20,
        _ => 34,
    }
}

/// From GGUF's order, weights i and i + 16 in byte i, to neighbours in one byte.
fn reorder_nibbles(block: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    for (pair, &[even, odd]) in block.as_chunks::<2>().0.iter().enumerate() {
        out[pair] = even & 15 | odd << 4;
        out[pair + 8] = even >> 4 | odd & 0xf0;
    }
    out
}

#[cfg(test)]
mod tests;
