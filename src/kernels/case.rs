//! Cases: a kernel's inputs, launches and right answers, declared once for tests, the self-test and `bench kernels`.
//!
//! What is right is each kernel file's own business: its `reference` follows the formula on the CPU.

use super::{BatchRow, CacheFormat, Job, LatentCache, MAX_ROWS, Rows, Weight};
use crate::checkpoint::{Scale, WeightFormat, decode_row};
use crate::gpu::{Access, Element, Gpu, GpuError, Kernel, Program, Recorder, Recording, Storage, Tensor};

/// The start of outputs and the expectation of numbers that stay as they were: NaN as f32, the largest as u32.
pub const UNTOUCHED: u32 = u32::MAX;

type Build = Box<dyn Fn(&Gpu) -> Result<Prepared, GpuError> + Send + Sync>;

/// One kernel with certain sizes and inputs.
pub struct Case {
    pub name: String,
    /// A real model's size, for timing: too long for tests on a software adapter.
    pub bench: bool,
    /// The kernel whose lanes are chosen by what this case takes.
    pub tunes: Option<(Job, &'static str)>,
    build: Build,
}

/// A case on a device, ready to run.
pub struct Prepared {
    pub recording: Recording,
    pub outputs: Vec<Output>,
    /// Each dispatch's program, and the bindings given to it.
    pub launches: Vec<(Program, Vec<(u32, Access)>)>,
}

/// How an output is compared.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// The squared error over the squared expectation is at most this; the reason why not less.
    Nmse(f64, &'static str),
    /// The same bits.
    Exact,
    /// Whole numbers below this one.
    Below(u32),
    /// Only what must stay untouched is looked at.
    Untouched,
}

/// A tensor that a case writes, and what it should hold.
pub struct Output {
    pub name: &'static str,
    pub tensor: Tensor,
    /// Bits before the run.
    pub start: Vec<u32>,
    /// Bits after it; [`UNTOUCHED`] where those of the start remain.
    pub expected: Vec<u32>,
    pub check: Check,
    /// The cache whose entries the tensor holds: what is compared are their numbers.
    pub cache: Option<LatentCache>,
}

impl Case {
    pub(super) fn new(name: impl Into<String>, build: impl Fn(&Gpu) -> Result<Prepared, GpuError> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), bench: false, tunes: None, build: Box::new(build) }
    }

    pub(super) fn bench(self) -> Self {
        Self { bench: true, ..self }
    }

    /// A timed case of a real model's size by which `tune` chooses this kernel's lanes.
    pub(super) fn tunes(self, job: Job, kernel: &'static str) -> Self {
        Self { tunes: Some((job, kernel)), ..self }
    }

    /// Makes inputs, outputs and the recording.
    ///
    /// # Errors
    /// Those of the device: out of memory, a refused pipeline.
    pub fn prepare(&self, gpu: &Gpu) -> Result<Prepared, GpuError> {
        (self.build)(gpu)
    }
}

impl Prepared {
    /// Replays it and compares its outputs; gives the largest NMSE, or what differs first.
    ///
    /// # Errors
    /// Those of the device.
    pub(super) async fn check(&self, gpu: &Gpu) -> Result<Result<f64, String>, GpuError> {
        self.recording.replay(gpu);
        let mut worst = Ok(0.0);
        for output in &self.outputs {
            let found = output.compare(&output.read(gpu).await?);
            worst = worst.and_then(|worst: f64| found.map(|nmse| nmse.max(worst)));
        }
        Ok(worst)
    }
}

impl Output {
    /// What the device holds now.
    ///
    /// # Errors
    /// Those of the device.
    pub async fn read(&self, gpu: &Gpu) -> Result<Vec<u32>, GpuError> {
        let words: Vec<u32> = gpu.read(&self.tensor).await?;
        let Some(LatentCache { entries, format, numbers }) = &self.cache else { return Ok(words) };
        let numbers_of = |entry: &[u32]| match entry.iter().all(|&word| word == UNTOUCHED) {
            true => vec![UNTOUCHED; *numbers],
            false => format.decode(entry, *numbers).into_iter().map(f32::to_bits).collect(),
        };
        Ok(words.chunks(entries.shape[1]).flat_map(numbers_of).collect())
    }

