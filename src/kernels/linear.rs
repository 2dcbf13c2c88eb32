//! `y = weight @ x + bias`, for a few rows (`matvec`) or many (`matmul`), plain or with a matrix a head.

use super::case::{Case, F32_SUMS, Rng, Stage, UNTOUCHED, dot};
use super::lanes::GAIN_BINDING;
use super::weight::{bind_weight, every_format, every_format_of_parts, with_weight};
use super::{Job, Lanes, Rows, Weight, coop, rms_norm};
use crate::checkpoint::{Scale, WeightFormat};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Storage, Tensor};
use crate::{params, wgsl};

const MATVEC: Part = wgsl!("matvec.wgsl");
const MATMUL: Part = wgsl!("matmul.wgsl");
const MATMUL_COOP: Part = wgsl!("matmul_coop.wgsl");
const PARAMS: Part = wgsl!("parts/params_linear.wgsl");
const X_MERGED: Part = wgsl!("parts/x_merged.wgsl");
const BIAS_NONE: Part = wgsl!("parts/bias_none.wgsl");
const BIAS_ROW: Part = wgsl!("parts/bias_row.wgsl");
const BASE_NONE: Part = wgsl!("parts/base_none.wgsl");
const BASE_ADDED: Part = wgsl!("parts/base_added.wgsl");
const COLUMNS_SAME: Part = wgsl!("parts/columns_same.wgsl");
const COLUMNS_MAPPED: Part = wgsl!("parts/columns_mapped.wgsl");
const BIAS_BINDING: u32 = 10;
const COLUMNS_BINDING: u32 = 11;
const BASE_BINDING: u32 = 14;
/// Where attention's parts and what merges them bind their weights.
pub(super) const STATS_BINDING: u32 = 13;

/// RMSNorm of what a product reads: with few rows it happens on the way.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// `[cols]`, zeros from `dim` on
    pub gain: &'a Tensor,
    pub dim: usize,
    pub eps: f32,
}

impl Norm<'_> {
    /// The params `norm_dim` and `eps`.
    pub(super) fn params(norm: Option<Self>) -> (u32, f32) {
        norm.map_or((1, 0.0), |norm| (norm.dim as u32, norm.eps))
    }

    /// Binds what `Lanes::with_input` declares.
    pub(super) fn bind(norm: Option<Self>, launch: Launch) -> Launch {
        norm.iter().fold(launch, |launch, norm| launch.read_at(GAIN_BINDING, norm.gain))
    }
}

/// One linear map over all rows of a step.
pub struct Linear<'a> {
    /// `[rows, cols]`, or `[rows, heads, cols]`, or with `merge` `[rows, splits, heads, cols]`; one head of a weight reads all of these
    /// heads side by side
    pub x: &'a Tensor,
    /// What weighs the parts that attention left x in, `[rows, splits, heads, 4]`; only with few rows.
    pub merge: Option<&'a Tensor>,
    /// Only with few rows.
    pub norm: Option<Norm<'a>>,
    /// `[out, cols]`, or `[heads * out, cols]`
    pub weight: &'a Weight,
    /// `[heads * out]`
    pub bias: Option<&'a Tensor>,
    /// Quad of columns of `y` for each four rows of the weight, where they are not the same: `[out / 4]`
    pub columns: Option<&'a Tensor>,
    /// What the result is added to, of y's shape.
    pub base: Option<&'a Tensor>,
    /// `[rows, heads * out]`, or wider
    pub y: &'a Tensor,
    pub heads: usize,
    /// Nothing may be rounded on the way: a router's logits, which choose.
    pub exact: bool,
    pub rows: &'a Rows,
}

impl<'a> Linear<'a> {
    /// `y = weight @ x`
    pub fn plain(x: &'a Tensor, weight: &'a Weight, y: &'a Tensor, rows: &'a Rows) -> Self {
        Self { x, merge: None, norm: None, weight, bias: None, columns: None, base: None, y, heads: 1, exact: false, rows }
    }
}

params!(
    /// As `parts/params_linear.wgsl` has it.
    Params {
        rows: u32,
        cols: u32,
        row_begin: u32,
        head_begin: u32,
        x_stride: u32,
        x_head_stride: u32,
        x_split: u32,
        y_stride: u32,
        norm_dim: u32,
        eps: f32,
    }
);

