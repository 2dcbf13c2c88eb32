//! The embedded default against the original Llama in transformers (`golden/default_model.json`).

use fathom::checkpoint::Checkpoint;
use fathom::gpu::{Gpu, GpuOptions};
use fathom::kernels::CacheFormat;
use fathom::model::Model;
use fathom::sampler::Sampling;
use fathom::session::{Runtime, RuntimeOptions};
use pollster::block_on;
use std::path::Path;

/// Below this gap between the two best logits the original itself chooses by rounding.
const DECIDED: f64 = 0.05;

#[test]
fn answers_and_logits_are_the_originals() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("assets/smollm2-135m-instruct-q4_1.gguf");
    assert!(file.exists(), "{} is missing: `make setup` fetches it", file.display());
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(root.join("tests/golden/default_model.json")).unwrap()).unwrap();
    let gpu = block_on(Gpu::open(&GpuOptions::default())).unwrap();
    let model = block_on(Model::load(&gpu, &Checkpoint::open(&file).unwrap(), &mut |_| {})).unwrap();
    for cache in [CacheFormat::F32, CacheFormat::F16] {
        let mut runtime = Runtime::new(model.clone(), RuntimeOptions { context: 256, cache, ..Default::default() }).unwrap();
        check(&golden, &mut runtime);
    }
}

fn check(golden: &serde_json::Value, runtime: &mut Runtime) {
    for case in golden.as_array().unwrap() {
        let ids = |key: &str| -> Vec<u32> { case[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect() };
        let (prompt, want) = (ids("input_ids"), ids("output_ids"));
        let gaps: Vec<f64> = case["margins"].as_array().unwrap().iter().map(|gap| gap.as_f64().unwrap()).collect();
        let decided = gaps.iter().position(|&gap| gap < DECIDED).unwrap_or(want.len());

        let mut session = runtime.session().unwrap();
        block_on(runtime.prefill(&mut session, &prompt[..prompt.len() - 1], &mut |_, _| true)).unwrap();
        let logits = block_on(runtime.logits(&mut session, &prompt[prompt.len() - 1..])).unwrap();
        for pair in case["first_logits_top5"].as_array().unwrap() {
            let (id, logit) = (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap());
            assert!((f64::from(logits[id]) - logit).abs() < 0.02, "logit of {id}: expected {logit}, found {}", logits[id]);
        }
        runtime.release(session);

        let mut session = runtime.session().unwrap();
        block_on(runtime.begin(&mut session, &prompt, &Sampling::default(), &mut |_, _| true)).unwrap();
        let start = std::time::Instant::now();
        let got: Vec<u32> = (0..decided).map(|_| block_on(runtime.next(&mut session)).unwrap()).collect();
        eprintln!("{:.2} tokens/s", decided as f64 / start.elapsed().as_secs_f64());
        assert_eq!(got, want[..decided], "{}", case["prompt"]);
        runtime.release(session);
    }
}
