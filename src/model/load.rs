//! Bringing weights to the device: packed in bounded pieces, with progress, from a checkpoint or at random.

use super::ModelError;
use crate::checkpoint::{Checkpoint, CheckpointError, Matrix, Scale, WeightFormat, vector};
use crate::gpu::{Gpu, Tensor};
use crate::kernels::Weight;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How far a load is.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct LoadProgress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// Packed bytes that are written at once.
const PIECE_BYTES: usize = 4 << 20;
/// Bytes written before we wait for the device, so that staging memory stays small.
const SETTLE_BYTES: u64 = 64 << 20;

/// Lets whoever polls come between two pieces: a load can be given up there.
#[cfg(not(target_arch = "wasm32"))]
async fn breathe() {
    let mut has_rested = false;
    let rest = |context: &mut std::task::Context<'_>| {
        if std::mem::replace(&mut has_rested, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    };
    std::future::poll_fn(rest).await;
}

/// Lets the browser hand out messages between two pieces: a load can be given up there.
#[cfg(target_arch = "wasm32")]
async fn breathe() {
    gloo_timers::future::TimeoutFuture::new(0).await;
}

/// What a stored weight is made of, from the top row down.
pub enum Piece<'a> {
    Rows(Matrix<'a>, Range<usize>),
    Zeros(usize),
}

impl Piece<'_> {
    /// All rows of a matrix.
    pub fn all(matrix: Matrix<'_>) -> Piece<'_> {
        let rows = 0..matrix.rows();
        Piece::Rows(matrix, rows)
    }

    fn rows(&self) -> usize {
        match self {
            Self::Rows(_, range) => range.len(),
            Self::Zeros(rows) => *rows,
        }
    }
}

/// Where numbers come from.
pub enum Origin<'a> {
    Checkpoint(&'a Checkpoint),
    /// Random weights in this format, for benches of a shape alone.
    Random {
        format: WeightFormat,
        seed: u64,
    },
}

/// Loads weights one after another.
pub struct Loader<'a> {
    pub gpu: &'a Gpu,
    pub origin: Origin<'a>,
    progress: &'a mut dyn FnMut(LoadProgress),
    done_bytes: u64,
    total_bytes: u64,
    unsettled_bytes: u64,
}

impl<'a> Loader<'a> {
    pub fn new(gpu: &'a Gpu, origin: Origin<'a>, total_bytes: u64, progress: &'a mut dyn FnMut(LoadProgress)) -> Self {
        Self { gpu, origin, progress, done_bytes: 0, total_bytes, unsettled_bytes: 0 }
    }

    /// Bytes on the device so far.
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    async fn wrote(&mut self, bytes: u64) -> Result<(), ModelError> {
        self.done_bytes += bytes;
        self.unsettled_bytes += bytes;
        if self.unsettled_bytes >= SETTLE_BYTES {
            self.unsettled_bytes = 0;
            self.gpu.settle().await?;
            if let Origin::Checkpoint(checkpoint) = self.origin {
                checkpoint.release_pages();
            }
        }
        let total_bytes = self.total_bytes.max(self.done_bytes);
        (self.progress)(LoadProgress { done_bytes: self.done_bytes, total_bytes });
        breathe().await;
        Ok(())
    }

