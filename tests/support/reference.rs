//! DeepSeek's forward pass in f64, in the paper's order and the expanded (per-head keys and values) form.
//!
//! Written from DEEPSEEK.md §3 alone. It loads any checkpoint directory the family comes in, is slow and simple, and
//! answers with everything a test compares: logits, hidden states, routing and its margins.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::{Config, Selection};
use super::stored::{Tensors, read_json};

/// `q_a_layernorm` and `kv_a_layernorm` ignore `rms_norm_eps` (DEEPSEEK.md §3.2).
const LATENT_EPS: f64 = 1e-6;

pub struct Reference {
    pub config: Config,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f64>,
    lm_head: Option<Matrix>,
}

/// What the tokens of one call gave, rows in their order.
#[derive(Default)]
pub struct Forward {
    pub logits: Vec<f64>,       // [tokens, vocab]
    pub hidden: Vec<Vec<f64>>,  // [layers + 1][tokens, hidden]; 0 = embeddings, i = after layer i − 1
    pub final_hidden: Vec<f64>, // [tokens, hidden], after the final norm
    pub routers: BTreeMap<usize, Router>,
}

/// One MoE layer's routing.
#[derive(Default)]
pub struct Router {
    pub logits: Vec<f64>,  // [tokens, experts]
    pub indices: Vec<u32>, // [tokens, top_k], ascending
    pub weights: Vec<f64>, // [tokens, top_k], as `indices`
    pub margin: Vec<f64>,  // [tokens]; infinite where there was nothing to choose
}

/// One token's experts.
pub struct Choice {
    pub indices: Vec<u32>, // [top_k], ascending
    pub weights: Vec<f64>, // [top_k], as `indices`
    /// The smallest gap between what was taken and what was not, experts or groups.
    pub margin: f64,
}

/// The keys and values of all tokens so far.
#[derive(Default)]
pub struct Cache {
    layers: Vec<LayerCache>,
}

#[derive(Default)]
struct LayerCache {
    keys: Vec<Vec<f64>>,   // [tokens][heads, nope + rope]
    values: Vec<Vec<f64>>, // [tokens][heads, value]
}

struct Matrix {
    input: usize,
    weight: Vec<f64>, // [output, input]
    bias: Option<Vec<f64>>,
}

struct Layer {
    input_layernorm: Vec<f64>,
    attention: Attention,
    post_attention_layernorm: Vec<f64>,
    ffn: Ffn,
}

struct Attention {
    query: Query,
    kv_a_proj_with_mqa: Matrix, // [kv_lora + rope, hidden]
    kv_a_layernorm: Vec<f64>,
    kv_b_proj: Matrix, // [heads · (nope + value), kv_lora]
    o_proj: Matrix,    // [hidden, heads · value]
}

enum Query {
    Full(Matrix), // [heads · (nope + rope), hidden]
    LowRank { q_a_proj: Matrix, q_a_layernorm: Vec<f64>, q_b_proj: Matrix },
}

enum Ffn {
    Dense(Mlp),
    Moe { gate: Matrix, correction: Option<Vec<f64>>, experts: Vec<Mlp>, shared: Option<Mlp> },
}

struct Mlp {
    gate_proj: Matrix,
    up_proj: Matrix,
    down_proj: Matrix,
}

impl Reference {
    pub fn load(dir: &Path) -> Self {
        Self::load_with_config(dir, "config.json")
    }

    /// The same with another config file of the directory.
    pub fn load_with_config(dir: &Path, config_file: &str) -> Self {
        let config = Config::parse(&read_json(&dir.join(config_file)));
        let loader = Loader { tensors: Tensors::read_dir(dir), config: &config };
        let embedding = loader.matrix("model.embed_tokens", config.vocab, config.hidden, false);
        let layers = (0..config.layers).map(|layer| loader.layer(layer)).collect();
        let norm = loader.vector("model.norm.weight", config.hidden);
        let lm_head = (!config.tied).then(|| loader.matrix("lm_head", config.vocab, config.hidden, false));
        Self { embedding, layers, norm, lm_head, config }
    }

    /// All tokens from an empty cache.
    pub fn forward(&self, ids: &[u32]) -> Forward {
        self.extend(&mut Cache::default(), ids)
    }

