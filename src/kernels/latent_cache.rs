//! How a layer's latent cache keeps the numbers of an entry, and the parts of shaders that read and write them.

use super::weight::BLOCK_COLS;
use crate::gpu::{Element, Gpu, GpuError, Launch, Part, Program, Storage, Tensor};
use crate::wgsl;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const ENTRY_F32: Part = wgsl!("parts/entry_f32.wgsl");
const ENTRY_F16: Part = wgsl!("parts/entry_f16.wgsl");
const ENTRY_Q8: Part = wgsl!("parts/entry_q8.wgsl");
const APPEND_F32: Part = wgsl!("parts/append_f32.wgsl");
const APPEND_F16: Part = wgsl!("parts/append_f16.wgsl");
const APPEND_Q8: Part = wgsl!("parts/append_q8.wgsl");

/// Blocks of an entry whose scales fit in the workgroup memory of `append_q8`.
const MAX_BLOCKS: usize = 256;

/// What a number of the latent cache is kept in.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum CacheFormat {
    F32,
    #[default]
    F16,
    /// Eight bits, and an f32 for every 32 numbers: the largest of them.
    Q8,
}

impl CacheFormat {
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8];

    /// Four-byte words of an entry of so many numbers, a multiple of 32.
    pub fn words(self, numbers: usize) -> usize {
        match self {
            Self::F32 => numbers,
            Self::F16 => numbers / 2,
            Self::Q8 => numbers / 4 + (numbers / BLOCK_COLS).next_multiple_of(4),
        }
    }

    /// Quads of numbers that one load brings.
    pub(super) fn piece_quads(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::F16 => 2,
            Self::Q8 => 4,
        }
    }

    /// An entry as kept.
    pub(super) fn encode(self, entry: &[f32]) -> Vec<u32> {
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match self {
            Self::F32 => bytemuck::cast_slice(entry).to_vec(),
            Self::F16 => entry.chunks(2).map(|pair| word(bytemuck::bytes_of(&[0, 1].map(|i| half::f16::from_f32(pair[i]))))).collect(),
            Self::Q8 => {
                let largest = |block: &[f32]| block.iter().fold(0f32, |most, v| most.max(v.abs()));
                let mut scales: Vec<u32> = entry.chunks(BLOCK_COLS).map(|block| largest(block).to_bits()).collect();
                scales.resize(scales.len().next_multiple_of(4), 0);
                let eight = |block: &[f32]| {
                    let most = largest(block);
                    block.iter().map(|v| if most > 0.0 { (v / most * 127.0).round() as i8 as u8 } else { 0 }).collect::<Vec<u8>>()
                };
                let quants: Vec<u8> = entry.chunks(BLOCK_COLS).flat_map(eight).collect();
                quants.chunks(4).map(word).chain(scales).collect()
            }
        }
    }

    /// The numbers of an entry.
    pub(super) fn decode(self, words: &[u32], numbers: usize) -> Vec<f32> {
        match self {
            Self::F32 => bytemuck::cast_slice(words).to_vec(),
            Self::F16 => words.iter().flat_map(|w| [*w as u16, (w >> 16) as u16].map(|h| half::f16::from_bits(h).to_f32())).collect(),
            Self::Q8 => {
                let scale = |i: usize| f32::from_bits(words[numbers / 4 + i / BLOCK_COLS]);
                let quant = |i: usize| (words[i / 4] >> (8 * (i % 4))) as u8 as i8;
                (0..numbers).map(|i| f32::from(quant(i)) / 127.0 * scale(i)).collect()
            }
        }
    }
}

impl fmt::Display for CacheFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
        })
    }
}

impl FromStr for CacheFormat {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.to_string() == word).ok_or_else(|| format!("expected f32, f16 or q8, found {word:?}"))
    }
}

