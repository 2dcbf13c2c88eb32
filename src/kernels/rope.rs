//! Rotates the rotary part of every head's query in place (DEEPSEEK.md §3.3, interleaved pairs).

use super::Rows;
use super::case::{Case, Check, Rng, Stage, UNTOUCHED, rotary};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("rope.wgsl");
const WORKGROUP: u32 = 64;

pub struct Rope<'a> {
    /// `[rows, 4]`: token, position, sequence, whether the token is the sequence's last sampled one
    pub batch: &'a Tensor,
    /// cos and sin: `[positions, pairs, 2]`
    pub rotary: &'a Tensor,
    /// `[rows, cols]`; in a row, head h's pairs begin at `begin + h * head_stride`
    pub q: &'a Tensor,
    pub heads: usize,
    /// Numbers before the first head's rotary part.
    pub begin: usize,
    /// Numbers from head to head.
    pub head_stride: usize,
    pub rows: &'a Rows,
}

params!(
    /// As `rope.wgsl` has it.
    Params { heads: u32, pairs: u32, head_stride: u32, row_stride: u32, begin: u32, positions: u32 }
);

fn program() -> Program {
    Program::new("rope", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", WORKGROUP)
}

pub(super) fn programs() -> Vec<Program> {
    vec![program()]
}

impl Kernel for Rope<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        let pairs = self.rotary.dim(1);
        assert!(
            2 * pairs as usize <= self.head_stride && self.q.dim(1) as usize >= self.begin + self.heads * self.head_stride,
            "rope: {:?}",
            self.q
        );
        let params = Params {
            heads: self.heads as u32,
            pairs,
            head_stride: self.head_stride as u32 / 2,
            row_stride: self.q.dim(1) / 2,
            begin: self.begin as u32 / 2,
            positions: self.rotary.dim(0),
        };
        let touched = (8 * self.rows.count * self.heads) as u64 * u64::from(pairs);
        let launch = Launch::new(program(), params).read(self.batch).read(self.rotary).write(self.q);
        let groups = (self.heads as u32 * pairs).div_ceil(WORKGROUP) as usize;
        vec![launch.grid(groups, self.rows.count, 1).flops(touched).reads(touched).writes(touched)]
    }
}

/// Pairs of neighbours turned by (cos, sin).
pub fn reference(pairs: &mut [f32], turns: &[f32]) {
    for (pair, turn) in pairs.chunks_exact_mut(2).zip(turns.chunks_exact(2)) {
        let [a, b, cos, sin] = [pair[0], pair[1], turn[0], turn[1]].map(f64::from);
        pair.copy_from_slice(&[(a * cos - b * sin) as f32, (b * cos + a * sin) as f32]);
    }
}

fn case(rows: usize, heads: usize, rope: usize, head_stride: usize, begin: usize) -> Case {
    Case::new(format!("rope {rows} rows, {heads} heads, {rope} of {head_stride} from {begin} on"), move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(15);
        let positions = 100;
        let table = rotary(positions, rope / 2);
        let stride = begin + heads * head_stride + 4;
        let start = rng.numbers((rows + 1) * stride);
        let at: Vec<usize> = (0..rows).map(|_| rng.below(positions)).collect();
        let mut turned = start.clone();
        let mut expected = vec![f32::from_bits(UNTOUCHED); start.len()];
        for (row, at) in at.iter().enumerate() {
            for head in 0..heads {
                let range = row * stride + begin + head * head_stride..row * stride + begin + head * head_stride + rope;
                reference(&mut turned[range.clone()], &table[at * rope..][..rope]);
                expected[range.clone()].copy_from_slice(&turned[range]);
            }
        }
        let batch: Vec<_> = at.iter().map(|&at| [1, at as u32, 0, 0]).collect();
        let (batch, rotary) = (stage.batch(&batch)?, stage.f32(&[positions, rope / 2, 2], &table)?);
        let q = stage.f32(&[rows + 1, stride], &start)?;
        stage.run(Rope { batch: &batch, rotary: &rotary, q: &q, heads, begin, head_stride, rows: &stage.rows(rows, rows)? });
        stage.expect_from("q", &q, &start, &expected, Check::Nmse(1e-13, "two products and a sum"));
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    vec![case(3, 3, 8, 32, 96), case(1, 1, 2, 2, 0), case(7, 16, 64, 64, 2048), case(33, 5, 12, 32, 32)]
}