    /// Compares what the device holds; gives the NMSE.
    ///
    /// # Errors
    /// What differs, and where first.
    pub fn compare(&self, found: &[u32]) -> Result<f64, String> {
        let Self { name, start, expected, .. } = self;
        if found.len() != expected.len() {
            return Err(format!("{name}: expected {} numbers, found {}", expected.len(), found.len()));
        }
        let is_touched = |i: usize| expected[i] != UNTOUCHED;
        if let Some(i) = (0..found.len()).find(|&i| !is_touched(i) && found[i] != start[i]) {
            return Err(format!("{name}[{i}]: written, though it must stay untouched ({:#x} became {:#x})", start[i], found[i]));
        }
        let differs = |i: usize| format!("{name}[{i}]: expected {}, found {}", self.show(expected[i]), self.show(found[i]));
        let first = |wrong: &dyn Fn(usize) -> bool| match (0..found.len()).find(|&i| is_touched(i) && wrong(i)) {
            Some(i) => Err(differs(i)),
            None => Ok(0.0),
        };
        match self.check {
            Check::Untouched => Ok(0.0),
            Check::Exact => first(&|i| found[i] != expected[i]),
            Check::Below(limit) => first(&|i| found[i] >= limit),
            Check::Nmse(most, reason) => {
                let number = |bits: u32| f64::from(f32::from_bits(bits));
                first(&|i| !number(found[i]).is_finite())?;
                let squares = |of: &dyn Fn(usize) -> f64| (0..found.len()).filter(|&i| is_touched(i)).map(|i| of(i).powi(2)).sum::<f64>();
                let error = squares(&|i| number(found[i]) - number(expected[i]));
                let nmse = if error == 0.0 { 0.0 } else { error / squares(&|i| number(expected[i])) };
                if nmse <= most {
                    return Ok(nmse);
                }
                let off = |i: usize| (number(found[i]) - number(expected[i])).abs();
                let worst = (0..found.len()).filter(|&i| is_touched(i)).max_by(|&a, &b| off(a).total_cmp(&off(b))).unwrap_or(0);
                Err(format!("NMSE {nmse:.2e} exceeds {most:.0e} ({reason}); worst: {}", differs(worst)))
            }
        }
    }

    fn show(&self, bits: u32) -> String {
        match self.tensor.element {
            _ if self.cache.is_some() => f32::from_bits(bits).to_string(),
            Element::F32 => f32::from_bits(bits).to_string(),
            Element::U32 => bits.to_string(),
        }
    }
}

/// Products and sums in f32 against f64, which round about 1e-7 each.
pub(super) const F32_SUMS: Check = Check::Nmse(1e-11, "f32 sums");

/// Collects a case's kernels.
pub(super) struct Stage {
    pub gpu: Gpu,
    recorder: Recorder,
    launches: Vec<(Program, Vec<(u32, Access)>)>,
    outputs: Vec<Output>,
}

