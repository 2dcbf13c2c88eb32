//! Weights on the device: a matrix in one storage format, cut by rows into slabs of at most one binding.

pub use crate::checkpoint::BLOCK_COLS;
use crate::checkpoint::{Scale, WeightFormat};
use crate::gpu::{Element, Gpu, GpuError, Launch, Part, Program, Storage, Tensor};
use crate::wgsl;

pub(super) const BLOCK: Part = wgsl!("parts/block.wgsl");
pub(super) const PUT_BLOCK: Part = wgsl!("parts/put_block.wgsl");
const UNSCALED: Part = wgsl!("parts/unscaled.wgsl");
const HALVES: Part = wgsl!("parts/halves.wgsl");
const FOUR_ROWS: Part = wgsl!("parts/four_rows.wgsl");
const ORDER_ROWS: Part = wgsl!("parts/order_rows.wgsl");
const ORDER_WOVEN: Part = wgsl!("parts/order_woven.wgsl");
const F32: Part = wgsl!("parts/weight_f32.wgsl");
const F16: Part = wgsl!("parts/weight_f16.wgsl");
const BF16: Part = wgsl!("parts/weight_bf16.wgsl");
const FP8: Part = wgsl!("parts/weight_fp8.wgsl");
const AFFINE: Part = wgsl!("parts/affine.wgsl");
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
    pub storage: Storage,
    pub slabs: Vec<Slab>,
}

/// Rows that are woven together in images (`parts/order_woven.wgsl`).
const WOVEN_ROWS: usize = 32;

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
        let storage = gpu.activation_storage();
        let limit_bytes = limit_bytes.min(gpu.max_tensor_bytes(storage));
        let (row_bytes, scale_bytes) = (format.row_bytes(cols), format.scale_row_bytes(cols));
        let widest = row_bytes.max(scale_bytes) as u64;
        // An image is filled up to whole rows of its own and whole woven rows.
        let spare = if storage == Storage::Buffer { 0 } else { (WOVEN_ROWS as u64 * widest).next_multiple_of(1 << 16) };
        let units = limit_bytes.min(gpu.max_tensor_bytes(storage).saturating_sub(spare)) / (widest * unit_rows as u64).max(1);
        if units == 0 {
            let size_bytes = widest * unit_rows as u64;
            return Err(GpuError::TooLargeForBinding { what: name.to_string(), size_bytes, limit_bytes });
        }
        let slab_rows = (units as usize).saturating_mul(unit_rows);
        let slabs = (0..rows).step_by(slab_rows).map(|row_begin| {
            let rows = slab_rows.min(rows - row_begin);
            let (stored, words) = match storage {
                Storage::Buffer => (rows, Storage::Buffer),
                _ => (rows.next_multiple_of(WOVEN_ROWS), Storage::WordImage),
            };
            let quants = gpu.stored(name, &[stored, row_bytes / 4], Element::U32, storage)?;
            let scales = (scale_bytes > 0).then(|| gpu.stored(name, &[stored, scale_bytes / 4], Element::U32, words)).transpose()?;
            Ok(Slab { row_begin, rows, quants, scales })
        });
        let slabs = slabs.collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_string(), format, rows, cols, storage, slabs })
    }

    /// Takes packed rows from the first to the last.
    pub fn writer<'a>(&'a self, gpu: &'a Gpu) -> WeightWriter<'a> {
        WeightWriter { weight: self, gpu, row: 0, quants: vec![], scales: vec![] }
    }

    /// Bytes of one row as stored, scales included.
    pub fn row_bytes(&self) -> u64 {
        (self.format.row_bytes(self.cols) + self.format.scale_row_bytes(self.cols)) as u64
    }

    pub fn size_bytes(&self) -> u64 {
        self.rows as u64 * self.row_bytes()
    }
}

/// Brings packed rows to the device in order.
pub struct WeightWriter<'a> {
    weight: &'a Weight,
    gpu: &'a Gpu,
    /// Rows that are on the device.
    row: usize,
    /// Rows that wait for those they are woven with.
    quants: Vec<u8>,
    scales: Vec<u8>,
}

