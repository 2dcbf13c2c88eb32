//! Puts a row's normalised latent and rotated shared key into the paged cache (DEEPSEEK.md §3.2, §4.1).

use super::{Lanes, PAGE, Rows};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("latent_append.wgsl");

pub struct LatentAppend<'a> {
    /// What `kv_a_proj_with_mqa` gave: `[rows, latent + rope]`
    pub u: &'a Tensor,
    /// `kv_a_layernorm`: `[latent]`
    pub weight: &'a Tensor,
    /// `[rows, 4]`: token, position, sequence, whether the token is the sequence's last sampled one
    pub batch: &'a Tensor,
    /// `[sequences, max_pages]`
    pub page_table: &'a Tensor,
    /// cos and sin: `[positions, pairs, 2]`
    pub rotary: &'a Tensor,
    /// `[pages * PAGE, latent + rope]`
    pub cache: &'a Tensor,
    /// The latent's own width, without padding.
    pub latent_dim: usize,
    pub eps: f32,
    pub rows: &'a Rows,
}

params!(
    /// As `latent_append.wgsl` has it.
    Params { latent: u32, latent_dim: u32, rope: u32, pairs: u32, max_pages: u32, positions: u32, eps: f32 }
);

fn program(lanes: Lanes) -> Program {
    lanes.apply(Program::new("latent_append", Params::FIELDS, [BODY])).set("PAGE", PAGE as u32)
}

pub(super) fn programs() -> Vec<Program> {
    Lanes::WHOLE.map(program).to_vec()
}

impl Kernel for LatentAppend<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let latent = self.weight.dim(0);
        let entry = self.cache.dim(1);
        assert_eq!(self.u.dim(1), entry, "latent_append: columns of u and of the cache");
        let params = Params {
            latent,
            latent_dim: self.latent_dim as u32,
            rope: entry - latent,
            pairs: self.rotary.dim(1),
            max_pages: self.page_table.dim(1),
            positions: self.rotary.dim(0),
            eps: self.eps,
        };
        let bytes = 4 * self.rows.count as u64 * u64::from(entry);
        let launch = Launch::new(program(Lanes::whole(gpu)), params).read(self.u).read(self.weight).read(self.batch);
        let launch = launch.read(self.page_table).read(self.rotary).write(self.cache).uniform(&self.rows.step);
        vec![launch.grid(self.rows.count, 1, 1).flops(bytes).reads(bytes).writes(bytes)]
    }
}