impl Stage {
    pub fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), recorder: Recorder::new(gpu), launches: vec![], outputs: vec![] }
    }

    pub fn run(&mut self, kernel: impl Kernel) {
        for launch in kernel.launches(&self.gpu) {
            let bindings = launch.bindings.iter().map(|(number, access, _)| (*number, *access)).collect();
            self.launches.push((launch.program, bindings));
        }
        self.recorder.run(kernel);
    }

    /// An f32 tensor that starts as NaN.
    pub fn fresh(&self, shape: &[usize]) -> Result<Tensor, GpuError> {
        let numbers = shape.iter().product();
        self.gpu.tensor("output", shape, &vec![f32::from_bits(UNTOUCHED); numbers])
    }

    /// A u32 tensor of largest numbers.
    pub fn fresh_u32(&self, shape: &[usize]) -> Result<Tensor, GpuError> {
        let numbers = shape.iter().product();
        self.gpu.tensor_u32("output", shape, &vec![UNTOUCHED; numbers])
    }

    /// Expects a fresh tensor to hold these numbers, and nothing new after them.
    pub fn expect(&mut self, name: &'static str, tensor: &Tensor, expected: &[f32], check: Check) {
        self.expect_u32(name, tensor, bytemuck::cast_slice(expected), check);
    }

    /// As [`Self::expect`], for whole numbers.
    pub fn expect_u32(&mut self, name: &'static str, tensor: &Tensor, expected: &[u32], check: Check) {
        let start = vec![UNTOUCHED; tensor.len()];
        let mut expected = expected.to_vec();
        expected.resize(tensor.len(), UNTOUCHED);
        self.outputs.push(Output { name, tensor: tensor.clone(), start, expected, check, cache: None });
    }

    /// Expects a cache of untouched entries to hold these numbers, as its format rounds them.
    pub fn expect_entries(&mut self, name: &'static str, cache: &LatentCache, expected: &[f32]) {
        let rounded = |entry: &[f32]| match entry.iter().all(|v| v.to_bits() == UNTOUCHED) {
            true => entry.to_vec(),
            false => cache.format.decode(&cache.format.encode(entry), cache.numbers),
        };
        let expected: Vec<u32> = expected.chunks(cache.numbers).flat_map(rounded).map(f32::to_bits).collect();
        let (start, tensor) = (vec![UNTOUCHED; expected.len()], cache.entries.clone());
        let check = Check::Nmse(1e-9, "a number in a thousand may round the other way");
        self.outputs.push(Output { name, tensor, start, expected, check, cache: Some(cache.clone()) });
    }

    /// A latent cache whose entries are untouched.
    pub fn fresh_cache(&self, format: CacheFormat, entries: usize, numbers: usize) -> Result<LatentCache, GpuError> {
        let cache = LatentCache::new(&self.gpu, format, entries, numbers)?;
        self.gpu.write(&cache.entries, 0, bytemuck::cast_slice(&vec![UNTOUCHED; cache.entries.len()]));
        Ok(cache)
    }

    pub fn finish(self) -> Result<Prepared, GpuError> {
        Ok(Prepared { recording: self.recorder.finish()?, outputs: self.outputs, launches: self.launches })
    }

    /// Rows of a step; `live` of them (and outputs) are fed.
    pub fn rows(&self, count: usize, live: usize) -> Result<Rows, GpuError> {
        let step = self.gpu.uniform("step", 4)?;
        self.gpu.write(&step, 0, bytemuck::cast_slice(&[live as u32, live as u32, 0, 0]));
        Ok(Rows { count, few: count <= super::FEW_ROWS, step })
    }

    pub fn f32(&self, shape: &[usize], data: &[f32]) -> Result<Tensor, GpuError> {
        self.gpu.tensor("input", shape, data)
    }

    pub fn u32(&self, shape: &[usize], data: &[u32]) -> Result<Tensor, GpuError> {
        self.gpu.tensor_u32("input", shape, data)
    }

    /// An activation holding `data`; its last axis is a multiple of 4.
    pub fn quads(&self, shape: &[usize], data: &[f32]) -> Result<Tensor, GpuError> {
        self.gpu.activation_of("input", shape, data)
    }

    /// An activation that starts as NaN.
    pub fn fresh_quads(&self, shape: &[usize]) -> Result<Tensor, GpuError> {
        let numbers = shape.iter().product();
        self.gpu.activation_of("output", shape, &vec![f32::from_bits(UNTOUCHED); numbers])
    }

    /// The step's rows.
    pub fn batch(&self, rows: &[BatchRow]) -> Result<Tensor, GpuError> {
        let batch = self.gpu.uniform("batch", 4 * MAX_ROWS)?;
        self.gpu.write(&batch, 0, bytemuck::cast_slice(rows));
        Ok(batch)
    }
}