impl WeightWriter<'_> {
    /// Adds rows after those added before.
    pub fn push(&mut self, quants: &[u8], scales: &[u8]) {
        self.quants.extend_from_slice(quants);
        self.scales.extend_from_slice(scales);
        let row_bytes = self.weight.format.row_bytes(self.weight.cols);
        while let Some(slab) = self.weight.slabs.iter().find(|slab| (slab.row_begin..slab.row_begin + slab.rows).contains(&self.row)) {
            let left = slab.row_begin + slab.rows - self.row;
            let waiting = self.quants.len() / row_bytes;
            let count = match self.weight.storage {
                _ if waiting >= left => left,
                Storage::Buffer => waiting,
                _ => waiting / WOVEN_ROWS * WOVEN_ROWS,
            };
            if count == 0 {
                return;
            }
            self.write(slab, count);
        }
    }

    fn write(&mut self, slab: &Slab, count: usize) {
        let Self { weight, gpu, row, quants, scales } = self;
        let (row_bytes, scale_bytes) = (weight.format.row_bytes(weight.cols), weight.format.scale_row_bytes(weight.cols));
        let at = *row - slab.row_begin;
        let put = |tensor: &Tensor, bytes: &[u8], each: usize, piece: usize| {
            let offset = (at * each) as u64;
            match weight.storage {
                Storage::Buffer => gpu.write(tensor, offset, bytes),
                _ => gpu.write(tensor, offset, &woven(bytes, each, piece)),
            }
        };
        put(&slab.quants, &quants[..count * row_bytes], row_bytes, 16);
        if let Some(tensor) = &slab.scales {
            put(tensor, &scales[..count * scale_bytes], scale_bytes, 4);
        }
        quants.drain(..count * row_bytes);
        scales.drain(..count * scale_bytes);
        *row += count;
    }
}

/// Rows of `row_bytes` in pieces of `piece` bytes, each 32 rows woven as `parts/order_woven.wgsl` reads them.
fn woven(rows: &[u8], row_bytes: usize, piece: usize) -> Vec<u8> {
    let tile_bytes = WOVEN_ROWS * row_bytes;
    let mut out = vec![0; rows.len().next_multiple_of(tile_bytes)];
    for (row, bytes) in rows.chunks(row_bytes).enumerate() {
        let lane = row % 4 * 8 + row / 4 % 8;
        let tile = &mut out[row / WOVEN_ROWS * tile_bytes..][..tile_bytes];
        for (i, bytes) in bytes.chunks(piece).enumerate() {
            tile[(i * WOVEN_ROWS + lane) * piece..][..piece].copy_from_slice(bytes);
        }
    }
    out
}

/// Adds the parts that decode a format, for the body's own use.
pub fn with_weight(program: Program, format: WeightFormat, storage: Storage) -> Program {
    let (order, words) = match storage {
        Storage::Buffer => (ORDER_ROWS, Storage::Buffer),
        _ => (ORDER_WOVEN, Storage::WordImage),
    };
    // Where one lane goes through all blocks of a row, those that share a scale follow one another.
    let span = match format {
        _ if storage == Storage::Buffer => 1,
        WeightFormat::Affine { group, .. } => u32::from(group) / 32,
        WeightFormat::Fp8 => 4,
        _ => 1,
    };
    let program = program.with(BLOCK).with(FOUR_ROWS).with(order).quads_u32_at(WEIGHT_BINDING, "weight", storage).set("SPAN", span);
    let scaled = |program: Program| program.words_at(SCALE_BINDING, "scale", words);
    match format {
        WeightFormat::F32 => program.with(F32).with(UNSCALED),
        WeightFormat::F16 => program.with(F16).with(HALVES).with(UNSCALED),
        WeightFormat::Bf16 => program.with(BF16).with(HALVES).with(UNSCALED),
        WeightFormat::Fp8 => scaled(program.with(FP8)),
        WeightFormat::Affine { bits, group, scale } => {
            let scale = match scale {
                Scale::F16 => SCALE_F16,
                Scale::Bf16 => SCALE_BF16,
                Scale::F32 => SCALE_F32,
            };
            scaled(program.with(AFFINE).with(if bits == 4 { AFFINE4 } else { AFFINE8 }).with(scale).set("GROUP", u32::from(group)))
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
