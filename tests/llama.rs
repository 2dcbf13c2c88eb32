//! Small random Llama models in GGUF, read as grouped latents, against an f64 reference: head widths that fill blocks and that do
//! not, FFNs that become experts, experts and a shared FFN, or stay dense.

use fathom::checkpoint::Checkpoint;
use fathom::gpu::{Disabled, Feature, Gpu, GpuOptions};
use fathom::kernels::CacheFormat;
use fathom::model::Model;
use fathom::session::{Runtime, RuntimeOptions};
use pollster::block_on;
use std::collections::BTreeMap;

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
    let mut state = 1u64;
    let mut number = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    };
    let mut tensors = Tensors::new();
    let mut add = |name: String, rows: usize, cols: usize| {
        let is_norm = name.contains("norm");
        let scale = if is_norm { 0.1 } else { (3.0 / cols as f32).sqrt() };
        let numbers = (0..rows * cols).map(|_| number() * scale + f32::from(u8::from(is_norm))).collect();
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

/// The bytes of a GGUF, version 3, with tensors in f32.
fn gguf(shape: Shape, tensors: &Tensors) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let entry = |key: &str, kind: u32, value: &[u8]| [text(key).as_slice(), &kind.to_le_bytes(), value].concat();
    let count = |key: &str, value: usize| entry(key, 4, &(value as u32).to_le_bytes());
    let tokens = (0..VOCAB).flat_map(|i| text(&format!("t{i}")));
    let tokens: Vec<u8> = [8u32.to_le_bytes().as_slice(), &(VOCAB as u64).to_le_bytes()].concat().into_iter().chain(tokens).collect();
    let entries = [
        entry("general.architecture", 8, &text("llama")),
        count("llama.embedding_length", shape.hidden),
        count("llama.block_count", LAYERS),
        count("llama.attention.head_count", shape.heads),
        count("llama.attention.head_count_kv", shape.groups),
        count("llama.attention.key_length", shape.head_dim),
        count("llama.rope.dimension_count", shape.head_dim),
        count("llama.feed_forward_length", shape.ffn),
        count("llama.context_length", 128),
        entry("llama.attention.layer_norm_rms_epsilon", 6, &(EPS as f32).to_le_bytes()),
        entry("tokenizer.ggml.tokens", 9, &tokens),
    ];
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    bytes.extend(entries.concat());
    let mut data = vec![];
    for (name, Matrix { cols, numbers }) in tensors {
        data.resize(data.len().next_multiple_of(32), 0);
        let rows = numbers.len() / cols;
        let sizes = if rows == 1 { vec![*cols] } else { vec![*cols, rows] };
        bytes.extend(text(name));
        bytes.extend((sizes.len() as u32).to_le_bytes());
        sizes.iter().for_each(|&size| bytes.extend((size as u64).to_le_bytes()));
        bytes.extend(0u32.to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        numbers.iter().for_each(|v| data.extend(v.to_le_bytes()));
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    bytes
}

/// Logits after every id, `[ids, VOCAB]`.
fn reference(shape: Shape, tensors: &Tensors, ids: &[u32]) -> Vec<f64> {
    let Shape { heads, groups, head_dim, .. } = shape;
    let times = |name: &str, x: &[f64]| -> Vec<f64> {
        let Matrix { cols, numbers } = &tensors[name];
        numbers.chunks(*cols).map(|row| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum()).collect()
    };
    let norm = |name: &str, x: &[f64]| -> Vec<f64> {
        let scale = (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + EPS).sqrt();
        x.iter().zip(&tensors[name].numbers).map(|(v, &gain)| v / scale * f64::from(gain)).collect()
    };
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
        let Matrix { cols, numbers } = &tensors["token_embd.weight"];
        let mut x: Vec<f64> = numbers[id as usize * cols..][..*cols].iter().map(|&v| f64::from(v)).collect();
        for (layer, past) in past.iter_mut().enumerate() {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let h = norm(&name("attn_norm"), &x);
            let q = turned(&times(&name("attn_q"), &h), position);
            past.push((turned(&times(&name("attn_k"), &h), position), times(&name("attn_v"), &h)));
            let mut o = vec![];
            for (head, q) in q.chunks(head_dim).enumerate() {
                let own = head / (heads / groups) * head_dim..(head / (heads / groups) + 1) * head_dim;
                let score = |key: &Vec<f64>| q.iter().zip(&key[own.clone()]).map(|(a, b)| a * b).sum::<f64>() / (head_dim as f64).sqrt();
                let shares: Vec<f64> = past.iter().map(|(key, _)| score(key).exp()).collect();
                let total: f64 = shares.iter().sum();
                o.extend(own.map(|i| shares.iter().zip(past.iter()).map(|(share, (_, value))| share / total * value[i]).sum::<f64>()));
            }
            x.iter_mut().zip(times(&name("attn_output"), &o)).for_each(|(x, o)| *x += o);
            let h = norm(&name("ffn_norm"), &x);
            let inner = times(&name("ffn_gate"), &h).into_iter().zip(times(&name("ffn_up"), &h));
            let inner: Vec<f64> = inner.map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            x.iter_mut().zip(times(&name("ffn_down"), &inner)).for_each(|(x, y)| *x += y);
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
            let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
            std::fs::write(file.path(), gguf(shape, &tensors)).unwrap();
            let model = block_on(Model::load(&gpu, &Checkpoint::open(file.path()).unwrap(), &mut |_| {})).unwrap();
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
