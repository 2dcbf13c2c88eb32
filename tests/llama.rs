//! Small random Llama models in GGUF, read as grouped latents, against an f64 reference: head widths that fill blocks and that do
//! not, FFNs that become experts, experts and a shared FFN, or stay dense.

#[allow(dead_code)]
#[path = "../src/checkpoint/testing.rs"]
mod gguf;
mod support;

use fathom::checkpoint::Checkpoint;
use fathom::gpu::{Disabled, Feature, Gpu, GpuOptions};
use fathom::kernels::CacheFormat;
use fathom::model::Model;
use fathom::session::{Runtime, RuntimeOptions};
use gguf::{GgufFile, gguf_string};
use pollster::block_on;
use std::collections::BTreeMap;
use support::reference::{add, dot, rms_norm, softmax};
use support::tiny::Random;

const VOCAB: usize = 40;
const LAYERS: usize = 2;
const EPS: f64 = 1e-5;

#[derive(Clone, Copy, Debug)]
struct Shape {
    hidden: usize,
    heads: usize,
    groups: usize,
    head_dim: usize,
    ffn: usize,
}

/// A matrix by rows, or a vector as one row.
struct Matrix {
    cols: usize,
    numbers: Vec<f32>,
}

type Tensors = BTreeMap<String, Matrix>;

fn random(shape: Shape) -> Tensors {
    let mut random = Random(1);
    let mut tensors = Tensors::new();
    let mut add = |name: String, rows: usize, cols: usize| {
        let numbers = match name.contains("norm") {
            true => (0..cols).map(|_| 1.0 + 0.1 * random.normal()).collect(),
            false => random.matrix(rows, cols, 1.0),
        };
        tensors.insert(name, Matrix { cols, numbers });
    };
    let Shape { hidden, heads, groups, head_dim, ffn } = shape;
    add("token_embd.weight".into(), VOCAB, hidden);
    add("output_norm.weight".into(), 1, hidden);
    for layer in 0..LAYERS {
        let mut add = |name: &str, rows: usize, cols: usize| add(format!("blk.{layer}.{name}.weight"), rows, cols);
        add("attn_norm", 1, hidden);
        add("ffn_norm", 1, hidden);
        add("attn_q", heads * head_dim, hidden);
        add("attn_k", groups * head_dim, hidden);
        add("attn_v", groups * head_dim, hidden);
        add("attn_output", hidden, heads * head_dim);
        add("ffn_gate", ffn, hidden);
        add("ffn_up", ffn, hidden);
        add("ffn_down", hidden, ffn);
    }
    tensors
}

fn file(shape: Shape, tensors: &Tensors) -> GgufFile {
    let [u32_kind, f32_kind, string, array] = [4u32, 6, 8, 9];
    let tokens: Vec<u8> = (0..VOCAB).flat_map(|i| gguf_string(&format!("t{i}"))).collect();
    let tokens = [&string.to_le_bytes()[..], &(VOCAB as u64).to_le_bytes(), &tokens].concat();
    let counts = [
        ("embedding_length", shape.hidden),
        ("block_count", LAYERS),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.groups),
        ("attention.key_length", shape.head_dim),
        ("rope.dimension_count", shape.head_dim),
        ("feed_forward_length", shape.ffn),
        ("context_length", 128),
    ];
    let file = GgufFile::default()
        .value("general.architecture", string, &gguf_string("llama"))
        .value("llama.attention.layer_norm_rms_epsilon", f32_kind, &(EPS as f32).to_le_bytes())
        .value("tokenizer.ggml.tokens", array, &tokens);
    let file = counts.iter().fold(file, |file, (key, count)| file.value(&format!("llama.{key}"), u32_kind, &(*count as u32).to_le_bytes()));
    tensors.iter().fold(file, |file, (name, Matrix { cols, numbers })| {
        let (cols, rows) = (*cols as u64, (numbers.len() / cols) as u64);
        let sizes = if rows == 1 { vec![cols] } else { vec![cols, rows] };
        // Tensors' own numbering: 0 is f32.
        file.tensor(name, 0, &sizes, &numbers.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    })
}

