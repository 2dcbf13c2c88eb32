//! `y = weight @ x + bias`, for a few rows (`matvec`) or many (`matmul`), plain or with a matrix a head.

use super::case::{Case, F32_SUMS, Rng, Stage, UNTOUCHED, dot};
use super::weight::{bind_weight, every_format, every_format_of_parts, with_weight};
use super::{Lanes, Rows, TILE, Weight, XSource};
use crate::checkpoint::{Scale, WeightFormat};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const MATVEC: Part = wgsl!("matvec.wgsl");
const MATMUL: Part = wgsl!("matmul.wgsl");
const BIAS_NONE: Part = wgsl!("parts/bias_none.wgsl");
const BIAS_ROW: Part = wgsl!("parts/bias_row.wgsl");
const Y_PLAIN: Part = wgsl!("parts/y_plain.wgsl");
const Y_MAPPED: Part = wgsl!("parts/y_mapped.wgsl");
const BIAS_BINDING: u32 = 10;
const Y_BINDING: u32 = 11;

/// One linear map over all rows of a step.
pub struct Linear<'a> {
    /// `[rows, cols]`, or `[rows, heads, cols]`
    pub x: &'a Tensor,
    /// `[out, cols]`, or `[heads * out, cols]`
    pub weight: &'a Weight,
    /// `[heads * out]`
    pub bias: Option<&'a Tensor>,
    /// Column of `y` for each row of the weight, where they are not the same: `[heads * out]`
    pub columns: Option<&'a Tensor>,
    /// `[rows, heads * out]`, or wider
    pub y: &'a Tensor,
    /// Add to `y` instead of replacing it.
    pub add: bool,
    pub heads: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `matvec.wgsl` and `matmul.wgsl` have it.
    Params { rows: u32, cols: u32, row_begin: u32, head_begin: u32, x_stride: u32, x_head_stride: u32, y_stride: u32 }
);

/// What tells one variant from another.
#[derive(Clone, Copy)]
struct Epilogue {
    bias: bool,
    mapped: bool,
    add: bool,
}

impl Epilogue {
    fn apply(self, program: Program) -> Program {
        let program = program.with(if self.bias { BIAS_ROW } else { BIAS_NONE });
        program.with(if self.mapped { Y_MAPPED } else { Y_PLAIN }).set("ADD", u32::from(self.add))
    }
}

fn matvec(lanes: (Lanes, XSource), format: WeightFormat, epilogue: Epilogue) -> Program {
    let program = lanes.1.with_x(lanes.0.apply(Program::new("matvec", Params::FIELDS, [MATVEC])));
    epilogue.apply(with_weight(program, format))
}

fn matmul(x: XSource, format: WeightFormat, epilogue: Epilogue) -> Program {
    let program = x.with_x(Program::new("matmul", Params::FIELDS, [MATMUL])).set("WORKGROUP_SIZE", x.row_lanes() as u32);
    epilogue.apply(with_weight(program, format))
}

pub(super) fn programs() -> Vec<Program> {
    let flags = [false, true];
    let epilogues = flags.iter().flat_map(|&bias| flags.iter().flat_map(move |&mapped| flags.map(|add| Epilogue { bias, mapped, add })));
    let plain = Epilogue { bias: false, mapped: false, add: false };
    let mut all = vec![];
    for format in every_format() {
        all.extend(Lanes::MATVEC.map(|lanes| matvec(lanes, format, plain)));
        all.extend(XSource::ALL.map(|x| matmul(x, format, plain)));
    }
    // What comes after the sum does not depend on the format.
    for epilogue in epilogues.filter(|e| e.bias || e.mapped || e.add) {
        all.extend(Lanes::MATVEC.map(|lanes| matvec(lanes, WeightFormat::Bf16, epilogue)));
        all.extend(XSource::ALL.map(|x| matmul(x, WeightFormat::Bf16, epilogue)));
    }
    all
}

