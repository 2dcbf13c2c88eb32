//! Named tiny models that between them take every branch of the family and every awkward size.
//!
//! Each seed was found by `search_seeds` in `tests/reference.rs`, so that routing and greedy choices are decided by
//! more than the rounding of f32.

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::reference::Reference;
use super::tiny::{Experts, Storage, Tiny, yarn};

/// Tokens of the prompt and after it whose choices are known to be clear.
pub const PROMPT: usize = 24;
pub const NEW: usize = 8;
/// The least gap in any router, and between the two best logits.
pub const ROUTER_MARGIN: f64 = 1e-4;
pub const GREEDY_GAP: f64 = 5e-3;

/// The smallest router margin and greedy gap over the seed's prompt and the tokens that follow.
pub fn margins(reference: &Reference, prompt: &[u32]) -> (f64, f64) {
    let (new, greedy_gap) = reference.greedy(prompt, NEW);
    let forward = reference.forward(&[prompt, &new[..NEW - 1]].concat());
    let routers = forward.routers.values().flat_map(|router| &router.margin);
    (routers.copied().fold(f64::INFINITY, f64::min), greedy_gap)
}

/// Every model, by a name that says what is special about it.
pub fn zoo() -> Vec<(String, Tiny)> {
    let entries = [shapes(), routers(), rotaries(), storages()].into_iter().flatten();
    entries.map(|(name, seed, tiny)| (name.to_owned(), Tiny { seed, ..tiny })).collect()
}

