//! Tiny random checkpoints of the DeepSeek family, written as real files.
//!
//! Weights have standard deviation gain / √(inputs), with gains that keep activations near 1 and routing decided by
//! clear margins. What is stored is the truth: read the directory back to know the weights.

use std::fs;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::stored::{Stored, write_dir};

/// How the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Storage {
    F32,
    F16,
    Bf16,
    /// Projections as e4m3 with 128×128 block scales, the rest bf16.
    Fp8,
    /// MLX: every linear and the embedding packed where the group divides its width; the rest, scales and biases as `dtype`.
    Affine {
        bits: usize,
        group: usize,
        dtype: Dtype,
    },
}

/// How the routed experts are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Experts {
    /// `mlp.experts.E.gate_proj.weight` and so on, as on the hub.
    Each,
    /// `mlp.experts.gate_up_proj` and `mlp.experts.down_proj`, as transformers 5 holds them.
    Fused,
    /// `mlp.switch_mlp.gate_proj.weight` and so on, as MLX writes them.
    Switch,
}

/// A model to be: the fields of its config.json and how to store it.
#[derive(Clone, Debug)]
pub struct Tiny {
    pub model_type: &'static str,
    pub vocab: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub q_lora: Option<usize>,
    pub kv_lora: usize,
    pub nope: usize,
    pub rope: usize,
    pub value: usize,
    pub intermediate: usize,
    pub moe_intermediate: usize,
    /// Routed experts; 0 writes null and makes every layer dense.
    pub experts: usize,
    pub top_k: usize,
    /// Shared experts; none writes null.
    pub shared: Option<usize>,
    /// `n_group` and `topk_group`.
    pub groups: (usize, usize),
    pub topk_method: &'static str,
    pub scoring: &'static str,
    pub norm_topk_prob: bool,
    pub routed_scaling: f64,
    pub first_dense: usize,
    pub moe_every: usize,
    pub eps: f64,
    pub rope_theta: f64,
    /// `rope_scaling` as config.json has it, or null.
    pub rope_scaling: Value,
    pub rope_interleave: bool,
    pub max_position: usize,
    pub attention_bias: bool,
    pub tie: bool,
    /// Multi-token prediction layers on disk, which a loader skips.
    pub mtp: usize,
    /// Writes config.json as transformers 5 does: `rope_parameters`, `dtype`, no `topk_method` for V3.
    pub config_v5: bool,
    pub storage: Storage,
    pub expert_layout: Experts,
    pub shards: usize,
    pub seed: u64,
}

impl Tiny {
    /// Like DeepSeek-V3: low-rank queries, grouped sigmoid routing with correction bias, YaRN; one dense layer, two MoE.
    pub fn v3() -> Self {
        Self {
            model_type: "deepseek_v3",
            vocab: 128,
            hidden: 64,
            layers: 3,
            heads: 2,
            q_lora: Some(24),
            kv_lora: 32,
            nope: 16,
            rope: 8,
            value: 16,
            intermediate: 96,
            moe_intermediate: 32,
            experts: 8,
            top_k: 3,
            shared: Some(1),
            groups: (4, 2),
            topk_method: "noaux_tc",
            scoring: "sigmoid",
            norm_topk_prob: true,
            routed_scaling: 2.5,
            first_dense: 1,
            moe_every: 1,
            eps: 1e-6,
            rope_theta: 10000.0,
            rope_scaling: yarn(40.0, 4096, Some((1.0, 1.0))),
            rope_interleave: true,
            max_position: 163_840,
            attention_bias: false,
            tie: false,
            mtp: 0,
            config_v5: false,
            storage: Storage::Bf16,
            expert_layout: Experts::Each,
            shards: 1,
            seed: 1,
        }
    }

    /// Like DeepSeek-V2-Lite: full-rank queries, greedy softmax routing, two shared experts.
    pub fn v2_lite() -> Self {
        Self {
            model_type: "deepseek_v2",
            q_lora: None,
            shared: Some(2),
            groups: (1, 1),
            topk_method: "greedy",
            scoring: "softmax",
            norm_topk_prob: false,
            routed_scaling: 1.0,
            rope_scaling: yarn(40.0, 4096, Some((0.707, 0.707))),
            ..Self::v3()
        }
    }

    /// Like DeepSeek-V2: low-rank queries, 3 of 8 groups by their best softmax score, scaling 16.
    pub fn v2() -> Self {
        Self {
            q_lora: Some(24),
            experts: 24,
            groups: (8, 3),
            // More experts than groups: fewer would lie in the best groups anyway.
            top_k: 5,
            topk_method: "group_limited_greedy",
            routed_scaling: 16.0,
            ..Self::v2_lite()
        }
    }

