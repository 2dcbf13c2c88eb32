//! Absorbed attention over the paged latent cache, for any mix of sequences and positions (DEEPSEEK.md §4.1).

use super::{Lanes, PAGE, Rows, XSource};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("mla_attention.wgsl");

pub struct MlaAttention<'a> {
    /// The queries seen from the latent, `[rows, heads, latent]`; unread when `has_nope` is false
    pub alpha: &'a Tensor,
    /// `[rows, cols]`; head h's rotary query begins at `q_begin + h * rope`
    pub q: &'a Tensor,
    pub q_begin: usize,
    /// `[pages * PAGE, latent + rope]`
    pub cache: &'a Tensor,
    /// `[sequences, max_pages]`
    pub page_table: &'a Tensor,
    /// `[rows, 4]`: token, position, sequence, whether the token is the sequence's last sampled one
    pub batch: &'a Tensor,
    /// `[rows, heads, latent]`
    pub zeta: &'a Tensor,
    /// The softmax scale, with YaRN's factor (DEEPSEEK.md §2.4).
    pub scale: f32,
    /// Whether queries have a part without rotation; without one only rotary keys score.
    pub has_nope: bool,
    pub rows: &'a Rows,
}

params!(
    /// As `mla_attention.wgsl` has it.
    Params { heads: u32, latent: u32, rope: u32, q_stride: u32, q_begin: u32, max_pages: u32, scale: f32 }
);

fn program(lanes: Lanes, x: XSource, head_quads: u32, quads_a_lane: u32, has_nope: bool) -> Program {
    let program = lanes.apply(Program::new("mla_attention", Params::FIELDS, [BODY, super::weight::BLOCK]));
    let program = x.with_alpha(x.with_x(program)).set("PAGE", PAGE as u32).set("HEAD_QUADS", head_quads);
    program.set("QUADS_A_LANE", quads_a_lane).set("HAS_NOPE", u32::from(has_nope))
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = vec![];
    for (lanes, x) in [(Lanes::WHOLE[0], XSource::Direct), (Lanes::WHOLE[1], XSource::Direct), (Lanes::WHOLE[1], XSource::Broadcast)] {
        for head_quads in [1, 2] {
            for quads_a_lane in [1, 2, 3] {
                all.extend([false, true].map(|has_nope| program(lanes, x, head_quads, quads_a_lane, has_nope)));
            }
        }
    }
    all
}

impl Kernel for MlaAttention<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let (heads, latent) = (self.zeta.dim(1), self.zeta.dim(2));
        let rope = self.cache.dim(1) - latent;
        assert!(rope.is_multiple_of(32) && self.q_begin.is_multiple_of(4), "mla_attention: rope {rope}, q_begin {}", self.q_begin);
        let lanes = Lanes::whole(gpu);
        let head_quads = if heads > 4 { 2 } else { 1 };
        let program = program(lanes, XSource::of(gpu), head_quads, (latent / 4).div_ceil(lanes.workgroup), self.has_nope);
        let params = Params {
            heads,
            latent,
            rope,
            q_stride: self.q.dim(1) / 4,
            q_begin: self.q_begin as u32 / 4,
            max_pages: self.page_table.dim(1),
            scale: self.scale,
        };
        let launch = Launch::new(program, params).read(self.alpha).read(self.q).read(self.cache).read(self.page_table).read(self.batch);
        let launch = launch.write(self.zeta).uniform(&self.rows.step);
        // How much of the cache is read depends on the positions; the least is one page a row.
        let touched = 4 * (self.rows.count * PAGE) as u64 * u64::from(self.cache.dim(1));
        let flops = 2 * (self.rows.count * PAGE) as u64 * u64::from(heads) * u64::from(2 * latent + rope);
        let launch = launch.reads(touched + self.alpha.size_bytes() + self.q.size_bytes()).flops(flops);
        vec![launch.grid(self.rows.count, heads.div_ceil(4 * head_quads) as usize, 1)]
    }
}