/// What tells one variant from another, beside the weight.
#[derive(Clone, Copy)]
struct Ends {
    x: Storage,
    y: Storage,
    /// Parts that x is in; 1: it is whole.
    splits: usize,
    gain: Option<Storage>,
    bias: bool,
    mapped: bool,
    base: Option<Storage>,
}

impl Ends {
    fn plain(storage: Storage) -> Self {
        Self { x: storage, y: storage, splits: 1, gain: None, bias: false, mapped: false, base: None }
    }

    fn apply(self, program: Program) -> Program {
        let program = program.with(if self.bias { BIAS_ROW } else { BIAS_NONE });
        let program = program.with(if self.mapped { COLUMNS_MAPPED } else { COLUMNS_SAME });
        let x_name = if self.splits > 1 { "part" } else { "x" };
        with_base(program.quads(x_name, self.x).puts("y", self.y), self.base)
    }
}

/// Adds what a result is added to.
pub(super) fn with_base(program: Program, base: Option<Storage>) -> Program {
    match base {
        None => program.with(BASE_NONE),
        Some(storage) => program.with(BASE_ADDED).quads_at(BASE_BINDING, "base", storage),
    }
}

pub(super) fn bind_base(launch: Launch, base: Option<&Tensor>) -> Launch {
    base.iter().fold(launch, |launch, base| launch.read_at(BASE_BINDING, base))
}

fn matvec(lanes: Lanes, format: WeightFormat, ends: Ends) -> Program {
    let program = ends.apply(lanes.apply(Program::new("matvec", Params::FIELDS, [MATVEC, PARAMS, super::BOUND])));
    let program = match ends.splits {
        1 => program,
        splits => program.with(X_MERGED).set("SPLITS", splits as u32).quads_at(STATS_BINDING, "stats", ends.x),
    };
    with_weight(lanes.with_input(program, ends.gain), format, lanes.storage())
}

fn matmul(lanes: Lanes, format: WeightFormat, ends: Ends) -> Program {
    let program = lanes.tiled(Params::FIELDS, ("matmul", MATMUL), ("matmul_coop", MATMUL_COOP)).with(PARAMS);
    with_weight(lanes.with_x(ends.apply(program)), format, lanes.storage())
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for lanes in Lanes::PRODUCTS {
        let plain = Ends::plain(lanes.storage());
        all.extend(every_format().into_iter().map(|format| matvec(lanes, format, plain)));
        let merged = Ends { splits: lanes.splits(), ..plain };
        all.extend([None, Some(lanes.storage())].map(|base| matvec(lanes, WeightFormat::Bf16, Ends { base, ..merged })));
        // What comes before and after the sum does not depend on the format.
        let stored = Some(lanes.storage());
        for i in 1..16 {
            let gain = stored.filter(|_| i & 1 > 0);
            let base = stored.filter(|_| i & 2 > 0);
            let ends = Ends { gain, base, bias: i & 4 > 0, mapped: i & 8 > 0, ..plain };
            all.push(matvec(lanes, WeightFormat::Bf16, ends));
        }
    }
    for lanes in Lanes::every_tiles() {
        let plain = Ends::plain(lanes.storage());
        all.extend(every_format().into_iter().map(|format| matmul(lanes, format, plain)));
        for i in 1..8 {
            let base = Some(lanes.storage()).filter(|_| i & 1 > 0);
            all.push(matmul(lanes, WeightFormat::Bf16, Ends { base, bias: i & 2 > 0, mapped: i & 4 > 0, ..plain }));
        }
        // Logits, and heads' outputs that are not made of quads, lie in buffers.
        if lanes.shares {
            let ends = [Ends { x: Storage::Buffer, ..plain }, Ends { y: Storage::Buffer, ..plain }];
            all.extend(ends.map(|ends| matvec(lanes, WeightFormat::Bf16, ends)));
            all.extend(ends.map(|ends| matmul(lanes, WeightFormat::Bf16, ends)));
        }
    }
    all
}