    /// A matrix from the checkpoint's pieces, or a random one of the same shape.
    ///
    /// `pieces` are asked for only when there is a checkpoint. Slabs are cut between units of `unit_rows` rows.
    pub async fn weight(
        &mut self,
        name: &str,
        [rows, cols]: [usize; 2],
        unit_rows: usize,
        pieces: impl FnOnce(&'a Checkpoint) -> Result<Vec<Piece<'a>>, CheckpointError>,
    ) -> Result<Weight, ModelError> {
        match self.origin {
            Origin::Random { format, seed } => self.random(name, [rows, cols], unit_rows, format, seed).await,
            Origin::Checkpoint(checkpoint) => {
                let pieces = pieces(checkpoint)?;
                assert_eq!(pieces.iter().map(Piece::rows).sum::<usize>(), rows, "{name}: rows of the pieces");
                self.packed(name, [rows, cols], unit_rows, &pieces).await
            }
        }
    }

    async fn packed(&mut self, name: &str, shape: [usize; 2], unit_rows: usize, pieces: &[Piece<'_>]) -> Result<Weight, ModelError> {
        let mut formats = pieces.iter().filter_map(|piece| match piece {
            Piece::Rows(matrix, _) => Some(matrix.format()),
            Piece::Zeros(_) => None,
        });
        let first = formats.next().unwrap_or(WeightFormat::F32);
        // Pieces in several formats meet in f32, which holds all of them exactly.
        let format = if formats.all(|format| format == first) { first } else { WeightFormat::F32 };
        let decode = format != first;
        let weight = Weight::allocate(self.gpu, name, format, shape, unit_rows)?;
        let (row_bytes, scale_bytes) = (format.row_bytes(weight.cols), format.scale_row_bytes(weight.cols));
        let step = (PIECE_BYTES / (row_bytes + scale_bytes)).max(1);
        let (mut quants, mut scales) = (vec![], vec![]);
        let gpu = self.gpu;
        let mut writer = weight.writer(gpu);
        for piece in pieces {
            for from in (0..piece.rows()).step_by(step) {
                let count = step.min(piece.rows() - from);
                quants.clear();
                scales.clear();
                match piece {
                    Piece::Rows(matrix, range) => {
                        let part = range.start + from..range.start + from + count;
                        if decode {
                            decode_padded(matrix, part, weight.cols, &mut quants)?;
                        } else {
                            matrix.pack_rows(part, weight.cols, &mut quants, &mut scales)?;
                        }
                    }
                    Piece::Zeros(_) => {
                        quants.resize(count * row_bytes, 0);
                        scales.resize(count * scale_bytes, 0);
                    }
                }
                writer.push(&quants, &scales);
                self.wrote((quants.len() + scales.len()) as u64).await?;
            }
        }
        Ok(weight)
    }

    async fn random(
        &mut self,
        name: &str,
        shape: [usize; 2],
        unit_rows: usize,
        format: WeightFormat,
        seed: u64,
    ) -> Result<Weight, ModelError> {
        let weight = Weight::allocate(self.gpu, name, format, shape, unit_rows)?;
        let mut noise = Noise(seed ^ (self.done_bytes + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (row_bytes, scale_bytes) = (format.row_bytes(weight.cols), format.scale_row_bytes(weight.cols));
        let step = (PIECE_BYTES / (row_bytes + scale_bytes)).clamp(1, shape[0]);
        // One block of rows stands for all: what a bench sees does not depend on the numbers.
        let mut quants = vec![0u8; step * row_bytes];
        let mut scales = vec![0u8; step * scale_bytes];
        noise.fill(format, weight.cols, &mut quants, &mut scales);
        let gpu = self.gpu;
        let mut writer = weight.writer(gpu);
        for row in (0..shape[0]).step_by(step) {
            let count = step.min(shape[0] - row);
            writer.push(&quants[..count * row_bytes], &scales[..count * scale_bytes]);
            self.wrote((count * (row_bytes + scale_bytes)) as u64).await?;
        }
        Ok(weight)
    }

    /// A vector of `len` numbers; with random weights `filler` everywhere.
    pub fn numbers(&self, name: &str, len: usize, filler: f32) -> Result<Vec<f32>, ModelError> {
        Ok(match self.origin {
            Origin::Checkpoint(checkpoint) => vector(checkpoint, name, len)?,
            Origin::Random { .. } => vec![filler; len],
        })
    }

    /// [`Self::numbers`] stored with `cols`, zeros beyond `len`.
    pub fn vector(&mut self, name: &str, len: usize, cols: usize, filler: f32) -> Result<Tensor, ModelError> {
        let mut values = self.numbers(name, len, filler)?;
        values.resize(cols, 0.0);
        self.values(name, &values)
    }

    /// A vector of given numbers.
    pub fn values(&mut self, name: &str, values: &[f32]) -> Result<Tensor, ModelError> {
        Ok(self.gpu.tensor(name, &[values.len()], values)?)
    }

    /// A norm's weight, or another vector that kernels read by quads, stored as activations are: zeros beyond `len`.
    pub fn gain(&mut self, name: &str, len: usize) -> Result<Tensor, ModelError> {
        let mut values = self.numbers(name, len, 1.0)?;
        values.resize(super::weights::pad(len), 0.0);
        self.gain_of(name, &values)
    }

    /// [`Self::gain`] of given numbers.
    pub fn gain_of(&mut self, name: &str, values: &[f32]) -> Result<Tensor, ModelError> {
        Ok(self.gpu.activation_of(name, &[values.len()], values)?)
    }

    pub fn indices(&mut self, name: &str, values: &[u32]) -> Result<Tensor, ModelError> {
        Ok(self.gpu.tensor_u32(name, &[values.len()], values)?)
    }
}

fn decode_padded(matrix: &Matrix<'_>, rows: Range<usize>, cols: usize, out: &mut Vec<u8>) -> Result<(), CheckpointError> {
    for row in rows {
        let mut values = vec![];
        matrix.decode_rows(row..row + 1, &mut values)?;
        values.resize(cols, 0.0);
        out.extend_from_slice(bytemuck::cast_slice(&values));
    }
    Ok(())
}

/// Random weights of standard deviation 1 / sqrt(cols), so that activations keep their size.
struct Noise(u64);

impl Noise {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform with mean 0 and standard deviation 1.
    fn unit(&mut self) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 1.732
    }

    fn fill(&mut self, format: WeightFormat, cols: usize, quants: &mut [u8], scales: &mut [u8]) {
        let size = (cols as f32).powf(-0.5);
        match format {
            WeightFormat::F32 => quants.chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&(self.unit() * size).to_le_bytes())),
            WeightFormat::F16 => {
                quants.chunks_exact_mut(2).for_each(|b| b.copy_from_slice(&half::f16::from_f32(self.unit() * size).to_le_bytes()))
            }
            WeightFormat::Bf16 => {
                quants.chunks_exact_mut(2).for_each(|b| b.copy_from_slice(&half::bf16::from_f32(self.unit() * size).to_le_bytes()))
            }
            WeightFormat::Fp8 => {
                // Exponents 6 to 9 of both signs: magnitudes from 1/2 to 8, no NaN.
                quants.iter_mut().for_each(|b| *b = (self.next() & 0x87) as u8 | (0x30 + ((self.next() & 3) as u8) * 8));
                scales.chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&(size / 3.5).to_le_bytes()));
            }
            WeightFormat::Affine { bits, scale, .. } => {
                quants.chunks_exact_mut(8).for_each(|b| b.copy_from_slice(&self.next().to_le_bytes()));
                let levels = f32::from((1u16 << bits) - 1);
                let (s, bias) = (size * 3.464 / levels, -size * 1.732);
                match scale {
                    Scale::F32 => scales.chunks_exact_mut(8).for_each(|b| {
                        b[..4].copy_from_slice(&s.to_le_bytes());
                        b[4..].copy_from_slice(&bias.to_le_bytes());
                    }),
                    Scale::F16 | Scale::Bf16 => {
                        let pair =
                            |v: f32| if scale == Scale::F16 { half::f16::from_f32(v).to_bits() } else { half::bf16::from_f32(v).to_bits() };
                        scales.chunks_exact_mut(4).for_each(|b| {
                            b[..2].copy_from_slice(&pair(s).to_le_bytes());
                            b[2..].copy_from_slice(&pair(bias).to_le_bytes());
                        });
                    }
                }
            }
        }
    }
}