    /// `ids` at the positions after those already in `cache`.
    pub fn extend(&self, cache: &mut Cache, ids: &[u32]) -> Forward {
        let c = &self.config;
        cache.layers.resize_with(self.layers.len(), Default::default);
        let mut forward = Forward::default();
        let mut hidden: Vec<Vec<f64>> = ids.iter().map(|id| self.embedding.row(*id as usize).to_vec()).collect();
        forward.hidden.push(hidden.concat());
        for (at, layer) in self.layers.iter().enumerate() {
            for h in &mut hidden {
                let x = rms_norm(h, &layer.input_layernorm, c.eps);
                add(h, &layer.attention.apply(c, &mut cache.layers[at], &x));
                let x = rms_norm(h, &layer.post_attention_layernorm, c.eps);
                add(h, &layer.ffn.apply(c, &x, || forward.routers.entry(at).or_default()));
            }
            forward.hidden.push(hidden.concat());
        }
        for h in &hidden {
            let y = rms_norm(h, &self.norm, c.eps);
            forward.logits.extend(self.lm_head.as_ref().unwrap_or(&self.embedding).apply(&y));
            forward.final_hidden.extend(y);
        }
        forward
    }

    /// The `count` tokens that greedily follow `ids`, and the smallest gap between the best two logits.
    pub fn greedy(&self, ids: &[u32], count: usize) -> (Vec<u32>, f64) {
        let mut cache = Cache::default();
        let (mut chosen, mut smallest_gap) = (Vec::new(), f64::INFINITY);
        let mut forward = self.extend(&mut cache, ids);
        while chosen.len() < count {
            let last = &forward.logits[forward.logits.len() - self.config.vocab..];
            let ranked = descending(last);
            smallest_gap = smallest_gap.min(last[ranked[0]] - last[ranked[1]]);
            chosen.push(ranked[0] as u32);
            if chosen.len() < count {
                forward = self.extend(&mut cache, &chosen[chosen.len() - 1..]);
            }
        }
        (chosen, smallest_gap)
    }
}

impl Attention {
    /// Multi-head latent attention of one token, which it appends to the cache.
    fn apply(&self, c: &Config, cache: &mut LayerCache, x: &[f64]) -> Vec<f64> {
        let LayerCache { keys, values } = cache;
        let rotation = c.rotary.at(keys.len());
        let rotate = |z: &mut [f64]| {
            for (i, (cos, sin)) in rotation.iter().enumerate() {
                let (a, b) = if c.interleaved { (2 * i, 2 * i + 1) } else { (i, i + c.rope / 2) };
                (z[a], z[b]) = (z[a] * cos - z[b] * sin, z[b] * cos + z[a] * sin);
            }
        };

        let mut q = match &self.query {
            Query::Full(q_proj) => q_proj.apply(x),
            Query::LowRank { q_a_proj, q_a_layernorm, q_b_proj } => {
                q_b_proj.apply(&rms_norm(&q_a_proj.apply(x), q_a_layernorm, LATENT_EPS))
            }
        };
        q.chunks_mut(c.nope + c.rope).for_each(|head| rotate(&mut head[c.nope..]));

        let mut latent = self.kv_a_proj_with_mqa.apply(x);
        let mut k_rope = latent.split_off(c.kv_lora);
        rotate(&mut k_rope);
        let kv = self.kv_b_proj.apply(&rms_norm(&latent, &self.kv_a_layernorm, LATENT_EPS));
        let heads = kv.chunks(c.nope + c.value);
        keys.push(heads.clone().flat_map(|head| [&head[..c.nope], &k_rope].concat()).collect());
        values.push(heads.flat_map(|head| head[c.nope..].to_vec()).collect());

        let mut output = vec![0.0; c.heads * c.value];
        for (h, output) in output.chunks_mut(c.value).enumerate() {
            let of_head = h * (c.nope + c.rope)..(h + 1) * (c.nope + c.rope);
            let q = &q[of_head.clone()];
            let scores = keys.iter().map(|key| c.rotary.softmax_scale * dot(q, &key[of_head.clone()]));
            for (p, value) in softmax(&scores.collect::<Vec<_>>()).iter().zip(values.iter()) {
                output.iter_mut().zip(&value[h * c.value..]).for_each(|(o, v)| *o += p * v);
            }
        }
        self.o_proj.apply(&output)
    }
}

impl Ffn {
    fn apply<'a>(&self, c: &Config, x: &[f64], router: impl FnOnce() -> &'a mut Router) -> Vec<f64> {
        let (gate, correction, experts, shared) = match self {
            Ffn::Dense(mlp) => return mlp.apply(x),
            Ffn::Moe { gate, correction, experts, shared } => (gate, correction, experts, shared),
        };
        let logits = gate.apply(x);
        let choice = route(c, &logits, correction.as_deref());
        let mut y = shared.as_ref().map_or(vec![0.0; x.len()], |shared| shared.apply(x));
        for (expert, weight) in choice.indices.iter().zip(&choice.weights) {
            let output = experts[*expert as usize].apply(x);
            y.iter_mut().zip(output).for_each(|(y, o)| *y += weight * o);
        }
        let router = router();
        router.logits.extend(logits);
        router.indices.extend(choice.indices);
        router.weights.extend(choice.weights);
        router.margin.push(choice.margin);
        y
    }
}