impl Kernel for Linear<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let head_rows = self.weight.rows / self.heads;
        let tokens = self.rows.count;
        let x_row: usize = self.x.shape[1..].iter().product();
        let x_cols = if self.heads > 1 { self.x.dim(2) as usize } else { x_row };
        assert_eq!(self.weight.cols, x_cols, "{}: columns of the weight and of x {:?}", self.weight.name, self.x.shape);
        assert!(self.columns.is_some() || self.y.shape[1..].iter().product::<usize>() >= self.weight.rows, "{}: y", self.weight.name);

        let epilogue = Epilogue { bias: self.bias.is_some(), mapped: self.columns.is_some(), add: self.add };
        let lanes = Lanes::matvec(gpu);
        let launch = |slab: &super::Slab| {
            // A slab of a headed weight holds whole heads.
            let heads = if self.heads > 1 { slab.rows / head_rows } else { 1 };
            let rows = slab.rows / heads;
            let params = Params {
                rows: rows as u32,
                cols: self.weight.cols as u32,
                row_begin: slab.row_begin as u32,
                head_begin: (slab.row_begin / head_rows) as u32,
                x_stride: (x_row / 4) as u32,
                x_head_stride: if self.heads > 1 { (x_cols / 4) as u32 } else { 0 },
                y_stride: self.y.shape[1..].iter().product::<usize>() as u32,
            };
            let launch = if self.rows.few {
                let program = matvec(lanes, self.weight.format, epilogue);
                Launch::new(program, params).read(self.x).write(self.y).grid(rows.div_ceil(lanes.0.rows()), tokens, heads)
            } else {
                let x = lanes.1;
                let program = matmul(x, self.weight.format, epilogue);
                let grid = (rows.div_ceil(4 * x.row_lanes()), tokens.div_ceil(TILE), heads);
                Launch::new(program, params).read(self.x).write(self.y).uniform(&self.rows.step).grid(grid.0, grid.1, grid.2)
            };
            let launch = bind_weight(launch, slab);
            let launch = self.bias.iter().fold(launch, |launch, bias| launch.read_at(BIAS_BINDING, bias));
            let launch = self.columns.iter().fold(launch, |launch, columns| launch.read_at(Y_BINDING, columns));
            launch.writes(4 * (tokens * slab.rows) as u64).flops(2 * (tokens * slab.rows * self.weight.cols) as u64)
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
    epilogue: Epilogue,
    slab_rows: usize,
}

impl Variant {
    const PLAIN: Epilogue = Epilogue { bias: false, mapped: false, add: false };

    fn of(format: WeightFormat, count: usize, live: usize, out: usize, cols: usize) -> Self {
        Self { format, count, live, out, cols, heads: 1, epilogue: Self::PLAIN, slab_rows: out }
    }

