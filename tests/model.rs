//! Whole models against golden data from transformers and against the f64 reference: logits, hidden states, routing, greedy text,
//! on every tier, however the prompt is cut.

mod support;

use fathom::checkpoint::Checkpoint;
use fathom::gpu::{Disabled, Feature, Gpu, GpuOptions};
use fathom::kernels::{CacheFormat, Job, Lanes};
use fathom::model::{Model, ModelError};
use fathom::sampler::Sampling;
use fathom::session::{Runtime, RuntimeOptions, Traced};
use pollster::block_on;
use std::path::Path;
use std::sync::Arc;
use support::golden::{self, Golden};
use support::reference::Reference;
use support::zoo;

/// The full adapter, the same with buffers as on a real GPU, and the core tier, which has neither subgroups nor f16.
fn tiers() -> Vec<(&'static str, Gpu)> {
    let open = |disabled| block_on(Gpu::open(&GpuOptions { disabled, ..Default::default() })).unwrap();
    vec![
        ("full", open(Disabled::default())),
        ("buffers", open(Disabled(vec![Feature::Images]))),
        ("core", open(Disabled(vec![Feature::Subgroups, Feature::F16]))),
    ]
}

/// Products of many rows in cooperative matrices, where the adapter has any: Mesa 26's lavapipe does, Mesa 25.0's does not.
fn in_matrices() -> Option<Gpu> {
    let disabled = Disabled(vec![Feature::Images]);
    let gpu = block_on(Gpu::open(&GpuOptions { disabled, ..Default::default() })).unwrap();
    let lanes = Lanes::candidates(Job::Tiles, gpu.caps()).into_iter().find(|lanes| lanes.coop.is_some())?.to_string();
    for kernel in ["matmul", "ffn_up_tiled", "ffn_down_tiled"] {
        gpu.choose(kernel, Some(lanes.clone()));
    }
    Some(gpu)
}

fn load(gpu: &Gpu, dir: &Path) -> Arc<Model> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    block_on(Model::load(gpu, &checkpoint, &mut |_| {})).unwrap()
}

fn options(chunk: usize) -> RuntimeOptions {
    RuntimeOptions { context: 128, chunk, trace: true, cache: CacheFormat::F32, ..Default::default() }
}

#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let worst = got.iter().zip(want).map(|(g, w)| if g.is_finite() { (g - w).abs() } else { f32::INFINITY }).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst}, allowed {tolerance}");
}

/// Feeds `ids` in chunks and gathers logits and, from each step's trace, hidden states and routing in row order.
fn run(model: &Arc<Model>, ids: &[u32], chunk: usize) -> (Vec<f32>, Traced) {
    let mut runtime = Runtime::new(model.clone(), options(chunk)).unwrap();
    let mut session = runtime.session().unwrap();
    let layers = model.config().layers;
    let (mut logits, mut all) =
        (vec![], Traced { hidden: vec![vec![]; layers + 1], chosen: vec![vec![]; layers], weights: vec![vec![]; layers] });
    for part in ids.chunks(chunk) {
        logits.extend(block_on(runtime.logits(&mut session, part)).unwrap());
        let traced = block_on(runtime.traced(part.len())).unwrap().unwrap();
        all.hidden.iter_mut().zip(traced.hidden).for_each(|(all, part)| all.extend(part));
        all.chosen.iter_mut().zip(traced.chosen).for_each(|(all, part)| all.extend(part));
        all.weights.iter_mut().zip(traced.weights).for_each(|(all, part)| all.extend(part));
    }
    (logits, all)
}

fn generate(model: &Arc<Model>, ids: &[u32], count: usize, chunk: usize) -> Vec<u32> {
    let mut runtime = Runtime::new(model.clone(), RuntimeOptions { trace: false, ..options(chunk) }).unwrap();
    let mut session = runtime.session().unwrap();
    assert!(block_on(runtime.begin(&mut session, ids, &Sampling::default(), &mut |_, _| true)).unwrap());
    (0..count).map(|_| block_on(runtime.next(&mut session)).unwrap()).collect()
}

#[test]
fn golden_checkpoints_agree_on_every_tier_however_the_prompt_is_cut() {
    for (tier, gpu) in tiers() {
        for name in golden::NAMES {
            let dir = golden::dir(name);
            let want = Golden::read(&dir);
            let model = load(&gpu, &dir);
            for chunk in [want.input_ids.len(), 7, 1] {
                let at = |what: &str| format!("{name} ({tier}, chunks of {chunk}) {what}");
                let (logits, traced) = run(&model, &want.input_ids, chunk);
                close(&at("logits"), &logits, &want.logits, 1e-3);
                for (i, hidden) in want.hidden.iter().enumerate() {
                    close(&at(&format!("hidden {i}")), &traced.hidden[i], hidden, 1e-3);
                }
                for (&layer, router) in &want.routers {
                    let count = traced.chosen[layer].len();
                    assert_eq!(traced.chosen[layer], router.indices[..count], "{}", at(&format!("choices of layer {layer}")));
                    let largest = router.weights.iter().fold(1.0f32, |a, &b| a.max(b));
                    close(&at(&format!("weights of layer {layer}")), &traced.weights[layer], &router.weights[..count], 1e-5 * largest);
                }
            }
            assert_eq!(generate(&model, &want.input_ids, want.greedy_ids.len(), 48), want.greedy_ids, "{name} ({tier}): greedy ids");
            assert_eq!(generate(&model, &want.input_ids, 8, 7), want.greedy_ids[..8], "{name} ({tier}): greedy ids after chunks of 7");
        }
    }
}

