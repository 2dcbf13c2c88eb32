//! `y = weight @ x + bias`, for a few rows (`matvec`) or many (`matmul`), plain or with a matrix a head.

use super::weight::{bind_weight, every_format, with_weight};
use super::{Lanes, Rows, TILE, Weight, XSource};
use crate::checkpoint::WeightFormat;
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
