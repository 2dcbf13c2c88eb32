//! What a decoded token costs, by its plan: dispatches a layer, and bytes against the least that any engine has to move.

use fathom::checkpoint::{Scale, WeightFormat};
use fathom::gpu::{Gpu, GpuOptions, StepPlan};
use fathom::kernels::{CacheFormat, PAGE};
use fathom::model::{Model, ModelConfig};
use fathom::session::{Runtime, RuntimeOptions};
use pollster::block_on;

const FORMAT: WeightFormat = WeightFormat::Affine { bits: 4, group: 64, scale: Scale::F16 };

fn decode_plan(config: ModelConfig) -> Vec<StepPlan> {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).unwrap();
    let model = block_on(Model::random(&gpu, config, FORMAT, 1, &mut |_| {})).unwrap();
    let mut runtime = Runtime::new(model, RuntimeOptions { context: 128, ..Default::default() }).unwrap();
    runtime.decode_plan().unwrap().plan().cloned().collect()
}

/// Weights that one token needs, and a page of every layer's cache.
fn least_bytes(config: &ModelConfig) -> f64 {
    let (d, heads, c) = (config.hidden, config.heads, config.kv_lora_rank);
    let q = heads * (config.nope + config.rope);
    let query = config.q_lora_rank.map_or(d * q, |rank| rank * (d + q));
    let attention = query + d * (c + config.rope) + c * heads * (config.nope + config.v_dim) + heads * config.v_dim * d;
    let ffn = |layer: usize| match &config.moe {
        Some(moe) if config.is_moe(layer) => moe.experts * d + 3 * d * (moe.top_k * moe.width + moe.shared_width),
        _ => 3 * d * config.intermediate,
    };
    let numbers: usize = (0..config.layers).map(|layer| attention + ffn(layer)).sum::<usize>() + config.vocab_size * d;
    numbers as f64 * FORMAT.bits_per_weight() / 8.0 + (PAGE as u64 * config.cache_bytes_per_token(CacheFormat::default())) as f64
}

#[test]
fn a_moe_layer_is_eight_dispatches_and_bytes_are_near_the_least() {
    let config = ModelConfig::named_shape("small").unwrap();
    let steps = decode_plan(config.clone());
    for layer in 0..config.layers {
        let count = steps.iter().filter(|step| step.place == format!("layer {layer}")).count();
        assert!((1..=8).contains(&count), "layer {layer}: {count} dispatches");
    }
    let moved: u64 = steps.iter().map(|step| step.read_bytes + step.written_bytes).sum();
    let least = least_bytes(&config);
    let ratio = moved as f64 / least;
    println!("{moved} bytes, the least is {least:.0}: {ratio:.3}");
    assert!((1.0..=1.1).contains(&ratio), "{moved} bytes moved, {ratio:.3} of the least");
}