/// The router of DEEPSEEK.md §3.6.
pub fn route(c: &Config, logits: &[f64], correction: Option<&[f64]>) -> Choice {
    let scores = match c.selection {
        Selection::Greedy | Selection::GroupLimited => softmax(logits),
        Selection::NoAux => logits.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect(),
    };
    let mut wanted = scores.clone();
    if let Some(correction) = correction {
        add(&mut wanted, correction);
    }
    let mut margin = f64::INFINITY;
    // The gap that decides between the last taken and the first left.
    let gap = |of: &[f64], ranked: &[usize], taken: usize| match ranked.get(taken) {
        Some(left) => of[ranked[taken - 1]] - of[*left],
        None => f64::INFINITY,
    };
    if c.groups > 1 && c.selection != Selection::Greedy {
        let size = c.experts / c.groups;
        let group_score = |group: &[f64]| {
            let ranked = descending(group);
            match c.selection {
                Selection::NoAux => group[ranked[0]] + group[ranked[1]],
                _ => group[ranked[0]],
            }
        };
        let group_scores: Vec<f64> = wanted.chunks(size).map(group_score).collect();
        let ranked = descending(&group_scores);
        margin = margin.min(gap(&group_scores, &ranked, c.kept_groups));
        let masked = if c.selection == Selection::NoAux { f64::NEG_INFINITY } else { 0.0 };
        for group in &ranked[c.kept_groups..] {
            wanted[group * size..(group + 1) * size].fill(masked);
        }
    }
    let ranked = descending(&wanted);
    margin = margin.min(gap(&wanted, &ranked, c.top_k));
    let mut chosen = ranked[..c.top_k].to_vec();
    chosen.sort_unstable();

    let mut weights: Vec<f64> = chosen.iter().map(|expert| scores[*expert]).collect();
    if c.renormalise {
        let sum = weights.iter().sum::<f64>() + 1e-20;
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    weights.iter_mut().for_each(|w| *w *= c.routed_scaling);
    Choice { indices: chosen.iter().map(|expert| *expert as u32).collect(), weights, margin }
}

impl Mlp {
    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let silu = |z: f64| z / (1.0 + (-z).exp());
        let gated = self.gate_proj.apply(x).into_iter().zip(self.up_proj.apply(x));
        self.down_proj.apply(&gated.map(|(gate, up)| silu(gate) * up).collect::<Vec<_>>())
    }
}

impl Matrix {
    fn row(&self, row: usize) -> &[f64] {
        &self.weight[row * self.input..(row + 1) * self.input]
    }

    fn apply(&self, x: &[f64]) -> Vec<f64> {
        assert_eq!(x.len(), self.input);
        let mut y: Vec<f64> = self.weight.chunks_exact(self.input).map(|row| dot(row, x)).collect();
        if let Some(bias) = &self.bias {
            add(&mut y, bias);
        }
        y
    }
}

pub fn rms_norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let mean_square = dot(x, x) / x.len() as f64;
    x.iter().zip(weight).map(|(x, w)| w * x / (mean_square + eps).sqrt()).collect()
}

pub fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = x.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub fn add(to: &mut [f64], x: &[f64]) {
    assert_eq!(to.len(), x.len());
    to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
}

/// Indices by falling value; equal values keep their order.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}

/// Finds the tensors of each part under any of the layouts they are published in.
struct Loader<'a> {
    tensors: Tensors,
    config: &'a Config,
}