impl Kernel for Linear<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let head_rows = self.weight.rows / self.heads;
        let tokens = self.rows.count;
        let x_row: usize = self.x.shape[1..].iter().product();
        let splits = self.merge.map_or(1, |_| self.x.shape[1]);
        let y_row: usize = self.y.shape[1..].iter().product();
        let x_head = self.x.shape[self.x.shape.len() - 1];
        let x_cols = if self.heads > 1 { x_head } else { x_row / splits };
        let name = &self.weight.name;
        assert!(self.weight.cols <= x_cols, "{name}: columns of the weight and of x {:?}", self.x.shape);
        assert!(self.columns.is_some() || y_row >= self.weight.rows, "{name}: y");
        assert!(self.merge.is_none() || self.rows.few, "{name}: many rows are not merged");
        assert!(self.norm.is_none() || self.rows.few, "{name}: many rows are normalised before");
        let is_quads = y_row.is_multiple_of(4) && (self.heads == 1 || head_rows.is_multiple_of(4));
        assert!(
            is_quads || (self.y.storage == Storage::Buffer && self.base.is_none()),
            "{name}: y {:?} is not made of quads",
            self.y.shape
        );

        let ends = Ends {
            x: self.x.storage,
            y: self.y.storage,
            splits,
            gain: self.norm.map(|norm| norm.gain.storage),
            bias: self.bias.is_some(),
            mapped: self.columns.is_some(),
            base: self.base.map(|base| base.storage),
        };
        let lanes = match self.rows.few {
            true => Lanes::of_product(gpu, "matvec"),
            false if self.exact => Lanes::of_exact_tiles(gpu, "matmul"),
            false => Lanes::of_tiles(gpu, "matmul"),
        };
        let launch = |slab: &super::Slab| {
            // A slab of a headed weight holds whole heads.
            let heads = if self.heads > 1 { slab.rows / head_rows } else { 1 };
            let rows = slab.rows / heads;
            let (norm_dim, eps) = Norm::params(self.norm);
            let params = Params {
                rows: rows as u32,
                cols: self.weight.cols as u32,
                row_begin: slab.row_begin as u32,
                head_begin: (slab.row_begin / head_rows) as u32,
                x_stride: (x_row / 4) as u32,
                x_head_stride: (x_head / 4) as u32,
                x_split: (x_row / 4 / splits) as u32,
                y_stride: y_row as u32,
                norm_dim,
                eps,
            };
            let launch = if self.rows.few {
                let program = matvec(lanes, self.weight.format, ends);
                Launch::new(program, params).read(self.x).write(self.y).grid(rows.div_ceil(lanes.rows()), tokens, heads)
            } else {
                let program = matmul(lanes, self.weight.format, ends);
                let [tile_rows, tile_tokens] = lanes.tile();
                let launch = Launch::new(program, params).read(self.x).write(self.y).uniform(&self.rows.step);
                launch.grid(rows.div_ceil(tile_rows), tokens.div_ceil(tile_tokens), heads)
            };
            let launch = Norm::bind(self.norm, bind_base(bind_weight(launch, slab), self.base));
            let launch = self.merge.iter().fold(launch, |launch, stats| launch.read_at(STATS_BINDING, stats));
            let launch = self.bias.iter().fold(launch, |launch, bias| launch.read_at(BIAS_BINDING, bias));
            let launch = self.columns.iter().fold(launch, |launch, columns| launch.read_at(COLUMNS_BINDING, columns));
            let written = 4 * (tokens * slab.rows) as u64;
            let added = if self.base.is_some() { written } else { 0 };
            let read = slab.rows as u64 * self.weight.row_bytes() + 4 * (tokens * x_row) as u64 + added;
            launch.reads(read).writes(written).flops(2 * (tokens * slab.rows * self.weight.cols) as u64)
        };
        self.weight.slabs.iter().map(launch).collect()
    }
}

/// One token: `y[h, r] = Σ_c weight[h, r, c] x[h, c]`, with one x for all where there is one head.
pub fn reference(x: &[f32], weight: &[f32], cols: usize, heads: usize) -> Vec<f32> {
    let rows = weight.len() / cols;
    let of_row = |row: usize| if heads > 1 { &x[row / (rows / heads) * cols..][..cols] } else { &x[..cols] };
    (0..rows).map(|row| dot(&weight[row * cols..][..cols], of_row(row)) as f32).collect()
}

/// What a case varies.
#[derive(Clone, Copy)]
struct Variant {
    format: WeightFormat,
    count: usize,
    live: usize,
    out: usize,
    cols: usize,
    heads: usize,
    normed: bool,
    bias: bool,
    mapped: bool,
    added: bool,
    exact: bool,
    /// How large x is.
    size: f32,
    /// x and y lie in buffers on every device.
    buffers: bool,
    slab_rows: usize,
}