/// One layer's entries.
#[derive(Clone)]
pub struct LatentCache {
    /// `[entries, words]`
    pub entries: Tensor,
    pub format: CacheFormat,
    /// Numbers of an entry: latent and rotary ones, each padded to a multiple of 32.
    pub numbers: usize,
}

impl LatentCache {
    /// Room for so many entries, zeros at first.
    ///
    /// # Errors
    /// Device memory that runs out; more than one binding holds.
    pub fn new(gpu: &Gpu, format: CacheFormat, entries: usize, numbers: usize) -> Result<Self, GpuError> {
        assert!(numbers.is_multiple_of(BLOCK_COLS), "cache entries of {numbers} numbers");
        let entries = gpu.stored("latent cache", &[entries, format.words(numbers)], Element::U32, gpu.activation_storage())?;
        Ok(Self { entries, format, numbers })
    }

    /// [`Self::new`] with the numbers of all entries.
    pub fn of(gpu: &Gpu, format: CacheFormat, numbers: usize, all: &[f32]) -> Result<Self, GpuError> {
        let cache = Self::new(gpu, format, all.len() / numbers, numbers)?;
        let words: Vec<u32> = all.chunks(numbers).flat_map(|entry| format.encode(entry)).collect();
        gpu.write(&cache.entries, 0, bytemuck::cast_slice(&words));
        Ok(cache)
    }

    /// From entry to entry, in quads of words.
    pub(super) fn entry_quads(&self) -> u32 {
        self.entries.dim(1) / 4
    }

    /// Where in an entry the scales begin, in quads of words.
    pub(super) fn scale_begin(&self) -> u32 {
        (self.numbers / 16) as u32
    }

    /// Bytes that a kernel moves for so many entries.
    pub(super) fn bytes(&self, entries: u64) -> u64 {
        4 * entries * u64::from(self.entries.dim(1))
    }

    pub(super) fn write(&self, launch: Launch) -> Launch {
        assert!(self.format != CacheFormat::Q8 || self.numbers / BLOCK_COLS <= MAX_BLOCKS, "q8 entries of {} numbers", self.numbers);
        launch.write(&self.entries)
    }
}

/// Reading entries by blocks and pieces; the body's next tensor is the cache.
pub(super) fn with_entries(program: Program, format: CacheFormat, storage: Storage) -> Program {
    program.quads_u32("cache", storage).with(match format {
        CacheFormat::F32 => ENTRY_F32,
        CacheFormat::F16 => ENTRY_F16,
        CacheFormat::Q8 => ENTRY_Q8,
    })
}

/// Writing entries by blocks; the body's next tensor is the cache.
pub(super) fn with_append(program: Program, format: CacheFormat, storage: Storage) -> Program {
    let program = program.puts_u32("cache", storage);
    match format {
        CacheFormat::F32 => program.with(APPEND_F32),
        CacheFormat::F16 => program.with(APPEND_F16),
        CacheFormat::Q8 => program.with(APPEND_Q8).set("MAX_BLOCKS", MAX_BLOCKS as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::case::Rng;

    #[test]
    fn entries_come_back_within_their_format() {
        let entry: Vec<f32> = Rng(3).numbers(96).iter().enumerate().map(|(i, v)| if i < 32 { 0.0 } else { v * 40.0 }).collect();
        // Of the squared error, for numbers spread evenly up to a block's largest.
        for (format, most) in [(CacheFormat::F32, 0.0), (CacheFormat::F16, 1e-7), (CacheFormat::Q8, 4e-5)] {
            let words = format.encode(&entry);
            assert_eq!(words.len(), format.words(entry.len()), "{format}");
            let found = format.decode(&words, entry.len());
            let error: f64 = entry.iter().zip(&found).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let square: f64 = entry.iter().map(|v| f64::from(*v).powi(2)).sum();
            assert!(error / square <= most, "{format}: {}", error / square);
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("q4".parse::<CacheFormat>().unwrap_err().contains("expected f32, f16 or q8"));
    }
}