/// Logits after every id, `[ids, VOCAB]`.
fn reference(shape: Shape, tensors: &Tensors, ids: &[u32]) -> Vec<f64> {
    let Shape { hidden, heads, groups, head_dim, .. } = shape;
    let numbers = |name: &str| tensors[name].numbers.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let times = |name: &str, x: &[f64]| -> Vec<f64> { numbers(name).chunks(x.len()).map(|row| dot(row, x)).collect() };
    let norm = |name: &str, x: &[f64]| rms_norm(x, &numbers(name), EPS);
    let turned = |x: &[f64], position: usize| -> Vec<f64> {
        let pair = |(i, pair): (usize, &[f64])| {
            let frequency = 10000f64.powf(-2.0 * (i % (head_dim / 2)) as f64 / head_dim as f64);
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            [pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin]
        };
        x.chunks(2).enumerate().flat_map(pair).collect()
    };
    let mut past: Vec<Vec<(Vec<f64>, Vec<f64>)>> = vec![vec![]; LAYERS];
    let mut logits = vec![];
    for (position, &id) in ids.iter().enumerate() {
        let mut x = numbers("token_embd.weight")[id as usize * hidden..][..hidden].to_vec();
        for (layer, past) in past.iter_mut().enumerate() {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let h = norm(&name("attn_norm"), &x);
            let q = turned(&times(&name("attn_q"), &h), position);
            past.push((turned(&times(&name("attn_k"), &h), position), times(&name("attn_v"), &h)));
            let mut o = vec![];
            for (head, q) in q.chunks(head_dim).enumerate() {
                let own = head / (heads / groups) * head_dim..(head / (heads / groups) + 1) * head_dim;
                let scores: Vec<f64> = past.iter().map(|(key, _)| dot(q, &key[own.clone()]) / (head_dim as f64).sqrt()).collect();
                let shares = softmax(&scores);
                o.extend(own.map(|i| shares.iter().zip(past.iter()).map(|(share, (_, value))| share * value[i]).sum::<f64>()));
            }
            add(&mut x, &times(&name("attn_output"), &o));
            let h = norm(&name("ffn_norm"), &x);
            let inner = times(&name("ffn_gate"), &h).into_iter().zip(times(&name("ffn_up"), &h));
            let inner: Vec<f64> = inner.map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            add(&mut x, &times(&name("ffn_down"), &inner));
        }
        logits.extend(times("token_embd.weight", &norm("output_norm.weight", &x)));
    }
    logits
}

#[test]
fn logits_are_the_reference_s() {
    let of = |[hidden, heads, groups, head_dim, ffn]: [usize; 5]| Shape { hidden, heads, groups, head_dim, ffn };
    let shapes = [
        // Whole blocks, experts that take all of the FFN.
        [64, 9, 3, 64, 384],
        // Padded heads, and a shared FFN that is no multiple of an expert.
        [32, 4, 2, 24, 800],
        [32, 6, 2, 48, 480],
        // A group a head, and one for all; dense.
        [32, 4, 4, 8, 96],
        [96, 4, 1, 40, 200],
    ]
    .map(of);
    let ids: Vec<u32> = (0..21).map(|i| i * 17 % VOCAB as u32).collect();
    for disabled in [vec![], vec![Feature::Images], vec![Feature::Subgroups, Feature::F16]] {
        let gpu = block_on(Gpu::open(&GpuOptions { disabled: Disabled(disabled.clone()), ..Default::default() })).unwrap();
        for shape in shapes {
            let tensors = random(shape);
            let model = block_on(Model::load(&gpu, &file(shape, &tensors).open(), &mut |_| {})).unwrap();
            let want = reference(shape, &tensors, &ids);
            for chunk in [1, 21] {
                let options = RuntimeOptions { context: 64, chunk, cache: CacheFormat::F32, ..Default::default() };
                let mut runtime = Runtime::new(model.clone(), options).unwrap();
                let mut session = runtime.session().unwrap();
                let parts = ids.chunks(chunk).map(|part| block_on(runtime.logits(&mut session, part)).unwrap());
                let got: Vec<f32> = parts.collect::<Vec<_>>().concat();
                assert_eq!(got.len(), want.len());
                let off = |(got, want): (&f32, &f64)| if got.is_finite() { (f64::from(*got) - want).abs() } else { f64::INFINITY };
                let worst = got.iter().zip(&want).map(off).fold(0.0, f64::max);
                assert!(worst < 1e-4, "{shape:?} in chunks of {chunk} without {disabled:?}: off by {worst}");
            }
        }
    }
}
