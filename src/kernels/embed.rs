//! `x[row] = table[token of row]`.

use super::case::{Case, Check, Rng, Stage};
use super::weight::{PUT_BLOCK, bind_weight, every_format_of_parts, with_weight};
use super::{BatchRow, Rows, SAMPLED, Weight, bind_batch, with_batch};
use crate::checkpoint::WeightFormat;
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Storage, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("embed.wgsl");

pub struct Embed<'a> {
    /// `[tokens, hidden]`
    pub table: &'a Weight,
    /// `[MAX_ROWS]` of [`super::BatchRow`]
    pub batch: &'a Tensor,
    /// `[sequences]`
    pub sampled: &'a Tensor,
    /// `[rows, hidden]`
    pub x: &'a Tensor,
    pub rows: &'a Rows,
}

params!(
    /// As `embed.wgsl` has it.
    Params { cols: u32, row_begin: u32, rows: u32 }
);

fn program(format: WeightFormat, storage: Storage) -> Program {
    let program = Program::new("embed", Params::FIELDS, [BODY]).set("WORKGROUP_SIZE", 32).with(PUT_BLOCK).puts("y", storage);
    with_weight(with_batch(program), format, storage)
}

pub(super) fn programs() -> Vec<Program> {
    let of = |format| [Storage::Buffer, Storage::Image].map(|storage| program(format, storage));
    every_format_of_parts().into_iter().flat_map(of).collect()
}

impl Kernel for Embed<'_> {
    fn launches(&self, _: &Gpu) -> Vec<Launch> {
        let launch = |slab: &super::Slab| {
            let params = Params { cols: self.table.cols as u32, row_begin: slab.row_begin as u32, rows: slab.rows as u32 };
            let launch = Launch::new(program(self.table.format, self.table.storage), params).write(self.x).read(self.sampled);
            let launch = bind_batch(launch, self.batch);
            let touched = self.rows.count as u64 * self.table.row_bytes();
            bind_weight(launch, slab).grid(self.rows.count, 1, 1).reads(touched).writes(4 * (self.rows.count * self.table.cols) as u64)
        };
        self.table.slabs.iter().map(launch).collect()
    }
}

/// Row `token` of a table of `cols` columns.
pub fn reference(table: &[f32], cols: usize, token: u32) -> &[f32] {
    &table[token as usize * cols..][..cols]
}

fn case(format: WeightFormat, tokens: &'static [u32], [vocab, hidden]: [usize; 2], slab_rows: usize) -> Case {
    let name = format!("embed {} of {vocab} tokens, {hidden} wide, {slab_rows} a slab, {format}", tokens.len());
    Case::new(name, move |gpu| {
        let mut stage = Stage::new(gpu);
        let (table, numbers) = Rng(13).weight_in_slabs(gpu, format, [vocab, hidden], 1, slab_rows)?;
        // Every second token comes from the device: of sequence i, not from the batch.
        let from_device = |i: usize| i % 2 == 1;
        let row = |i: usize| match from_device(i) {
            true => BatchRow { token: SAMPLED, position: 9, sequence: i as u32, entry: 0 },
            false => BatchRow { token: tokens[i], position: 9, sequence: 0, entry: 0 },
        };
        let batch: Vec<_> = (0..tokens.len()).map(row).collect();
        let sampled: Vec<u32> = (0..tokens.len()).map(|i| if from_device(i) { tokens[i] } else { 0 }).collect();
        let expected: Vec<f32> = tokens.iter().flat_map(|&token| reference(&numbers, table.cols, token)).copied().collect();
        let (batch, sampled) = (stage.batch(&batch)?, stage.u32(&[tokens.len()], &sampled)?);
        let x = stage.fresh_quads(&[tokens.len() + 1, table.cols])?;
        stage.run(Embed { table: &table, batch: &batch, sampled: &sampled, x: &x, rows: &stage.rows(tokens.len(), tokens.len())? });
        stage.expect("x", &x, &expected, Check::Nmse(1e-13, "decoding rounds once"));
        stage.finish()
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![case(WeightFormat::Bf16, &[3, 8, 0], [9, 96], 9)];
    all.extend(every_format_of_parts().into_iter().map(|format| case(format, &[0, 4, 2], [5, 160], 5)));
    all.push(case(WeightFormat::F16, &[20, 7, 8, 0, 6, 13], [21, 33], 7));
    all.push(case(WeightFormat::F32, &[0], [1, 7], 1));
    all.push(case(WeightFormat::Bf16, &[1, 4000, 4095], [4096, 2048], 3000));
    all
}