    /// Like Moonlight: full-rank queries, one group, no YaRN, a norm epsilon that shows where it is used.
    pub fn moonlight() -> Self {
        Self {
            q_lora: None,
            groups: (1, 1),
            routed_scaling: 2.446,
            eps: 1e-3,
            rope_theta: 50000.0,
            rope_scaling: Value::Null,
            max_position: 8192,
            shared: Some(2),
            ..Self::v3()
        }
    }

    pub fn with_rope(self, rope_scaling: Value, max_position: usize) -> Self {
        Self { rope_scaling, max_position, ..self }
    }

    pub fn is_moe(&self, layer: usize) -> bool {
        self.experts > 0 && layer >= self.first_dense && layer.is_multiple_of(self.moe_every)
    }

    /// `len` ids: 0, then random ones from 2 up.
    pub fn prompt(&self, seed: u64, len: usize) -> Vec<u32> {
        let mut random = Random(seed ^ 0x70_726f_6d70_7421);
        let mut ids = vec![0];
        ids.extend((1..len).map(|_| 2 + (random.next() % (self.vocab as u64 - 2)) as u32));
        ids
    }

    /// Writes config.json and the weights into `dir`, which it creates.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("create the checkpoint's directory");
        let config = serde_json::to_string_pretty(&self.config()).expect("json");
        fs::write(dir.join("config.json"), config).expect("write config.json");
        write_dir(dir, &self.tensors(), self.shards);
    }

    pub fn config(&self) -> Value {
        let mut config = json!({
            "model_type": self.model_type,
            "architectures": [if self.is_v2() { "DeepseekV2ForCausalLM" } else { "DeepseekV3ForCausalLM" }],
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "q_lora_rank": self.q_lora,
            "kv_lora_rank": self.kv_lora,
            "qk_nope_head_dim": self.nope,
            "qk_rope_head_dim": self.rope,
            "v_head_dim": self.value,
            "intermediate_size": self.intermediate,
            "moe_intermediate_size": self.moe_intermediate,
            "n_routed_experts": (self.experts > 0).then_some(self.experts),
            "num_experts_per_tok": self.top_k,
            "n_shared_experts": self.shared,
            "n_group": self.groups.0,
            "topk_group": self.groups.1,
            "norm_topk_prob": self.norm_topk_prob,
            "routed_scaling_factor": self.routed_scaling,
            "first_k_dense_replace": self.first_dense,
            "moe_layer_freq": self.moe_every,
            "hidden_act": "silu",
            "rms_norm_eps": self.eps,
            "max_position_embeddings": self.max_position,
            "attention_bias": self.attention_bias,
            "tie_word_embeddings": self.tie,
            "num_nextn_predict_layers": self.mtp,
            "bos_token_id": 0,
            "eos_token_id": 1,
        });
        let mut set = |key: &str, value: Value| config[key] = value;
        let dtype = match self.storage {
            Storage::F32 => "float32",
            Storage::F16 | Storage::Affine { dtype: Dtype::F16, .. } => "float16",
            _ => "bfloat16",
        };
        if self.config_v5 {
            let mut rope = self.rope_scaling.clone();
            if rope.is_null() {
                rope = json!({ "rope_type": "default" });
            }
            rope["rope_theta"] = self.rope_theta.into();
            set("rope_parameters", rope);
            set("dtype", dtype.into());
            set("head_dim", self.rope.into());
        } else {
            set("rope_theta", self.rope_theta.into());
            set("rope_scaling", self.rope_scaling.clone());
            set("torch_dtype", dtype.into());
        }
        if self.is_v2() || !self.config_v5 {
            set("topk_method", self.topk_method.into());
            set("scoring_func", self.scoring.into());
        }
        if !self.rope_interleave {
            set("rope_interleave", false.into());
        }
        match self.storage {
            Storage::Fp8 => set(
                "quantization_config",
                json!({ "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128] }),
            ),
            Storage::Affine { bits, group, .. } => {
                let quantization = json!({ "group_size": group, "bits": bits });
                set("quantization", quantization.clone());
                set("quantization_config", quantization);
            }
            _ => (),
        }
        config
    }

    fn is_v2(&self) -> bool {
        self.model_type == "deepseek_v2"
    }

    /// Every tensor of the checkpoint in the order of the layers.
    fn tensors(&self) -> Vec<(String, Stored)> {
        let mut out = Writer { tiny: self, random: Random(self.seed), tensors: Vec::new() };
        let embedding = out.random.matrix(self.vocab, self.hidden, 1.0);
        // Rows of standard deviation 1, or 0.25 where they also make the logits.
        let scale = (self.hidden as f32).sqrt() * if self.tie { 0.25 } else { 1.0 };
        let embedding: Vec<f32> = embedding.iter().map(|w| w * scale).collect();
        out.push("model.embed_tokens.weight", &embedding, &[self.vocab, self.hidden]);
        for layer in 0..self.layers {
            out.layer(layer, self.is_moe(layer));
        }
        out.norm("model.norm", self.hidden);
        if !self.tie {
            out.linear("lm_head", self.vocab, self.hidden, 3.0);
        }
        for layer in self.layers..self.layers + self.mtp {
            let prefix = format!("model.layers.{layer}");
            out.push(&format!("{prefix}.embed_tokens.weight"), &embedding, &[self.vocab, self.hidden]);
            out.norm(&format!("{prefix}.enorm"), self.hidden);
            out.norm(&format!("{prefix}.hnorm"), self.hidden);
            out.linear(&format!("{prefix}.eh_proj"), self.hidden, 2 * self.hidden, 1.0);
            out.layer(layer, self.experts > 0);
            out.norm(&format!("{prefix}.shared_head.norm"), self.hidden);
            out.linear(&format!("{prefix}.shared_head.head"), self.vocab, self.hidden, 3.0);
        }
        out.tensors
    }
}

/// A YaRN `rope_scaling` object; `mscale` is (mscale, mscale_all_dim), left out when none.
pub fn yarn(factor: f64, original: usize, mscale: Option<(f64, f64)>) -> Value {
    let mut scaling = json!({
        "type": "yarn",
        "factor": factor,
        "beta_fast": 32,
        "beta_slow": 1,
        "original_max_position_embeddings": original,
    });
    if let Some((mscale, all_dim)) = mscale {
        scaling["mscale"] = mscale.into();
        scaling["mscale_all_dim"] = all_dim.into();
    }
    scaling
}

struct Writer<'a> {
    tiny: &'a Tiny,
    random: Random,
    tensors: Vec<(String, Stored)>,
}

