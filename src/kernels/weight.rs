//! Weights on the device: a matrix in one storage format, cut by rows into slabs of at most one binding.

pub use crate::checkpoint::BLOCK_COLS;
use crate::checkpoint::{Scale, WeightFormat};
use crate::gpu::{Gpu, GpuError, Launch, Part, Program, Tensor};
use crate::wgsl;

pub(super) const BLOCK: Part = wgsl!("parts/block.wgsl");
const F32: Part = wgsl!("parts/weight_f32.wgsl");
const F16: Part = wgsl!("parts/weight_f16.wgsl");
const BF16: Part = wgsl!("parts/weight_bf16.wgsl");
const FP8: Part = wgsl!("parts/weight_fp8.wgsl");
const AFFINE4: Part = wgsl!("parts/weight_affine4.wgsl");
const AFFINE8: Part = wgsl!("parts/weight_affine8.wgsl");
const SCALE_F16: Part = wgsl!("parts/scale_f16.wgsl");
const SCALE_BF16: Part = wgsl!("parts/scale_bf16.wgsl");
const SCALE_F32: Part = wgsl!("parts/scale_f32.wgsl");

/// Where `weight_*` and `scale_*` parts bind.
const WEIGHT_BINDING: u32 = 8;
const SCALE_BINDING: u32 = 9;

/// `[rows, cols]` in one format, possibly over several slabs.
pub struct Weight {
    pub name: String,
    pub format: WeightFormat,
    pub rows: usize,
    /// As stored: a multiple of [`BLOCK_COLS`], zeros beyond the matrix's own.
    pub cols: usize,
    pub slabs: Vec<Slab>,
}

/// Whole rows of a weight in one binding.
pub struct Slab {
    pub row_begin: usize,
    pub rows: usize,
    pub quants: Tensor,
    pub scales: Option<Tensor>,
}

impl Weight {
    /// Room for a weight of zeros. Slabs are cut between units of `unit_rows` rows: a head's or an expert's.
    pub fn allocate(gpu: &Gpu, name: &str, format: WeightFormat, shape: [usize; 2], unit_rows: usize) -> Result<Self, GpuError> {
        Self::allocate_in_slabs(gpu, name, format, shape, unit_rows, gpu.caps().max_binding_bytes)
    }

    /// As [`Self::allocate`], with slabs of at most `limit_bytes`.
    pub fn allocate_in_slabs(
        gpu: &Gpu,
        name: &str,
        format: WeightFormat,
        [rows, cols]: [usize; 2],
        unit_rows: usize,
        limit_bytes: u64,
    ) -> Result<Self, GpuError> {
        let cols = cols.next_multiple_of(BLOCK_COLS);
        let (row_bytes, scale_bytes) = (format.row_bytes(cols), format.scale_row_bytes(cols));
        let widest = row_bytes.max(scale_bytes) as u64;
        let units = limit_bytes / (widest * unit_rows as u64).max(1);
        if units == 0 {
            let size_bytes = widest * unit_rows as u64;
            return Err(GpuError::TooLargeForBinding { what: name.to_string(), size_bytes, limit_bytes });
        }
        let slab_rows = (units as usize).saturating_mul(unit_rows);
        let slabs = (0..rows).step_by(slab_rows).map(|row_begin| {
            let rows = slab_rows.min(rows - row_begin);
            let quants = gpu.zeros_u32(name, &[rows, row_bytes / 4])?;
            let scales = (scale_bytes > 0).then(|| gpu.zeros_u32(name, &[rows, scale_bytes / 4])).transpose()?;
            Ok(Slab { row_begin, rows, quants, scales })
        });
        let slabs = slabs.collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_string(), format, rows, cols, slabs })
    }

    /// Writes packed rows from `row` on.
    pub fn write_rows(&self, gpu: &Gpu, row: usize, quants: &[u8], scales: &[u8]) {
        let (row_bytes, scale_bytes) = (self.format.row_bytes(self.cols), self.format.scale_row_bytes(self.cols));
        let count = quants.len() / row_bytes;
        for slab in &self.slabs {
            let begin = row.max(slab.row_begin);
            let end = (row + count).min(slab.row_begin + slab.rows);
            if begin >= end {
                continue;
            }
            let cut = |bytes: &[u8], each: usize| bytes[(begin - row) * each..(end - row) * each].to_vec();
            gpu.write(&slab.quants, ((begin - slab.row_begin) * row_bytes) as u64, &cut(quants, row_bytes));
            if let Some(tensor) = &slab.scales {
                gpu.write(tensor, ((begin - slab.row_begin) * scale_bytes) as u64, &cut(scales, scale_bytes));
            }
        }
    }

    /// Bytes of one row as stored, scales included.
    pub fn row_bytes(&self) -> u64 {
        (self.format.row_bytes(self.cols) + self.format.scale_row_bytes(self.cols)) as u64
    }

    pub fn size_bytes(&self) -> u64 {
        self.rows as u64 * self.row_bytes()
    }
}

/// Adds the parts that decode a format.
pub fn with_weight(program: Program, format: WeightFormat) -> Program {
    let program = program.with(BLOCK);
    match format {
        WeightFormat::F32 => program.with(F32),
        WeightFormat::F16 => program.with(F16),
        WeightFormat::Bf16 => program.with(BF16),
        WeightFormat::Fp8 => program.with(FP8),
        WeightFormat::Affine { bits, group, scale } => {
            let scale = match scale {
                Scale::F16 => SCALE_F16,
                Scale::Bf16 => SCALE_BF16,
                Scale::F32 => SCALE_F32,
            };
            program.with(if bits == 4 { AFFINE4 } else { AFFINE8 }).with(scale).set("GROUP", u32::from(group))
        }
    }
}

/// Binds a slab for the parts of [`with_weight`].
pub fn bind_weight(launch: Launch, slab: &Slab) -> Launch {
    let launch = launch.read_at(WEIGHT_BINDING, &slab.quants);
    match &slab.scales {
        Some(scales) => launch.read_at(SCALE_BINDING, scales),
        None => launch,
    }
}

/// Every format: all parts, group sizes and scale types.
pub fn every_format() -> Vec<WeightFormat> {
    let mut all = vec![WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16, WeightFormat::Fp8];
    for bits in [4, 8] {
        for group in [32, 64, 128] {
            all.extend([Scale::F16, Scale::Bf16, Scale::F32].map(|scale| WeightFormat::Affine { bits, group, scale }));
        }
    }
    all
}

/// One format for each combination of parts, which differ in nothing but a constant from the others.
pub fn every_format_of_parts() -> Vec<WeightFormat> {
    let group_of = |scale| match scale {
        Scale::F16 => 64,
        Scale::Bf16 => 128,
        Scale::F32 => 32,
    };
    let is_first = |format: &WeightFormat| match format {
        WeightFormat::Affine { group, scale, .. } => *group == group_of(*scale),
        _ => true,
    };
    every_format().into_iter().filter(is_first).collect()
}
