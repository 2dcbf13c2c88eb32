//! What a watched step keeps: the routers' choices and the likeliest tokens. Its dispatches are those of any other step and one
//! more; a layer's choice is just written to a place that later layers do not overwrite.

use super::activations::choices;
use super::{Model, ModelError};
use crate::gpu::Tensor;
use crate::kernels::{CANDIDATES, NO_CANDIDATE};

pub struct Watch {
    /// Of each MoE layer: its index, chosen experts and their weights, `[rows, slots]`.
    layers: Vec<(usize, Tensor, Tensor)>,
    /// `[outputs, CANDIDATES]`
    pub ids: Tensor,
    /// `[outputs, 1 + CANDIDATES]`
    pub shares: Tensor,
    top_k: usize,
}

/// What was seen of one token's step.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    /// Probability of the token, by a softmax at temperature 1 over the ids that may be sampled.
    pub probability: f32,
    /// The likeliest ids and their probabilities, best first.
    pub candidates: Vec<(u32, f32)>,
    /// Of each MoE layer: its index, the routed experts ascending, and their weights.
    pub layers: Vec<(usize, Vec<(u32, f32)>)>,
}

impl Watch {
    pub fn new(model: &Model, rows: usize, outputs: usize) -> Result<Self, ModelError> {
        let (gpu, config) = (model.gpu(), model.config());
        let layer = |layer: usize| {
            let [chosen, weights] = choices(gpu, config, rows, model.slots(layer))?;
            Ok::<_, ModelError>((layer, chosen, weights))
        };
        Ok(Self {
            layers: (0..config.layers).filter(|&i| model.slots(i) > 0).map(layer).collect::<Result<_, _>>()?,
            ids: gpu.zeros_u32("candidates", &[outputs, CANDIDATES])?,
            shares: gpu.zeros("candidates", &[outputs, 1 + CANDIDATES])?,
            top_k: config.moe.as_ref().map_or(0, |moe| moe.top_k),
        })
    }

    /// Where a layer's router writes.
    pub fn routing(&self, layer: usize) -> Option<(&Tensor, &Tensor)> {
        self.layers.iter().find(|(at, ..)| *at == layer).map(|(_, chosen, weights)| (chosen, weights))
    }

    /// The runs of bytes that tell of the first output, which is `row` of the step.
    pub fn runs(&self, row: usize) -> Vec<(&Tensor, u64, u64)> {
        let bytes = 4 * self.top_k as u64;
        let routing = self.layers.iter().flat_map(|(_, chosen, weights)| [chosen, weights]);
        let routing = routing.map(|kept| (kept, (4 * row * kept.shape[1]) as u64, bytes));
        [(&self.shares, 0, 4 * (1 + CANDIDATES as u64)), (&self.ids, 0, 4 * CANDIDATES as u64)].into_iter().chain(routing).collect()
    }

    /// What the words of [`Self::runs`] say.
    pub fn seen(&self, words: &[u32]) -> Seen {
        let (shares, rest) = words.split_at(1 + CANDIDATES);
        let (ids, routing) = rest.split_at(CANDIDATES);
        let pairs = |ids: &[u32], numbers: &[u32]| ids.iter().zip(numbers).map(|(&id, &bits)| (id, f32::from_bits(bits))).collect();
        let mut candidates: Vec<_> = pairs(ids, &shares[1..]);
        candidates.retain(|&(id, _)| id != NO_CANDIDATE);
        let kept = routing.chunks(2 * self.top_k.max(1)).map(|layer| layer.split_at(self.top_k));
        Seen {
            probability: f32::from_bits(shares[0]),
            candidates,
            layers: self.layers.iter().zip(kept).map(|((layer, ..), (ids, weights))| (*layer, pairs(ids, weights))).collect(),
        }
    }
}