impl Writer<'_> {
    fn layer(&mut self, layer: usize, moe: bool) {
        let t = self.tiny;
        let prefix = format!("model.layers.{layer}");
        self.norm(&format!("{prefix}.input_layernorm"), t.hidden);
        self.attention(&format!("{prefix}.self_attn"));
        self.norm(&format!("{prefix}.post_attention_layernorm"), t.hidden);
        let mlp = format!("{prefix}.mlp");
        if moe { self.moe(&mlp) } else { self.mlp(&mlp, t.intermediate, 1.2) }
    }

    fn attention(&mut self, prefix: &str) {
        let t = self.tiny;
        let query_width = t.heads * (t.nope + t.rope);
        let name = |tensor: &str| format!("{prefix}.{tensor}");
        match t.q_lora {
            None => self.linear(&name("q_proj"), query_width, t.hidden, 1.6),
            Some(rank) => {
                self.linear(&name("q_a_proj"), rank, t.hidden, 1.0);
                self.bias(&name("q_a_proj"), rank);
                self.norm(&name("q_a_layernorm"), rank);
                self.linear(&name("q_b_proj"), query_width, rank, 1.6);
            }
        }
        self.linear(&name("kv_a_proj_with_mqa"), t.kv_lora + t.rope, t.hidden, 1.2);
        self.bias(&name("kv_a_proj_with_mqa"), t.kv_lora + t.rope);
        self.norm(&name("kv_a_layernorm"), t.kv_lora);
        self.linear(&name("kv_b_proj"), t.heads * (t.nope + t.value), t.kv_lora, 1.2);
        self.linear(&name("o_proj"), t.hidden, t.heads * t.value, 1.0);
        self.bias(&name("o_proj"), t.hidden);
    }

    fn mlp(&mut self, prefix: &str, width: usize, down_gain: f32) {
        let hidden = self.tiny.hidden;
        self.linear(&format!("{prefix}.gate_proj"), width, hidden, 1.4);
        self.linear(&format!("{prefix}.up_proj"), width, hidden, 1.4);
        self.linear(&format!("{prefix}.down_proj"), hidden, width, down_gain);
    }

    fn moe(&mut self, prefix: &str) {
        let t = self.tiny;
        let (width, hidden) = (t.moe_intermediate, t.hidden);
        let gate = self.random.matrix(t.experts, hidden, 1.8);
        self.push_plain(&format!("{prefix}.gate.weight"), &gate, &[t.experts, hidden]);
        if !t.is_v2() {
            let correction: Vec<f32> = (0..t.experts).map(|_| self.random.normal() * 0.15).collect();
            let stored = Stored::encode(&correction, &[t.experts], Dtype::F32);
            self.tensors.push((format!("{prefix}.gate.e_score_correction_bias"), stored));
        }
        // The routed output stays near 1 whatever the scaling factor.
        let scaling = t.routed_scaling as f32;
        let total_weight = match (t.is_v2(), t.norm_topk_prob) {
            (true, _) => 0.35 * scaling,
            (false, true) => scaling,
            (false, false) => 0.5 * scaling,
        };
        let down_gain = 1.5 / total_weight.max(0.5);
        match t.expert_layout {
            Experts::Each => {
                for expert in 0..t.experts {
                    self.mlp(&format!("{prefix}.experts.{expert}"), width, down_gain);
                }
            }
            Experts::Fused => {
                let gate_up = self.random.matrix(t.experts * 2 * width, hidden, 1.4);
                self.push(&format!("{prefix}.experts.gate_up_proj"), &gate_up, &[t.experts, 2 * width, hidden]);
                let down = self.random.matrix(t.experts * hidden, width, down_gain);
                self.push(&format!("{prefix}.experts.down_proj"), &down, &[t.experts, hidden, width]);
            }
            Experts::Switch => {
                for (name, output, input, gain) in
                    [("gate_proj", width, hidden, 1.4), ("up_proj", width, hidden, 1.4), ("down_proj", hidden, width, down_gain)]
                {
                    let all = self.random.matrix(t.experts * output, input, gain);
                    self.push(&format!("{prefix}.switch_mlp.{name}.weight"), &all, &[t.experts, output, input]);
                }
            }
        }
        if let Some(shared) = t.shared.filter(|shared| *shared > 0) {
            self.mlp(&format!("{prefix}.shared_experts"), shared * width, 1.0);
        }
    }

    fn linear(&mut self, name: &str, output: usize, input: usize, gain: f32) {
        let weight = self.random.matrix(output, input, gain);
        self.push(&format!("{name}.weight"), &weight, &[output, input]);
    }

    fn bias(&mut self, name: &str, len: usize) {
        if self.tiny.attention_bias {
            let bias: Vec<f32> = (0..len).map(|_| self.random.normal() * 0.3).collect();
            self.push_plain(&format!("{name}.bias"), &bias, &[len]);
        }
    }

    fn norm(&mut self, name: &str, len: usize) {
        let weight: Vec<f32> = (0..len).map(|_| 1.0 + 0.4 * (2.0 * self.random.unit() as f32 - 1.0)).collect();
        self.push_plain(&format!("{name}.weight"), &weight, &[len]);
    }

    /// A weight in the checkpoint's storage.
    fn push(&mut self, name: &str, values: &[f32], shape: &[usize]) {
        match self.tiny.storage {
            Storage::Fp8 if name.ends_with("_proj.weight") || name.ends_with("_with_mqa.weight") => {
                let (weight, scale_inv) = Stored::encode_fp8(values, shape);
                self.tensors.push((name.to_owned(), weight));
                self.tensors.push((format!("{name}_scale_inv"), scale_inv));
            }
            Storage::Affine { bits, group, dtype } if name.ends_with(".weight") && shape[shape.len() - 1].is_multiple_of(group) => {
                let base = name.trim_end_matches(".weight");
                let [weight, scales, biases] = Stored::encode_affine(values, shape, bits, group, dtype);
                self.tensors.push((name.to_owned(), weight));
                self.tensors.push((format!("{base}.scales"), scales));
                self.tensors.push((format!("{base}.biases"), biases));
            }
            _ => self.push_plain(name, values, shape),
        }
    }

    /// What no format quantises: norms, biases, the router.
    fn push_plain(&mut self, name: &str, values: &[f32], shape: &[usize]) {
        let dtype = match self.tiny.storage {
            Storage::F32 => Dtype::F32,
            Storage::F16 => Dtype::F16,
            Storage::Bf16 | Storage::Fp8 => Dtype::BF16,
            Storage::Affine { dtype, .. } => dtype,
        };
        self.tensors.push((name.to_owned(), Stored::encode(values, shape, dtype)));
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller's normal deviate.
    pub fn normal(&mut self) -> f32 {
        let (radius, turn) = ((-2.0 * self.unit().ln()).sqrt(), self.unit());
        (radius * (2.0 * std::f64::consts::PI * turn).cos()) as f32
    }

    /// Standard deviation gain / √input.
    pub fn matrix(&mut self, output: usize, input: usize, gain: f32) -> Vec<f32> {
        let scale = gain / (input as f32).sqrt();
        (0..output * input).map(|_| self.normal() * scale).collect()
    }
}