/// A rounded past may tip the choice between two experts that are near each other, and with it a row: most rows must stay near.
#[test]
fn smaller_caches_stay_near_the_golden_logits() {
    let (_, gpu) = tiers().remove(0);
    for (cache, most) in [(CacheFormat::F16, 0.002), (CacheFormat::Q8, 0.05)] {
        for name in golden::NAMES {
            stays_near(&gpu, name, &format!("{cache}"), RuntimeOptions { cache, ..options(7) }, most);
        }
    }
}

/// Logits of a prompt in one chunk of many rows, its weights and activations rounded to half precision.
#[test]
fn products_in_matrices_stay_near_the_golden_logits() {
    let Some(gpu) = in_matrices() else {
        eprintln!("skipped: the adapter has no cooperative matrices");
        return;
    };
    for name in golden::NAMES {
        stays_near(&gpu, name, "in matrices", options(64), 0.005);
    }
}

fn stays_near(gpu: &Gpu, name: &str, what: &str, options: RuntimeOptions, most: f32) {
    let dir = golden::dir(name);
    let want = Golden::read(&dir);
    let model = load(gpu, &dir);
    let mut runtime = Runtime::new(model.clone(), options).unwrap();
    let mut session = runtime.session().unwrap();
    let logits = block_on(runtime.logits(&mut session, &want.input_ids)).unwrap();
    let vocab = model.config().vocab_size;
    let off = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let mut rows: Vec<f32> = logits.chunks(vocab).zip(want.logits.chunks(vocab)).map(off).collect();
    rows.sort_by(f32::total_cmp);
    let (middle, worst) = (rows[rows.len() / 2], rows[rows.len() - 1]);
    let largest = want.logits.iter().fold(0f32, |a, b| a.max(b.abs()));
    println!("{name}, {what}: rows off by {middle} (the middle one) and {worst} (the worst) of logits up to {largest}");
    assert!(middle <= most * largest, "{name}, {what}: the middle row is off by {middle} of logits up to {largest}");
}

#[test]
fn a_zoo_of_random_models_agrees_with_the_reference() {
    let (_, gpu) = tiers().remove(0);
    let mut wrong = vec![];
    for (name, tiny) in zoo::zoo() {
        let dir = tempfile::tempdir().unwrap();
        tiny.write(dir.path());
        let prompt = tiny.prompt(tiny.seed, zoo::PROMPT);
        let want = Reference::load(dir.path()).forward(&prompt);
        let check = || {
            let model = load(&gpu, dir.path());
            let (logits, traced) = run(&model, &prompt, prompt.len());
            close("logits", &logits, &flat(&want.logits), 1e-3);
            for (&layer, router) in &want.routers {
                assert_eq!(traced.chosen[layer], router.indices, "choices of layer {layer}");
            }
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err() {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn flat(rows: &[f64]) -> Vec<f32> {
    rows.iter().map(|&v| v as f32).collect()
}

#[test]
fn the_check_refuses_a_wrong_answer() {
    let close_enough = |value: f32| std::panic::catch_unwind(|| close("probe", &[value], &[1.0], 1e-3)).is_ok();
    assert!(close_enough(1.0005));
    assert!(!close_enough(1.002));
    assert!(!close_enough(f32::NAN));
}

#[test]
fn errors_are_errors() {
    let (_, gpu) = tiers().remove(0);
    let model = load(&gpu, &golden::dir("v2lite"));
    let mut runtime = Runtime::new(model, RuntimeOptions { context: 64, ..Default::default() }).unwrap();
    let mut session = runtime.session().unwrap();
    assert!(matches!(block_on(runtime.logits(&mut session, &[320])), Err(ModelError::UnknownToken { id: 320, vocab: 320 })));
    assert!(matches!(block_on(runtime.prefill(&mut session, &[0; 65], &mut |_, _| true)), Err(ModelError::ContextFull { needed: 65, .. })));
    assert!(matches!(block_on(runtime.prefill(&mut session, &[], &mut |_, _| true)), Err(ModelError::Empty)));
    assert!(matches!(runtime.session(), Err(ModelError::NoSequence(1))));
}