/// Numbers from a seed (SplitMix64, Steele et al. 2014).
pub(super) struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// From -1 to 1.
    pub fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    pub fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    /// `[rows, stride]`, zeros from column `cols` on.
    pub fn padded(&mut self, rows: usize, cols: usize, stride: usize) -> Vec<f32> {
        (0..rows * stride).map(|i| if i % stride < cols { self.number() } else { 0.0 }).collect()
    }

    /// The numbers below `count` in random order.
    pub fn shuffled(&mut self, count: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..count as u32).collect();
        for i in (1..count).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }

    /// A stored row of random bits that mean numbers about as large as 1, zeros from column `cols` on.
    fn packed_row(&mut self, format: WeightFormat, cols: usize, stored: usize) -> (Vec<u8>, Vec<u8>) {
        let mut scales = vec![];
        let quants = match format {
            WeightFormat::F32 => (0..cols).flat_map(|_| self.number().to_le_bytes()).collect(),
            WeightFormat::F16 => (0..cols).flat_map(|_| half::f16::from_f32(self.number()).to_le_bytes()).collect(),
            WeightFormat::Bf16 => (0..cols).flat_map(|_| half::bf16::from_f32(self.number()).to_le_bytes()).collect(),
            WeightFormat::Fp8 => {
                scales.extend((0..stored.div_ceil(128)).flat_map(|_| (0.01 + 0.01 * self.number().abs()).to_le_bytes()));
                let code = |byte: u8| if byte & 0x7f == 0x7f { 0x40 } else { byte };
                (0..cols).map(|_| code(self.bits() as u8)).collect::<Vec<u8>>()
            }
            WeightFormat::Affine { bits, group, scale } => {
                for _ in 0..stored.div_ceil(usize::from(group)) {
                    let most = f32::from((1u16 << bits) - 1);
                    let step = (1.0 + self.number().abs()) / most;
                    let pair = [step, -0.5 * step * most];
                    match scale {
                        Scale::F16 => scales.extend(pair.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes())),
                        Scale::Bf16 => scales.extend(pair.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes())),
                        Scale::F32 => scales.extend(pair.iter().flat_map(|v| v.to_le_bytes())),
                    }
                }
                // Padding of affine rows has no zero: all columns are the matrix's own.
                (0..format.row_bytes(stored)).map(|_| self.bits() as u8).collect()
            }
        };
        let mut quants: Vec<u8> = quants;
        quants.resize(format.row_bytes(stored), 0);
        (quants, scales)
    }

    /// A random weight and the numbers it means, `[rows, cols as stored]`.
    pub fn weight(&mut self, gpu: &Gpu, format: WeightFormat, shape: [usize; 2]) -> Result<(Weight, Vec<f32>), GpuError> {
        self.weight_in_slabs(gpu, format, shape, 1, shape[0])
    }

    /// As [`Self::weight`], with slabs of at most so many rows, cut between units.
    pub fn weight_in_slabs(
        &mut self,
        gpu: &Gpu,
        format: WeightFormat,
        [rows, cols]: [usize; 2],
        unit_rows: usize,
        slab_rows: usize,
    ) -> Result<(Weight, Vec<f32>), GpuError> {
        let stored = cols.next_multiple_of(super::BLOCK_COLS);
        let widest = format.row_bytes(stored).max(format.scale_row_bytes(stored));
        let limit_bytes = ((slab_rows.max(unit_rows) * widest) as u64).min(gpu.caps().max_binding_bytes);
        let weight = Weight::allocate_in_slabs(gpu, "weight", format, [rows, cols], unit_rows, limit_bytes)?;
        let (mut quants, mut scales, mut decoded) = (vec![], vec![], vec![]);
        for _ in 0..rows {
            let (row, row_scales) = self.packed_row(format, cols, stored);
            decode_row(format, &row, &row_scales, &mut decoded);
            quants.extend(row);
            scales.extend(row_scales);
        }
        weight.writer(gpu).push(&quants, &scales);
        Ok((weight, decoded))
    }
}

/// Σ a b, in f64.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// `expected` with what a kernel that stores whole quads writes beyond a row's `cols`: zeros in an image.
pub(super) fn filled(tensor: &Tensor, mut expected: Vec<f32>, cols: usize, stride: usize) -> Vec<f32> {
    if tensor.storage != Storage::Buffer {
        for row in expected.chunks_mut(stride) {
            if row.first().is_some_and(|number| number.to_bits() != UNTOUCHED) {
                row[cols..cols.next_multiple_of(4)].fill(0.0);
            }
        }
    }
    expected
}

/// cos and sin of test rotations, `[positions, pairs, 2]`.
pub(super) fn rotary(positions: usize, pairs: usize) -> Vec<f32> {
    let angle = |position: usize, pair: usize| position as f64 * 100f64.powf(-(pair as f64) / pairs as f64);
    let turns = (0..positions).flat_map(|position| (0..pairs).map(move |pair| angle(position, pair)));
    turns.flat_map(|angle| [angle.cos() as f32, angle.sin() as f32]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_and_repeatable() {
        let all = Rng(1).numbers(10_000);
        assert_eq!(all, Rng(1).numbers(10_000));
        let mean: f32 = all.iter().sum::<f32>() / 1e4;
        let square: f32 = all.iter().map(|v| v * v).sum::<f32>() / 1e4;
        assert!(mean.abs() < 0.03 && (square - 1.0 / 3.0).abs() < 0.02, "{mean} {square}");
        let mut order = Rng(2).shuffled(50);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
