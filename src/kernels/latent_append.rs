//! Puts a row's normalised latent and rotated shared key into the paged cache (DEEPSEEK.md §3.2, §4.1).

use super::case::{Case, F32_SUMS, Rng, Stage, UNTOUCHED, rotary};
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

/// One row: the latent normalised, the shared key rotated; `u` and the result are `[latent + rope]` as stored.
pub fn reference(u: &[f32], weight: &[f32], latent_dim: usize, turns: &[f32], eps: f32) -> Vec<f32> {
    let (latent, key) = u.split_at(weight.len());
    let mut entry = super::rms_norm::reference(latent, weight, latent_dim, eps);
    entry.extend(key);
    super::rope::reference(&mut entry[weight.len()..], turns);
    entry
}

fn case(count: usize, live: usize, latent_dim: usize, pairs: usize) -> Case {
    Case::new(format!("latent_append {live} of {count} rows, {latent_dim} + {}", 2 * pairs), move |gpu| {
        let mut stage = Stage::new(gpu);
        let mut rng = Rng(41);
        let stored = |dim: usize| dim.next_multiple_of(super::BLOCK_COLS);
        let (latent, rope) = (stored(latent_dim), stored(2 * pairs));
        let entry = latent + rope;
        let mut u = rng.padded(count, latent_dim, entry);
        for row in u.chunks_mut(entry) {
            row[latent..latent + 2 * pairs].copy_from_slice(&rng.numbers(2 * pairs));
        }
        let weight = rng.padded(1, latent_dim, latent);
        let (positions, sequences, max_pages, eps) = (3 * PAGE, 2, 3, 1e-3);
        let turns = rotary(positions, pairs);
        let pages = rng.shuffled(sequences * max_pages + 1);
        let page_table = &pages[..sequences * max_pages];
        // Runs of positions that go over a page's end, a run a sequence.
        let batch: Vec<[u32; 4]> = (0..count).map(|row| [1, (PAGE - 3 + row / sequences) as u32, (row % sequences) as u32, 0]).collect();
        let mut expected = vec![f32::from_bits(UNTOUCHED); pages.len() * PAGE * entry];
        for (row, &[_, position, sequence, _]) in batch.iter().enumerate().take(live) {
            let (position, sequence) = (position as usize, sequence as usize);
            let slot = page_table[sequence * max_pages + position / PAGE] as usize * PAGE + position % PAGE;
            let numbers = reference(&u[row * entry..][..entry], &weight, latent_dim, &turns[position * 2 * pairs..][..2 * pairs], eps);
            expected[slot * entry..][..entry].copy_from_slice(&numbers);
        }
        let (u, weight, rotary) =
            (stage.f32(&[count, entry], &u)?, stage.f32(&[latent], &weight)?, stage.f32(&[positions, pairs, 2], &turns)?);
        let (batch, page_table) = (stage.batch(&batch)?, stage.u32(&[sequences, max_pages], page_table)?);
        let cache = stage.fresh(&[pages.len() * PAGE, entry])?;
        stage.run(LatentAppend {
            u: &u,
            weight: &weight,
            batch: &batch,
            page_table: &page_table,
            rotary: &rotary,
            cache: &cache,
            latent_dim,
            eps,
            rows: &stage.rows(count, live)?,
        });
        stage.expect("cache", &cache, &expected, F32_SUMS);
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    vec![case(5, 3, 64, 8), case(1, 1, 32, 1), case(16, 13, 40, 16), case(8, 8, 512, 32)]
}