impl Loader<'_> {
    fn vector(&self, name: &str, len: usize) -> Vec<f64> {
        self.tensors.decode(name, &[len])
    }

    fn matrix(&self, name: &str, output: usize, input: usize, bias: bool) -> Matrix {
        Matrix {
            input,
            weight: self.tensors.decode(&format!("{name}.weight"), &[output, input]),
            bias: bias.then(|| self.vector(&format!("{name}.bias"), output)),
        }
    }

    fn layer(&self, layer: usize) -> Layer {
        let (c, prefix) = (self.config, format!("model.layers.{layer}"));
        let mlp = format!("{prefix}.mlp");
        Layer {
            input_layernorm: self.vector(&format!("{prefix}.input_layernorm.weight"), c.hidden),
            attention: self.attention(&format!("{prefix}.self_attn")),
            post_attention_layernorm: self.vector(&format!("{prefix}.post_attention_layernorm.weight"), c.hidden),
            ffn: if c.is_moe(layer) { self.moe(&mlp) } else { Ffn::Dense(self.mlp(&mlp, c.intermediate, c.mlp_bias)) },
        }
    }

    fn attention(&self, prefix: &str) -> Attention {
        let c = self.config;
        let name = |tensor: &str| format!("{prefix}.{tensor}");
        let query_width = c.heads * (c.nope + c.rope);
        let query = match c.q_lora {
            None => Query::Full(self.matrix(&name("q_proj"), query_width, c.hidden, false)),
            Some(rank) => Query::LowRank {
                q_a_proj: self.matrix(&name("q_a_proj"), rank, c.hidden, c.attention_bias),
                q_a_layernorm: self.vector(&name("q_a_layernorm.weight"), rank),
                q_b_proj: self.matrix(&name("q_b_proj"), query_width, rank, false),
            },
        };
        let kv_a = self.matrix(&name("kv_a_proj_with_mqa"), c.kv_lora + c.rope, c.hidden, c.attention_bias);
        Attention {
            query,
            kv_a_proj_with_mqa: kv_a,
            kv_a_layernorm: self.vector(&name("kv_a_layernorm.weight"), c.kv_lora),
            kv_b_proj: self.matrix(&name("kv_b_proj"), c.heads * (c.nope + c.value), c.kv_lora, false),
            o_proj: self.matrix(&name("o_proj"), c.hidden, c.heads * c.value, c.attention_bias),
        }
    }

    fn mlp(&self, prefix: &str, width: usize, bias: bool) -> Mlp {
        let hidden = self.config.hidden;
        Mlp {
            gate_proj: self.matrix(&format!("{prefix}.gate_proj"), width, hidden, bias),
            up_proj: self.matrix(&format!("{prefix}.up_proj"), width, hidden, bias),
            down_proj: self.matrix(&format!("{prefix}.down_proj"), hidden, width, bias),
        }
    }

    fn moe(&self, prefix: &str) -> Ffn {
        let c = self.config;
        let correction = format!("{prefix}.gate.e_score_correction_bias");
        Ffn::Moe {
            gate: self.matrix(&format!("{prefix}.gate"), c.experts, c.hidden, false),
            correction: (c.selection == Selection::NoAux).then(|| self.vector(&correction, c.experts)),
            experts: self.experts(prefix),
            shared: (c.shared > 0).then(|| self.mlp(&format!("{prefix}.shared_experts"), c.shared * c.moe_intermediate, c.mlp_bias)),
        }
    }

    /// Per expert (hub), fused (transformers 5) or stacked per projection (MLX).
    fn experts(&self, prefix: &str) -> Vec<Mlp> {
        let c = self.config;
        let (width, hidden) = (c.moe_intermediate, c.hidden);
        let stacked = |name: &str, output, input| {
            let all = self.tensors.decode(&format!("{prefix}.{name}"), &[c.experts, output, input]);
            all.chunks(output * input).map(<[f64]>::to_vec).collect::<Vec<_>>()
        };
        let plain = |input, weight| Matrix { input, weight, bias: None };
        let mlp = |((gate, up), down)| Mlp { gate_proj: plain(hidden, gate), up_proj: plain(hidden, up), down_proj: plain(width, down) };
        if self.tensors.contains(&format!("{prefix}.experts.gate_up_proj")) {
            let gate_up = stacked("experts.gate_up_proj", 2 * width, hidden);
            let halves = gate_up.iter().map(|both| both.split_at(width * hidden));
            let halves = halves.map(|(gate, up)| (gate.to_vec(), up.to_vec()));
            halves.zip(stacked("experts.down_proj", hidden, width)).map(mlp).collect()
        } else if self.tensors.contains(&format!("{prefix}.switch_mlp.gate_proj.weight")) {
            let gate = stacked("switch_mlp.gate_proj.weight", width, hidden);
            let up = stacked("switch_mlp.up_proj.weight", width, hidden);
            gate.into_iter().zip(up).zip(stacked("switch_mlp.down_proj.weight", hidden, width)).map(mlp).collect()
        } else {
            (0..c.experts).map(|expert| self.mlp(&format!("{prefix}.experts.{expert}"), width, false)).collect()
        }
    }
}