    fn case(self) -> Case {
        let Self { format, count, live, out, cols, heads, epilogue, slab_rows } = self;
        let kernel = if count <= super::FEW_ROWS { "matvec" } else { "matmul" };
        let words = [(epilogue.bias, ", bias"), (epilogue.mapped, ", mapped"), (epilogue.add, ", add"), (slab_rows < out, ", slabs")];
        let words: String = words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
        let heads_word = if heads > 1 { format!("{heads} heads ") } else { String::new() };
        Case::new(format!("{kernel} {live} of {count} rows, {heads_word}{out}×{cols} {format}{words}"), move |gpu| {
            let mut stage = Stage::new(gpu);
            let mut rng = Rng(21);
            let unit = if heads > 1 { out / heads } else { 1 };
            let (weight, numbers) = rng.weight_in_slabs(gpu, format, [out, cols], unit, slab_rows)?;
            let x_row = heads * weight.cols;
            let x = rng.numbers(count * x_row);
            let bias = rng.numbers(out);
            let width = if epilogue.mapped { 2 * out + 5 } else { out + 3 };
            let columns = if epilogue.mapped { rng.shuffled(width)[..out].to_vec() } else { (0..out as u32).collect() };
            let start = if epilogue.add { rng.numbers((count + 1) * width) } else { vec![f32::from_bits(UNTOUCHED); (count + 1) * width] };
            let mut expected = vec![f32::from_bits(UNTOUCHED); start.len()];
            for token in 0..live {
                let products = reference(&x[token * x_row..][..x_row], &numbers, weight.cols, heads);
                for (row, product) in products.into_iter().enumerate() {
                    let at = token * width + columns[row] as usize;
                    let bias = if epilogue.bias { bias[row] } else { 0.0 };
                    expected[at] = product + bias + if epilogue.add { start[at] } else { 0.0 };
                }
            }
            let x_shape = if heads > 1 { vec![count, heads, weight.cols] } else { vec![count, weight.cols] };
            let (x, bias, columns) = (stage.f32(&x_shape, &x)?, stage.f32(&[out], &bias)?, stage.u32(&[out], &columns)?);
            let y = stage.f32(&[count + 1, width], &start)?;
            stage.run(Linear {
                x: &x,
                weight: &weight,
                bias: epilogue.bias.then_some(&bias),
                columns: epilogue.mapped.then_some(&columns),
                y: &y,
                add: epilogue.add,
                heads,
                rows: &stage.rows(count, live)?,
            });
            stage.expect_from("y", &y, &start, &expected, F32_SUMS);
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
    for (bias, mapped, add) in (1..8).map(|i| (i & 1 > 0, i & 2 > 0, i & 4 > 0)) {
        let epilogue = Epilogue { bias, mapped, add };
        all.extend([Variant::of(Bf16, 2, 2, 7, 64), Variant::of(Bf16, 24, 17, 7, 64)].map(|v| Variant { epilogue, ..v }));
    }
    for (out, cols) in [(1, 1), (1, 7), (7, 33), (33, 1), (130, 96)] {
        all.extend([Variant::of(F16, 1, 1, out, cols), Variant::of(F32, 16, 9, out, cols)]);
    }
    all.extend((1..=super::FEW_ROWS).map(|count| Variant::of(Fp8, count, count, 9, 96)));
    all.extend([(16, 1), (24, 24), (128, 77)].map(|(count, live)| Variant::of(Fp8, count, live, 9, 96)));
    let every = Epilogue { bias: true, mapped: true, add: true };
    for (count, live) in [(2, 2), (16, 10)] {
        all.push(Variant { heads: 3, ..Variant::of(Bf16, count, live, 3 * 5, 64) });
        all.push(Variant { heads: 5, slab_rows: 2 * 7, ..Variant::of(Bf16, count, live, 5 * 7, 32) });
        all.push(Variant { slab_rows: 16, ..Variant::of(mlx, count, live, 41, 128) });
        all.push(Variant { slab_rows: 10, epilogue: every, ..Variant::of(gguf, count, live, 33, 64) });
    }
    all.extend([(576, 2048), (1408, 576)].map(|(out, cols)| Variant::of(mlx, 1, 1, out, cols)));
    all.extend([Variant::of(mlx, 16, 16, 64, 2048), Variant::of(mlx, 1, 1, 16, 10_944)]);
    let timed = [
        Variant::of(gguf, 1, 1, 1536, 576),
        Variant::of(gguf, 1, 1, 49_152, 576),
        Variant::of(mlx, 1, 1, 2048, 2048),
        Variant::of(mlx, 1, 1, 2048, 10_944),
        Variant::of(Bf16, 1, 1, 2048, 2048),
        Variant::of(Fp8, 1, 1, 2048, 2048),
        Variant::of(gguf, 128, 128, 1536, 576),
        Variant::of(mlx, 128, 128, 2048, 2048),
        Variant::of(Bf16, 128, 128, 2048, 2048),
    ];
    all.into_iter().map(Variant::case).chain(timed.map(|variant| variant.case().bench())).collect()
}