type Entry = (&'static str, u64, Tiny);

fn shapes() -> Vec<Entry> {
    vec![
        ("one-head", 1, Tiny { heads: 1, hidden: 72, ..Tiny::v3() }),
        (
            "three-heads-odd-widths",
            1,
            Tiny {
                heads: 3,
                hidden: 100,
                q_lora: Some(36),
                kv_lora: 40,
                nope: 24,
                rope: 4,
                value: 12,
                intermediate: 100,
                moe_intermediate: 36,
                vocab: 131,
                ..Tiny::v3()
            },
        ),
        (
            "five-heads-odd-widths",
            1,
            Tiny {
                heads: 5,
                hidden: 72,
                kv_lora: 50,
                nope: 10,
                rope: 12,
                value: 20,
                intermediate: 76,
                moe_intermediate: 44,
                vocab: 97,
                ..Tiny::moonlight()
            },
        ),
        ("six-heads-v2-lite", 1, Tiny { heads: 6, hidden: 100, kv_lora: 40, value: 20, ..Tiny::v2_lite() }),
        ("nine-heads", 1, Tiny { heads: 9, hidden: 72, nope: 8, rope: 8, value: 8, ..Tiny::v3() }),
        ("three-dense", 1, Tiny { layers: 5, first_dense: 3, ..Tiny::v3() }),
        ("two-dense-v2", 11, Tiny { layers: 4, first_dense: 2, ..Tiny::v2() }),
        ("no-dense", 1, Tiny { layers: 2, first_dense: 0, ..Tiny::v3() }),
        ("moe-every-second", 1, Tiny { layers: 5, moe_every: 2, ..Tiny::v3() }),
        ("all-dense", 2, Tiny { first_dense: 3, ..Tiny::v3() }),
        ("no-experts-null", 1, Tiny { experts: 0, shared: None, ..Tiny::v2_lite() }),
        ("tied", 2, Tiny { tie: true, ..Tiny::v3() }),
        ("q-low-rank-bias", 1, Tiny { attention_bias: true, ..Tiny::v3() }),
        ("q-null-bias", 2, Tiny { attention_bias: true, heads: 3, ..Tiny::moonlight() }),
        (
            "nope-zero",
            1,
            Tiny { heads: 3, nope: 0, rope: 24, value: 12, first_dense: 0, top_k: 8, attention_bias: true, tie: true, ..Tiny::moonlight() },
        ),
        ("moonlight-eps", 1, Tiny::moonlight()),
        ("mtp-four-shards", 1, Tiny { mtp: 1, shards: 4, ..Tiny::v3() }),
        ("two-shards-v2", 3, Tiny { shards: 2, ..Tiny::v2() }),
    ]
}

fn routers() -> Vec<Entry> {
    let sized = |hidden, moe_intermediate, tiny| Tiny { hidden, moe_intermediate, ..tiny };
    vec![
        ("experts-7-top-1", 2, Tiny { experts: 7, top_k: 1, groups: (1, 1), ..Tiny::v3() }),
        ("experts-13-top-all", 1, Tiny { experts: 13, top_k: 13, groups: (1, 1), ..Tiny::v3() }),
        ("experts-7-top-all-v2", 1, Tiny { experts: 7, top_k: 7, ..Tiny::v2_lite() }),
        ("experts-64-top-3-v2", 5, Tiny { experts: 64, top_k: 3, ..sized(40, 20, Tiny::v2_lite()) }),
        ("experts-160-grouped-v2", 12, Tiny { experts: 160, top_k: 6, groups: (8, 3), layers: 2, ..sized(40, 12, Tiny::v2()) }),
        ("experts-256-top-8", 1, Tiny { experts: 256, top_k: 8, groups: (8, 4), layers: 2, ..sized(44, 12, Tiny::v3()) }),
        ("experts-256-top-1-ungrouped", 1, Tiny { experts: 256, top_k: 1, groups: (1, 1), layers: 2, ..sized(40, 8, Tiny::v3()) }),
        ("kept-group-exactly-full", 1, Tiny { experts: 12, top_k: 6, groups: (4, 2), ..Tiny::v3() }),
        ("grouped-v2-4-of-6", 7, Tiny { experts: 30, groups: (6, 4), top_k: 8, ..Tiny::v2() }),
        ("no-shared-null", 1, Tiny { shared: None, ..Tiny::v3() }),
        ("no-shared-zero", 1, Tiny { shared: Some(0), ..Tiny::v2_lite() }),
        ("three-shared", 1, Tiny { shared: Some(3), moe_intermediate: 20, ..Tiny::v3() }),
        ("no-renormalise", 1, Tiny { norm_topk_prob: false, ..Tiny::v3() }),
        // transformers ignores the flag for V2.
        ("norm-topk-prob-v2", 1, Tiny { norm_topk_prob: true, routed_scaling: 2.0, ..Tiny::v2_lite() }),
    ]
}

fn rotaries() -> Vec<Entry> {
    let kimi = || {
        let mut scaling = yarn(32.0, 4096, Some((1.0, 1.0)));
        scaling["beta_fast"] = json!(1.0);
        let routed_scaling = 2.827;
        Tiny { model_type: "kimi_k2", rope_theta: 50000.0, groups: (1, 1), routed_scaling, ..Tiny::v3() }.with_rope(scaling, 131_072)
    };
    let with_attention_factor = |mut scaling: Value| {
        scaling["attention_factor"] = json!(1.2);
        scaling
    };
    // The long factors are wrong on purpose: a model no longer than its original length never uses them.
    let longrope = |rope: usize, attention_factor: Option<f64>| {
        let factors = |grow: f64| (0..rope / 2).map(|i| 1.0 + grow * i as f64).collect::<Vec<_>>();
        let mut scaling = json!({
            "rope_type": "longrope",
            "short_factor": factors(0.3),
            "long_factor": factors(7.0),
            "original_max_position_embeddings": 8192,
            "factor": 4.0,
        });
        if let Some(factor) = attention_factor {
            scaling["attention_factor"] = factor.into();
        }
        scaling
    };
    let v5 = |tiny: Tiny| Tiny { config_v5: true, ..tiny };
    vec![
        ("yarn-unequal-mscale", 1, Tiny::v3().with_rope(yarn(40.0, 4096, Some((1.0, 0.5))), 163_840)),
        ("yarn-unequal-mscale-v2", 4, Tiny::v2().with_rope(yarn(40.0, 4096, Some((1.0, 0.5))), 163_840)),
        ("yarn-without-mscale", 1, v5(Tiny::v3().with_rope(yarn(4.0, 16, None), 64))),
        ("yarn-attention-factor", 1, Tiny::v3().with_rope(with_attention_factor(yarn(40.0, 16, None)), 640)),
        ("kimi-k2", 1, kimi()),
        ("plain-v5-config", 1, v5(Tiny::moonlight())),
        ("half-split-pairs", 1, Tiny { rope_interleave: false, rope: 12, ..Tiny::moonlight() }),
        ("half-split-pairs-yarn", 1, Tiny { rope_interleave: false, ..Tiny::v3() }),
        ("longrope", 1, Tiny::v3().with_rope(longrope(8, Some(1.0)), 8192)),
        ("longrope-v5-config", 1, v5(Tiny { rope: 12, ..Tiny::v3() }.with_rope(longrope(12, Some(1.1)), 8192))),
        ("longrope-own-factor", 1, Tiny::v3().with_rope(longrope(8, None), 8192)),
    ]
}

fn storages() -> Vec<Entry> {
    let affine = |bits, group, dtype| Storage::Affine { bits, group, dtype };
    let switch = |storage, tiny| Tiny { storage, expert_layout: Experts::Switch, ..tiny };
    let wide = || Tiny { layers: 2, q_lora: Some(128), ..widened(Tiny::v3()) };
    vec![
        ("f32", 1, Tiny { storage: Storage::F32, ..Tiny::v3() }),
        ("f16-odd-widths", 1, Tiny { storage: Storage::F16, hidden: 100, moe_intermediate: 36, ..Tiny::v2_lite() }),
        (
            "fp8-partial-blocks",
            1,
            Tiny {
                storage: Storage::Fp8,
                hidden: 200,
                heads: 3,
                q_lora: Some(136),
                kv_lora: 144,
                nope: 24,
                rope: 12,
                value: 20,
                intermediate: 264,
                moe_intermediate: 136,
                layers: 2,
                ..Tiny::v3()
            },
        ),
        (
            "fp8-v2-small-blocks",
            1,
            Tiny { storage: Storage::Fp8, hidden: 132, kv_lora: 130, moe_intermediate: 36, shards: 3, ..Tiny::v2_lite() },
        ),
        ("affine4-group32", 3, switch(affine(4, 32, Dtype::BF16), Tiny::v3())),
        ("affine8-group32-f16", 4, switch(affine(8, 32, Dtype::F16), Tiny { heads: 4, q_lora: Some(32), ..Tiny::v2() })),
        ("affine4-group64", 1, switch(affine(4, 64, Dtype::F16), Tiny { hidden: 128, moe_intermediate: 64, ..Tiny::moonlight() })),
        ("affine8-group64", 1, Tiny { storage: affine(8, 64, Dtype::BF16), ..wide() }),
        ("affine4-group128", 1, switch(affine(4, 128, Dtype::BF16), wide())),
        ("affine8-group128-v2", 1, switch(affine(8, 128, Dtype::BF16), Tiny { layers: 2, ..widened(Tiny::v2_lite()) })),
        // Widths the group does not divide stay bf16, tensor by tensor.
        ("affine4-partly", 1, switch(affine(4, 32, Dtype::BF16), Tiny { moe_intermediate: 36, kv_lora: 40, shards: 2, ..Tiny::v3() })),
        ("affine8-tied", 1, switch(affine(8, 32, Dtype::BF16), Tiny { tie: true, ..Tiny::v3() })),
        ("switch-bf16", 1, switch(Storage::Bf16, Tiny::v3())),
        ("fused-bf16", 1, Tiny { expert_layout: Experts::Fused, config_v5: true, ..Tiny::v3() }),
        ("fused-f32-v2", 25, Tiny { expert_layout: Experts::Fused, storage: Storage::F32, ..Tiny::v2() }),
    ]
}

/// Widths that groups of 128 divide.
fn widened(tiny: Tiny) -> Tiny {
    Tiny { hidden: 128, heads: 4, kv_lora: 128, value: 32, intermediate: 256, moe_intermediate: 128, ..tiny }
}
