//! `config.json` as the reference reads it: every field that changes the maths, with the defaults of the model's class.
//!
//! DEEPSEEK.md §2. An absent key takes the class's default; `null` is a value of its own.

use serde_json::{Map, Value};

/// How a token chooses its experts (DEEPSEEK.md §3.6).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Selection {
    /// V2: the largest softmax scores.
    Greedy,
    /// V2: the same within the groups of largest maximum; the others count as 0.
    GroupLimited,
    /// V3: sigmoid plus correction bias, within the groups of largest top-two sum; the others count as −∞.
    NoAux,
}

#[derive(Clone, Debug)]
pub struct Config {
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
    /// Routed experts; 0 when the model has none.
    pub experts: usize,
    pub top_k: usize,
    /// Shared experts; 0 when the model has none.
    pub shared: usize,
    pub groups: usize,
    pub kept_groups: usize,
    pub selection: Selection,
    pub renormalise: bool,
    pub routed_scaling: f64,
    pub first_dense: usize,
    pub moe_every: usize,
    pub eps: f64,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub tied: bool,
    /// Rotary pairs are (2i, 2i + 1); otherwise (i, i + rope/2).
    pub interleaved: bool,
    pub rotary: Rotary,
}

impl Config {
    pub fn parse(json: &Value) -> Self {
        let fields = Fields(json.as_object().expect("config.json is an object"));
        let v2 = match fields.text("model_type") {
            Some("deepseek_v2") => true,
            Some("deepseek_v3" | "kimi_k2") => false,
            other => panic!("model_type: expected deepseek_v2, deepseek_v3 or kimi_k2, found {other:?}"),
        };
        let by_class = |of_v2: f64, of_v3: f64| if v2 { of_v2 } else { of_v3 };
        let count = |key, default| fields.number(key, default).unwrap_or_else(|| panic!("{key} is null")) as usize;
        let optional = |key, default: f64| fields.number(key, default).map(|n| n as usize);
        let selection = match (v2, fields.text("topk_method")) {
            (true, None | Some("greedy")) => Selection::Greedy,
            (true, Some("group_limited_greedy")) => Selection::GroupLimited,
            (true, Some(other)) => panic!("topk_method: found {other}"),
            // The class knows one method and does not read the field.
            (false, _) => Selection::NoAux,
        };
        let experts = optional("n_routed_experts", by_class(64.0, 256.0)).unwrap_or(0);
        let (nope, rope) = (count("qk_nope_head_dim", 128.0), count("qk_rope_head_dim", 64.0));
        Self {
            vocab: count("vocab_size", by_class(102400.0, 129280.0)),
            hidden: count("hidden_size", by_class(4096.0, 7168.0)),
            layers: count("num_hidden_layers", by_class(32.0, 61.0)),
            heads: count("num_attention_heads", by_class(32.0, 128.0)),
            q_lora: optional("q_lora_rank", 1536.0),
            kv_lora: count("kv_lora_rank", 512.0),
            nope,
            rope,
            value: count("v_head_dim", 128.0),
            intermediate: count("intermediate_size", by_class(11008.0, 18432.0)),
            moe_intermediate: count("moe_intermediate_size", by_class(1407.0, 2048.0)),
            experts,
            top_k: if experts == 0 { 0 } else { count("num_experts_per_tok", by_class(f64::NAN, 8.0)) },
            shared: optional("n_shared_experts", by_class(2.0, 1.0)).unwrap_or(0),
            groups: optional("n_group", by_class(1.0, 8.0)).unwrap_or(1),
            kept_groups: optional("topk_group", by_class(1.0, 4.0)).unwrap_or(1),
            selection,
            renormalise: !v2 && fields.flag("norm_topk_prob", true),
            routed_scaling: fields.number("routed_scaling_factor", by_class(1.0, 2.5)).expect("a factor"),
            first_dense: count("first_k_dense_replace", by_class(0.0, 3.0)),
            moe_every: count("moe_layer_freq", 1.0),
            eps: fields.number("rms_norm_eps", 1e-6).expect("an epsilon"),
            attention_bias: fields.flag("attention_bias", false),
            mlp_bias: v2 && fields.flag("mlp_bias", false),
            tied: fields.flag("tie_word_embeddings", false),
            interleaved: v2 || fields.flag("rope_interleave", true),
            rotary: Rotary::parse(&fields, nope, rope),
        }
    }

