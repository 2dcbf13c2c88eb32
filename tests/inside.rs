//! What an engine tells of its inside, against golden data and its own logits; and that telling changes nothing.

mod support;
#[path = "support/talking.rs"]
mod talking;

use std::path::Path;
use std::time::Instant;

use fathom::checkpoint::{Checkpoint, Scale, WeightFormat};
use fathom::engine::{Cancel, Engine, Event, Input, OpenOptions, Request, StopReason, Summary, TokenInside};
use fathom::gpu::{Disabled, Feature, Gpu, GpuOptions};
use fathom::kernels::CacheFormat;
use fathom::model::{Model, ModelConfig};
use fathom::sampler::Sampling;
use fathom::session::{Runtime, RuntimeOptions};
use pollster::block_on;
use support::golden::{self, Golden};

fn open(model: &Path, chunk: usize) -> Engine {
    let model = Some(model.to_path_buf());
    let options = OpenOptions { model, context: Some(128), chunk: Some(chunk), cache: CacheFormat::F32, ..OpenOptions::default() };
    block_on(Engine::open(options, &mut |_| ())).unwrap()
}

fn ids(ids: &[u32], max_tokens: usize, watch: bool) -> Request {
    Request { max_tokens: Some(max_tokens), ignore_eos: true, watch, ..Request::new(Input::Ids(ids.to_vec())) }
}

fn run(engine: &mut Engine, request: Request) -> (Summary, Vec<TokenInside>) {
    let mut seen = vec![];
    let mut last_token = None;
    let mut on_event = |event| match event {
        Event::Token(id) => last_token = Some(id),
        Event::Inside(inside) => {
            assert_eq!(last_token, Some(inside.id), "told right after its token");
            seen.push(inside);
        }
        _ => {}
    };
    let summary = block_on(engine.run(request, &Cancel::default(), &mut on_event)).unwrap();
    (summary, seen)
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(logit.into()));
    let weights: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Candidates fall, and they and the token itself have the probabilities that these logits give.
#[track_caller]
fn check_probabilities(inside: &TokenInside, logits: &[f32], tolerance: f64) {
    let truth = softmax(logits);
    let off = |id: u32, probability: f32| (f64::from(probability) - truth[id as usize]).abs();
    assert!(off(inside.id, inside.probability) <= tolerance, "{inside:?}");
    assert_eq!(inside.candidates.len(), 5);
    let sum: f32 = inside.candidates.iter().map(|candidate| candidate.probability).sum();
    assert!(sum > 0.0 && sum < 1.0, "{sum}");
    let mut ranked = truth.clone();
    ranked.sort_by(|a, b| b.total_cmp(a));
    for (candidate, right) in inside.candidates.iter().zip(ranked) {
        assert!(off(candidate.id, candidate.probability) <= tolerance, "{candidate:?}");
        assert!((f64::from(candidate.probability) - right).abs() <= tolerance, "{candidate:?} in the place of {right}");
    }
}

/// What the routers of a step that computed the token after row `row` chose.
#[track_caller]
fn check_routing(layers: &[(usize, Vec<(u32, f32)>)], want: &Golden, top_k: usize, row: usize, what: &str) {
    assert_eq!(layers.iter().map(|(layer, _)| *layer).collect::<Vec<_>>(), want.routers.keys().copied().collect::<Vec<_>>(), "{what}");
    for (layer, chosen) in layers {
        let router = &want.routers[layer];
        let largest = router.weights.iter().fold(1.0f32, |a, &b| a.max(b));
        let (experts, weights): (Vec<u32>, Vec<f32>) = chosen.iter().copied().unzip();
        assert_eq!(experts, router.indices[row * top_k..][..top_k], "{what}: experts of layer {layer}");
        for (got, want) in weights.iter().zip(&router.weights[row * top_k..][..top_k]) {
            assert!((got - want).abs() <= 1e-5 * largest, "{what}: weight {got} in layer {layer}, expected {want}");
        }
    }
}