impl Variant {
    fn of(format: WeightFormat, count: usize, live: usize, out: usize, cols: usize) -> Self {
        let [normed, bias, mapped, added, exact, buffers] = [false; 6];
        Self { format, count, live, out, cols, heads: 1, normed, bias, mapped, added, exact, size: 1.0, buffers, slab_rows: out }
    }

    fn case(self) -> Case {
        let Self { format, count, live, out, cols, heads, normed, bias: has_bias, mapped, added, exact, size, buffers, slab_rows } = self;
        let kernel = if count <= super::FEW_ROWS { "matvec" } else { "matmul" };
        let words = [
            (normed, ", normed"),
            (has_bias, ", bias"),
            (mapped, ", mapped"),
            (added, ", added"),
            (exact, ", exact"),
            (size > 1.0, ", large"),
            (size < 1.0, ", small"),
            (buffers, ", buffers"),
            (slab_rows < out, ", slabs"),
        ];
        let words: String = words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
        let heads_word = if heads > 1 { format!("{heads} heads ") } else { String::new() };
        Case::new(format!("{kernel} {live} of {count} rows, {heads_word}{out}×{cols} {format}{words}"), move |gpu| {
            let mut stage = Stage::new(gpu);
            let mut rng = Rng(21);
            let unit = if heads > 1 { out / heads } else { 4 };
            let (weight, numbers) = rng.weight_in_slabs(gpu, format, [out, cols], unit, slab_rows)?;
            let x_row = heads * weight.cols;
            let x = if normed { rng.padded(count, cols, x_row) } else { rng.numbers(count * x_row) };
            let x: Vec<f32> = x.into_iter().map(|v| v * size).collect();
            let (gain, eps) = (rng.padded(1, cols, weight.cols), 1e-3);
            let bias = rng.numbers(out);
            let quads = out.div_ceil(4);
            let places = if mapped { 2 * quads + 1 } else { quads + 1 };
            let columns = if mapped { rng.shuffled(places)[..quads].to_vec() } else { (0..quads as u32).collect() };
            let width = 4 * places;
            let base = rng.numbers((count + 1) * width);
            let y_storage = if buffers { Storage::Buffer } else { gpu.activation_storage() };
            let mut expected = vec![f32::from_bits(UNTOUCHED); (count + 1) * width];
            for token in 0..live {
                let x = &x[token * x_row..][..x_row];
                let x = if normed { rms_norm::reference(x, &gain, cols, eps) } else { x.to_vec() };
                let mut products = reference(&x, &numbers, weight.cols, heads);
                // An image's quads are stored whole.
                products.resize(if y_storage == Storage::Buffer { out } else { 4 * quads }, f32::NAN);
                for (row, product) in products.into_iter().enumerate() {
                    let at = token * width + 4 * columns[row / 4] as usize + row % 4;
                    let bias = if has_bias && row < out { bias[row] } else { 0.0 };
                    let sum = product + bias + if added { base[at] } else { 0.0 };
                    expected[at] = if row < out { sum } else { 0.0 };
                }
            }
            let x_shape = if heads > 1 { vec![count, heads, weight.cols] } else { vec![count, weight.cols] };
            let (x, y) = match buffers {
                true => (stage.f32(&x_shape, &x)?, stage.fresh(&[count + 1, width])?),
                false => (stage.quads(&x_shape, &x)?, stage.fresh_quads(&[count + 1, width])?),
            };
            let (bias, columns) = (stage.f32(&[out], &bias)?, stage.u32(&[quads], &columns)?);
            let (gain, base) = (stage.quads(&[weight.cols], &gain)?, stage.quads(&[count + 1, width], &base)?);
            let rows = stage.rows(count, live)?;
            stage.run(Linear {
                norm: normed.then_some(Norm { gain: &gain, dim: cols, eps }),
                bias: has_bias.then_some(&bias),
                columns: mapped.then_some(&columns),
                base: added.then_some(&base),
                heads,
                exact,
                ..Linear::plain(&x, &weight, &y, &rows)
            });
            let check = if rows.few || exact { F32_SUMS } else { coop::check_of(gpu, "matmul", F32_SUMS, 2e-7) };
            stage.expect("y", &y, &expected, check);
            stage.finish()
        })
    }
}