    pub fn is_moe(&self, layer: usize) -> bool {
        self.experts > 0 && layer >= self.first_dense && layer.is_multiple_of(self.moe_every)
    }
}

/// Rotary frequencies and the two factors that come with them (DEEPSEEK.md §2.3, §2.4).
#[derive(Clone, Debug)]
pub struct Rotary {
    /// One per pair, rounded to f32 as transformers holds them.
    pub frequencies: Vec<f32>,
    /// Multiplies cos and sin.
    pub attention_factor: f64,
    /// Multiplies q·k.
    pub softmax_scale: f64,
}

impl Rotary {
    /// cos and sin of every pair at `position`. The angle is an f32 product, as in transformers.
    pub fn at(&self, position: usize) -> Vec<(f64, f64)> {
        let rotation = |frequency: &f32| {
            let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
            (self.attention_factor * cos, self.attention_factor * sin)
        };
        self.frequencies.iter().map(rotation).collect()
    }

    fn parse(fields: &Fields, nope: usize, rope: usize) -> Self {
        let empty = Map::new();
        let scaling = ["rope_scaling", "rope_parameters"].iter().find_map(|key| fields.0.get(*key)?.as_object());
        let scaling = Fields(scaling.unwrap_or(&empty));
        let kind = scaling.text("rope_type").or(scaling.text("type")).unwrap_or("default");
        let given = |key| scaling.number(key, f64::NAN).filter(|n| !n.is_nan());
        let theta = given("rope_theta").or(fields.number("rope_theta", 10000.0)).unwrap_or(10000.0);
        let max_position = fields.number("max_position_embeddings", 2048.0).unwrap_or(2048.0);
        let original = given("original_max_position_embeddings").unwrap_or(max_position);
        let factor = given("factor").unwrap_or(max_position / original);
        let base = |i: usize| theta.powf(-2.0 * i as f64 / rope as f64);
        let pairs = 0..rope / 2;

        let (frequencies, derived): (Vec<f64>, f64) = match kind {
            "default" => (pairs.map(base).collect(), 1.0),
            "yarn" => {
                let nonzero = |key| given(key).filter(|n| *n != 0.0);
                let dimension = |turns: f64| rope as f64 * (original / (2.0 * std::f64::consts::PI * turns)).ln() / (2.0 * theta.ln());
                let low = dimension(nonzero("beta_fast").unwrap_or(32.0)).floor().max(0.0);
                let mut high = dimension(nonzero("beta_slow").unwrap_or(1.0)).ceil().min(rope as f64 - 1.0);
                if low == high {
                    high += 0.001;
                }
                let frequency = |i: usize| {
                    let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    base(i) / factor * stretched + base(i) * (1.0 - stretched)
                };
                let derived = match (nonzero("mscale"), nonzero("mscale_all_dim")) {
                    (Some(mscale), Some(all_dim)) => yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim),
                    _ => yarn_mscale(factor, 1.0),
                };
                (pairs.map(frequency).collect(), derived)
            }
            "longrope" => {
                let factors = if max_position <= original { "short_factor" } else { "long_factor" };
                let factors = scaling.0[factors].as_array().expect("a list of factors");
                assert_eq!(factors.len(), rope / 2, "a factor per pair");
                let frequency = |i: usize| base(i) / factors[i].as_f64().expect("a number");
                let derived = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
                (pairs.map(frequency).collect(), derived)
            }
            other => panic!("rope_type: found {other}"),
        };
        let mut softmax_scale = ((nope + rope) as f64).powf(-0.5);
        if kind != "default" {
            softmax_scale *= yarn_mscale(factor, given("mscale_all_dim").unwrap_or(0.0)).powi(2);
        }
        Self {
            frequencies: frequencies.iter().map(|f| *f as f32).collect(),
            attention_factor: given("attention_factor").unwrap_or(derived),
            softmax_scale,
        }
    }
}

/// g(s, m) of DEEPSEEK.md §2.4; 1 for m = 0.
fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 1.0 + 0.1 * mscale * factor.ln() }
}

/// A JSON object whose numbers may be written as integers or floats.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    /// Absent: the default. `null`: none.
    fn number(&self, key: &str, default: f64) -> Option<f64> {
        match self.0.get(key) {
            None => Some(default),
            Some(Value::Null) => None,
            Some(value) => Some(value.as_f64().unwrap_or_else(|| panic!("{key}: expected a number, found {value}"))),
        }
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }
}