#[test]
fn routing_is_that_of_the_golden_checkpoints() {
    for disabled in [&[][..], &[Feature::Images], &[Feature::Subgroups, Feature::F16]] {
        let options = GpuOptions { disabled: Disabled(disabled.to_vec()), ..GpuOptions::default() };
        let gpu = block_on(Gpu::open(&options)).unwrap();
        // Compiling takes most of the time: all of the family on one tier, then one model on the others.
        let names = if disabled.is_empty() { &golden::NAMES[..] } else { &["v3"] };
        for &name in names {
            let want = Golden::read(&golden::dir(name));
            let model = block_on(Model::load(&gpu, &Checkpoint::open(&golden::dir(name)).unwrap(), &mut |_| {})).unwrap();
            let top_k = model.config().moe.as_ref().unwrap().top_k;
            for chunk in [48, 7] {
                let mut runtime =
                    Runtime::new(model.clone(), RuntimeOptions { context: 128, chunk, cache: CacheFormat::F32, ..Default::default() })
                        .unwrap();
                let mut session = runtime.session().unwrap();
                runtime.watch(&mut session, true).unwrap();
                block_on(runtime.begin(&mut session, &want.input_ids, &Sampling::default(), &mut |_, _| true)).unwrap();
                for (i, &right) in want.greedy_ids.iter().enumerate() {
                    let (id, seen) = block_on(runtime.next_seen(&mut session)).unwrap();
                    assert_eq!(id, right, "{name}: id {i}");
                    let what = format!("{name} ({disabled:?} off), chunks of {chunk}, token {i}");
                    check_routing(&seen.unwrap().layers, &want, top_k, want.input_ids.len() - 1 + i, &what);
                }
            }
        }
    }
}

#[test]
fn an_engine_tells_what_the_golden_checkpoint_knows() {
    let want = Golden::read(&golden::dir("v3"));
    let (prompt, count) = (&want.input_ids, want.greedy_ids.len());
    let mut engine = open(&golden::dir("v3"), 7);
    let (unwatched, nothing) = run(&mut engine, ids(prompt, count, false));
    assert_eq!((&unwatched.ids, nothing.len()), (&want.greedy_ids, 0));
    let (watched, seen) = run(&mut engine, ids(prompt, count, true));
    assert_eq!(watched.ids, want.greedy_ids);
    assert_eq!(seen.iter().map(|inside| inside.id).collect::<Vec<_>>(), want.greedy_ids);
    for (i, inside) in seen.iter().enumerate() {
        check_probabilities(inside, &want.greedy_logits[i * want.vocab..][..want.vocab], 1e-3);
        let layers: Vec<_> = inside.layers.iter().map(|layer| (layer.layer, layer.experts.clone())).collect();
        check_routing(&layers, &want, engine.inside().top_k, prompt.len() - 1 + i, "v3");
        let confidence = inside.layers[0].confidence();
        assert!((0.0..=1.0).contains(&confidence), "{confidence}");
    }
}

#[test]
fn probabilities_are_those_of_the_logits_and_draws_stay_the_same() {
    let mut engine = open(&golden::dir("v3"), 48);
    let prompt: Vec<u32> = (3..20).collect();
    let sampling = Sampling { temperature: 3.0, top_k: 60, seed: 5, ..Sampling::default() };
    let (watched, seen) = run(&mut engine, Request { sampling, ..ids(&prompt, 30, true) });
    let (unwatched, _) = run(&mut engine, Request { sampling, ..ids(&prompt, 30, false) });
    assert_eq!(watched.ids, unwatched.ids);
    let vocab = engine.config().vocab_size;
    let logits = block_on(engine.logits(&[prompt.as_slice(), &watched.ids].concat())).unwrap();
    for (i, inside) in seen.iter().enumerate() {
        check_probabilities(inside, &logits[(prompt.len() - 1 + i) * vocab..][..vocab], 1e-5);
    }
    let drawn_elsewhere = |inside: &TokenInside| inside.candidates.iter().all(|candidate| candidate.id != inside.id);
    assert!(seen.iter().any(drawn_elsewhere), "a hot draw leaves the candidates now and then");
}

#[test]
fn tokens_know_their_text_and_its_place() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), 48);
    let request = Request { max_tokens: Some(40), ignore_eos: true, watch: true, ..Request::new(Input::Text("Hello".into())) };
    let (summary, seen) = run(&mut engine, request);
    let mut begin = 0;
    for inside in &seen {
        let completed = &summary.text[begin..inside.answer_end];
        assert!(
            completed.is_empty() || completed.contains(&inside.text) || inside.text.contains('\u{FFFD}'),
            "{completed:?} of {inside:?}"
        );
        assert!(inside.candidates.iter().all(|candidate| candidate.id < talking::TOKENS && !candidate.text.is_empty()), "{inside:?}");
        begin = inside.answer_end;
    }
    assert!(begin > 0 && seen.len() == 40);
    // A control token is no text of the answer, but is told by its name.
    let shown = seen.iter().flat_map(|inside| &inside.candidates).find(|candidate| candidate.id == 1);
    assert!(shown.is_none_or(|eos| eos.text == "<｜end▁of▁sentence｜>"));
}

