//! `alpha[head] = BK[head]ᵀ q_nope[head]`: the query seen from the latent (DEEPSEEK.md §4.1).

use super::case::{Case, F32_SUMS, Rng, Stage};
use super::weight::{bind_weight, every_format_of_parts, with_weight};
use super::{Rows, Weight};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("absorb.wgsl");
const WORKGROUP: u32 = 32;

pub struct Absorb<'a> {
    /// `[rows, cols]`; head h's part begins at `h * nope`
    pub q: &'a Tensor,
    /// The key half of kv_b: `[heads * nope, latent]`
    pub weight: &'a Weight,
    /// `[rows, heads, latent]`
    pub alpha: &'a Tensor,
    pub heads: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `absorb.wgsl` has it.
    Params { nope: u32, cols: u32, heads: u32, head_begin: u32, q_stride: u32, q_head_stride: u32, blocks: u32 }
);

fn program(format: WeightFormat, workgroup: u32) -> Program {
    with_weight(Program::new("absorb", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", workgroup), format)
}

pub(super) fn programs() -> Vec<Program> {
    every_format_of_parts().into_iter().map(|format| program(format, WORKGROUP)).collect()
}

impl Kernel for Absorb<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        let nope = self.weight.rows / self.heads;
        let cols = self.weight.cols;
        assert_eq!(self.alpha.shape[1..], [self.heads, cols], "absorb: alpha");
        let launch = |slab: &super::Slab| {
            let blocks = slab.rows / nope * (cols / 32);
            let params = Params {
                nope: nope as u32,
                cols: cols as u32,
                heads: self.heads as u32,
                head_begin: (slab.row_begin / nope) as u32,
                q_stride: self.q.dim(1),
                q_head_stride: nope as u32,
                blocks: blocks as u32,
            };
            let launch = Launch::new(program(self.weight.format, WORKGROUP), params).read(self.q).write(self.alpha);
            let flops = 2 * (self.rows.count * slab.rows * cols) as u64;
            bind_weight(launch, slab).grid(blocks.div_ceil(WORKGROUP as usize), self.rows.count, 1).flops(flops)
        };
        self.weight.slabs.iter().map(launch).collect()
    }
}

/// `[heads, cols]` of one row: `q[h * nope + i]` times row `h * nope + i` of the weight, summed over i.
pub fn reference(q: &[f32], weight: &[f32], heads: usize, cols: usize) -> Vec<f32> {
    let nope = weight.len() / cols / heads;
    let column =
        |h: usize, j: usize| (0..nope).map(|i| f64::from(q[h * nope + i]) * f64::from(weight[(h * nope + i) * cols + j])).sum::<f64>();
    (0..heads).flat_map(|h| (0..cols).map(move |j| (h, j))).map(|(h, j)| column(h, j) as f32).collect()
}

fn case(format: WeightFormat, rows: usize, [heads, nope, latent]: [usize; 3], slab_heads: usize) -> Case {
    let name = format!("absorb {rows} rows, {heads} heads {nope}×{latent}, {slab_heads} a slab, {format}");
    Case::new(name, move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(11);
        let (weight, numbers) = rng.weight_in_slabs(gpu, format, [heads * nope, latent], nope, slab_heads * nope)?;
        let stride = heads * nope + 4;
        let q = rng.numbers(rows * stride);
        let expected: Vec<f32> = q.chunks(stride).flat_map(|q| reference(q, &numbers, heads, weight.cols)).collect();
        let q = stage.f32(&[rows, stride], &q)?;
        let alpha = stage.fresh(&[rows + 1, heads, weight.cols])?;
        stage.run(Absorb { q: &q, weight: &weight, alpha: &alpha, heads, rows: &stage.rows(rows, rows)? });
        stage.expect("alpha", &alpha, &expected, F32_SUMS);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![case(WeightFormat::Bf16, 2, [3, 12, 64], 3)];
    all.extend(every_format_of_parts().into_iter().map(|format| case(format, 1, [2, 5, 160], 2)));
    all.extend([[1, 1, 32], [5, 7, 96]].map(|shape| case(WeightFormat::F32, 3, shape, 2)));
    all.push(case(WeightFormat::Fp8, 16, [3, 8, 64], 1));
    all.push(case(WeightFormat::Bf16, 1, [16, 128, 512], 16).bench());
    all
}