pub(super) fn cases() -> Vec<Case> {
    use WeightFormat::{Bf16, F16, F32, Fp8};
    let affine = |bits, group, scale| WeightFormat::Affine { bits, group, scale };
    let (mlx, gguf) = (affine(4, 64, Scale::Bf16), affine(4, 32, Scale::F16));
    let mut all = vec![Variant::of(gguf, 2, 2, 33, 160)];
    all.extend(every_format().into_iter().map(|format| Variant::of(format, 3, 3, 33, 160)));
    all.extend(every_format_of_parts().into_iter().map(|format| Variant::of(format, 16, 13, 33, 160)));
    for (normed, bias, mapped, added) in (1..16).map(|i| (i & 1 > 0, i & 2 > 0, i & 4 > 0, i & 8 > 0)) {
        all.push(Variant { normed, bias, mapped, added, ..Variant::of(Bf16, 2, 2, 7, 64) });
        if !normed {
            all.push(Variant { bias, mapped, added, ..Variant::of(Bf16, 24, 17, 7, 64) });
        }
    }
    for (out, cols) in [(1, 1), (1, 7), (7, 33), (33, 1), (130, 96)] {
        all.extend([Variant::of(F16, 1, 1, out, cols), Variant::of(F32, 16, 9, out, cols)]);
        all.push(Variant { normed: true, ..Variant::of(F32, 2, 2, out, cols) });
    }
    all.extend((1..=super::FEW_ROWS).map(|count| Variant::of(Fp8, count, count, 9, 96)));
    all.extend([(16, 1), (24, 24), (128, 77)].map(|(count, live)| Variant::of(Fp8, count, live, 9, 96)));
    all.push(Variant { exact: true, ..Variant::of(F32, 16, 12, 40, 64) });
    all.extend([1e7, 1e-7].map(|size| Variant { size, ..Variant::of(F32, 40, 39, 40, 96) }));
    for (count, live) in [(2, 2), (16, 10)] {
        all.push(Variant { heads: 3, ..Variant::of(Bf16, count, live, 3 * 8, 64) });
        all.push(Variant { heads: 3, buffers: true, ..Variant::of(Bf16, count, live, 3 * 5, 64) });
        all.push(Variant { heads: 5, slab_rows: 2 * 12, ..Variant::of(Bf16, count, live, 5 * 12, 32) });
        all.push(Variant { slab_rows: 16, ..Variant::of(mlx, count, live, 41, 128) });
        all.push(Variant { slab_rows: 12, bias: true, mapped: true, added: true, ..Variant::of(gguf, count, live, 33, 64) });
        all.push(Variant { buffers: true, ..Variant::of(Bf16, count, live, 41, 64) });
    }
    all.extend([(576, 2048), (1408, 576)].map(|(out, cols)| Variant::of(mlx, 1, 1, out, cols)));
    all.extend([Variant::of(mlx, 16, 16, 64, 2048), Variant::of(mlx, 1, 1, 16, 10_944)]);
    let q8 = affine(8, 64, Scale::F16);
    let timed = [
        Variant::of(gguf, 1, 1, 1536, 576),
        Variant::of(gguf, 1, 1, 49_152, 576),
        Variant { normed: true, ..Variant::of(mlx, 1, 1, 2048, 2048) },
        Variant::of(mlx, 1, 1, 2048, 2048),
        Variant::of(mlx, 1, 1, 2048, 10_944),
        Variant::of(q8, 1, 1, 2048, 2048),
        Variant::of(affine(4, 64, Scale::F16), 1, 1, 512, 512),
        Variant::of(Bf16, 1, 1, 2048, 2048),
        Variant::of(Fp8, 1, 1, 2048, 2048),
        Variant::of(gguf, 128, 128, 1536, 576),
        Variant::of(mlx, 128, 128, 2048, 2048),
        Variant::of(q8, 128, 128, 2048, 2048),
        Variant::of(Bf16, 128, 128, 2048, 2048),
    ];
    let timed = timed.map(|variant| variant.case().bench());
    let tuned = [
        Variant::of(gguf, 1, 1, 2048, 2048).case().bench().tunes(Job::Product, "matvec"),
        Variant::of(gguf, 64, 64, 2048, 512).case().bench().tunes(Job::Tiles, "matmul"),
    ];
    all.into_iter().map(Variant::case).chain(timed).chain(tuned).collect()
}