#[test]
fn a_conversation_may_be_watched_now_and_then() {
    let dir = golden::dir("v2lite");
    let prompt: Vec<u32> = (10..40).collect();
    let mut plain = open(&dir, 8);
    let (first, _) = run(&mut plain, ids(&prompt, 12, false));
    let longer = [prompt.as_slice(), &first.ids].concat();
    let (second, _) = run(&mut plain, ids(&longer, 12, false));

    let mut engine = open(&dir, 8);
    assert_eq!(run(&mut engine, ids(&prompt, 12, true)).0.ids, first.ids);
    // Times of kernels change no conversation, wherever it stands, and the cache keeps it.
    let times = block_on(engine.kernel_times()).unwrap();
    if let Some(times) = &times {
        let dispatches: usize = times.iter().map(|time| time.dispatches).sum();
        assert_eq!(dispatches, engine.decode_plan().unwrap().plan().len());
        assert!(times.is_sorted_by(|a, b| a.secs >= b.secs) && times[0].secs > 0.0);
        assert!(times.iter().all(|time| time.kernel != "top_candidates"), "what is unwatched pays nothing");
    }
    let read = engine.gpu().read_back_bytes();
    let on = run(&mut engine, ids(&longer, 12, false)).0;
    assert_eq!((on.stats.reused_tokens, &on.ids), (prompt.len() + 11, &second.ids));
    // The prompt's end is two chunks; ids run ahead come back, too.
    assert!(engine.gpu().read_back_bytes() - read <= 4 * (12 + 2 + 2));
    let (again, seen) = run(&mut engine, ids(&longer, 12, true));
    assert_eq!((again.ids, seen.len()), (second.ids, 12));

    // Where the context is full, too.
    let mut engine = open(&dir, 8);
    let full: Vec<u32> = (0..120).collect();
    let (end, seen) = run(&mut engine, Request { max_tokens: None, ..ids(&full, 0, true) });
    assert_eq!((end.stop, end.ids.len(), seen.len()), (StopReason::Length, 9, 9));
    block_on(engine.kernel_times()).unwrap();
    let (_, seen) = run(&mut engine, ids(&full, 3, true));
    assert_eq!(seen.len(), 3);
    assert_eq!(seen.iter().map(|inside| inside.id).collect::<Vec<_>>(), end.ids[..3]);

    // A fresh engine has no conversation yet.
    let mut engine = open(&dir, 8);
    block_on(engine.kernel_times()).unwrap();
    assert_eq!(run(&mut engine, ids(&prompt, 12, true)).0.ids, first.ids);
}

#[test]
#[ignore = "measures: run with --nocapture on a quiet machine"]
fn what_watching_costs() {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).unwrap();
    for (shape, tokens) in [("small", 100), ("lite-slice", 20)] {
        let config = ModelConfig::named_shape(shape).unwrap();
        let format = WeightFormat::Affine { bits: 4, group: 64, scale: Scale::F16 };
        let model = block_on(Model::random(&gpu, config, format, 1, &mut |_| {})).unwrap();
        let mut runtime = Runtime::new(model, RuntimeOptions::default()).unwrap();
        let mut session = runtime.session().unwrap();
        let mut rates = [vec![], vec![]];
        for turn in 0..6 {
            runtime.rewind(&mut session, 0);
            runtime.watch(&mut session, turn % 2 == 1).unwrap();
            block_on(runtime.begin(&mut session, &[1, 2, 3], &Sampling::default(), &mut |_, _| true)).unwrap();
            (0..4).for_each(|_| drop(block_on(runtime.next_seen(&mut session)).unwrap()));
            let since = Instant::now();
            (0..tokens).for_each(|_| drop(block_on(runtime.next_seen(&mut session)).unwrap()));
            rates[turn % 2].push(f64::from(tokens) / since.elapsed().as_secs_f64());
        }
        println!("{shape}: {:.1?} tokens a second, watched {:.1?}", rates[0], rates[1]);
    }
}
