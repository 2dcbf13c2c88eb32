//! Which rows a stored weight has, and where their results go, so that kernels find whole quads where they look for them.

use super::ModelConfig;
use super::config::SourceLayout;
use super::load::Piece;
use super::weights::pad;
use crate::checkpoint::Matrix;
use std::collections::BTreeMap;

/// Columns of what attention works on, as kernels read them; every part is padded with zeros.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// From head to head of the queries' part without rotation.
    pub nope: usize,
    /// From head to head of their rotary part.
    pub rope: usize,
    /// The latents of a cache entry.
    pub latent: usize,
    /// After them its rotary keys, one for each group of heads.
    pub keys: usize,
    /// What a head sums of the latents: all, or its group's.
    pub head_latent: usize,
    /// What a head scores with, beside the end of an entry or its group's key.
    pub query: usize,
    /// A row of queries: all heads' parts without rotation, then all rotary parts.
    pub q: usize,
    /// Where in a row of the first projection the cache entry begins: after the queries or their latent.
    pub entry_begin: usize,
    /// A row of the first projection.
    pub inward: usize,
}

impl Columns {
    pub fn of(config: &ModelConfig) -> Self {
        let (nope, rope, keys) = (pad(config.nope), pad(config.rope), config.groups * pad(config.rope));
        let (head_latent, latent) = match config.source {
            SourceLayout::HuggingFace => (pad(config.kv_lora_rank), pad(config.kv_lora_rank)),
            // Every group's values begin a block, as does the constant.
            SourceLayout::Llama => (pad(config.v_dim), config.groups * pad(config.v_dim) + pad(1)),
        };
        let query = rope + if nope > 0 { latent } else { 0 };
        let q = config.heads * (nope + rope);
        let entry_begin = config.q_lora_rank.map_or(q, pad);
        Self { nope, rope, latent, keys, head_latent, query, q, entry_begin, inward: entry_begin + latent + keys }
    }

    /// First head's rotary part in a row of queries.
    pub fn q_rope_begin(&self, config: &ModelConfig) -> usize {
        config.heads * self.nope
    }

    /// Column of every row of `q_proj` or `q_b_proj`.
    pub fn of_queries(&self, config: &ModelConfig) -> Vec<usize> {
        let begin = self.q_rope_begin(config);
        let column = |head: usize, i: usize| match i.checked_sub(config.nope) {
            None => head * self.nope + i,
            Some(i) => begin + head * self.rope + rope_place(config, i),
        };
        (0..config.heads).flat_map(|head| (0..config.nope + config.rope).map(move |i| column(head, i))).collect()
    }

    /// Column of every row of the first projection: the queries' or their latent's, then `kv_a_proj_with_mqa`'s.
    pub fn of_inward(&self, config: &ModelConfig) -> Vec<usize> {
        let queries = config.q_lora_rank.map_or_else(|| self.of_queries(config), |rank| (0..rank).collect());
        // The one latent of all heads, or each group's values and then the constant.
        let place = |i: usize| match config.source {
            SourceLayout::HuggingFace => i,
            SourceLayout::Llama => i / config.v_dim * self.head_latent + i % config.v_dim,
        };
        let latent = (0..config.kv_lora_rank).map(|i| self.entry_begin + place(i));
        let key = |group: usize| self.entry_begin + self.latent + group * self.rope;
        let rotary = (0..config.groups * config.rope).map(|i| key(i / config.rope) + rope_place(config, i % config.rope));
        queries.into_iter().chain(latent).chain(rotary).collect()
    }
}

/// Where rotary number i stands in pair order.
fn rope_place(config: &ModelConfig, i: usize) -> usize {
    let half = config.rope / 2;
    match config.rope_interleave {
        true => i,
        false if i < half => 2 * i,
        false => 2 * (i - half) + 1,
    }
}

/// The rows of a weight as stored.
pub struct Arrangement {
    /// The given row that each stored row is; none for zeros. A multiple of 4.
    rows: Vec<Option<usize>>,
    /// The quad of columns that each four stored rows go to.
    pub quads: Vec<u32>,
}

impl Arrangement {
    /// For rows whose results belong in these columns.
    pub fn of(columns: &[usize]) -> Self {
        let is_quad = |quad: &[usize]| quad[0].is_multiple_of(4) && (0..4).all(|i| quad[i] == quad[0] + i);
        if columns.len().is_multiple_of(4) && columns.chunks(4).all(is_quad) {
            let quads = columns.chunks(4).map(|quad| quad[0] as u32 / 4).collect();
            return Self { rows: (0..columns.len()).map(Some).collect(), quads };
        }
        let mut quads: BTreeMap<usize, [Option<usize>; 4]> = BTreeMap::new();
        for (row, column) in columns.iter().enumerate() {
            quads.entry(column / 4).or_default()[column % 4] = Some(row);
        }
        Self { rows: quads.values().flatten().copied().collect(), quads: quads.keys().map(|&quad| quad as u32).collect() }
    }

    /// Rows as stored.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The stored rows, from matrices that lie one below the other; none stands for a row of zeros.
    pub fn pieces<'a>(&self, matrices: &[Option<Matrix<'a>>]) -> Vec<Piece<'a>> {
        let ends: Vec<usize> = matrices
            .iter()
            .scan(0, |end, matrix| {
                *end += matrix.as_ref().map_or(1, Matrix::rows);
                Some(*end)
            })
            .collect();
        // The matrix that a stored row is from, and its row there.
        let source = |row: &Option<usize>| {
            let row = (*row)?;
            let index = ends.partition_point(|&end| end <= row);
            let begin = if index == 0 { 0 } else { ends[index - 1] };
            matrices[index].as_ref().map(|_| (index, row - begin))
        };
        let mut pieces = vec![];
        let mut rows = self.rows.iter().map(source).peekable();
        while let Some(first) = rows.next() {
            let mut count = 1;
            match first {
                None => {
                    while rows.next_if(|next| next.is_none()).is_some() {
                        count += 1;
                    }
                    pieces.push(Piece::Zeros(count));
                }
                Some((index, row)) => {
                    while rows.next_if_eq(&Some((index, row + count))).is_some() {
                        count += 1;
                    }
                    pieces.extend(matrices[index].clone().map(|matrix| Piece::Rows(matrix, row..row + count)));
                }
            }
        }
        pieces
    }

    /// A vector with a number a row, as stored.
    pub fn values(&self, values: &[f32]) -> Vec<f32> {
        self.rows.iter().map(|row| row.map_or(0.0, |row| values[row])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_quads_keep_their_order() {
        let arrangement = Arrangement::of(&[8, 9, 10, 11, 0, 1, 2, 3]);
        assert_eq!(arrangement.rows, (0..8).map(Some).collect::<Vec<_>>());
        assert_eq!(arrangement.quads, [2, 0]);
    }

    #[test]
    fn torn_quads_are_filled_with_zeros() {
        let arrangement = Arrangement::of(&[5, 32, 4, 33, 6]);
        assert_eq!(arrangement.quads, [1, 8]);
        assert_eq!(arrangement.rows, [Some(2), Some(0), Some(4), None, Some(1), Some(3), None, None]);
        assert_eq!(arrangement.values(&[1.0, 2.0, 3.0, 4.0, 5.0]), [3.0, 1.0, 5.0, 0.0, 2.0, 4.0, 0.0, 0.0]);
    }
}
