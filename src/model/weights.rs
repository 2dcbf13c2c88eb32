//! The model's weights on the device, under the checkpoint's names.
//!
//! Rows stay in the checkpoint's order; where a result needs another layout (a head's rotary part apart from the rest,
//! padding), a table of columns says where each row's result goes.

use super::config::SourceLayout;
use super::llama::{self, Shape};
use super::load::{Loader, Piece};
use super::{ModelConfig, ModelError};
use crate::checkpoint::{Checkpoint, CheckpointError, Matrix};
use crate::gpu::Tensor;
use crate::kernels::Weight;

pub struct Weights {
    pub embed_tokens: Weight,
    pub layers: Vec<Layer>,
    pub norm: Tensor,
    /// None when tied to `embed_tokens`.
    pub lm_head: Option<Weight>,
    /// Where rows of `q_proj` or `q_b_proj` go: `[heads * (nope + rope)]`
    pub q_columns: Tensor,
    /// Where rows of `kv_a_proj_with_mqa` go.
    pub kv_a_columns: Tensor,
}

pub struct Layer {
    pub input_layernorm: Tensor,
    pub attention: Attention,
    pub post_attention_layernorm: Tensor,
    pub ffn: Ffn,
}

pub struct Attention {
    pub q: Query,
    pub kv_a_proj_with_mqa: Weight,
    pub kv_a_bias: Option<Tensor>,
    pub kv_a_layernorm: Tensor,
    /// The key half of `kv_b_proj`, `[heads * nope, c]`; none when `nope` is 0.
    pub kv_b_key: Option<Weight>,
    /// The value half of `kv_b_proj`, `[heads * v, c]`.
    pub kv_b_value: Weight,
    pub o_proj: Weight,
    pub o_bias: Option<Tensor>,
}

#[allow(clippy::large_enum_variant, reason = "one a layer: a box would save nothing that counts")]
pub enum Query {
    Direct { q_proj: Weight },
    Lora { q_a_proj: Weight, q_a_bias: Option<Tensor>, q_a_layernorm: Tensor, q_b_proj: Weight },
}

/// `[gate ; up]` as one weight, and `down`.
pub struct Mlp {
    pub gate_up: Weight,
    pub down: Weight,
    pub width: usize,
}

#[allow(clippy::large_enum_variant, reason = "one a layer: a box would save nothing that counts")]
pub enum Ffn {
    Dense(Mlp),
    Moe(Moe),
}

pub struct Moe {
    pub gate: Weight,
    pub correction: Tensor,
    pub experts: Mlp,
    pub shared: Option<Mlp>,
}

/// Sizes as stored: what activations and weights are padded to.
pub fn pad(size: usize) -> usize {
    size.next_multiple_of(crate::kernels::BLOCK_COLS)
}

/// First column of the heads' rotary parts in a row of q: all nope parts come before.
pub fn q_rope_begin(config: &ModelConfig) -> usize {
    (config.heads * config.nope).next_multiple_of(4)
}

fn q_columns(config: &ModelConfig) -> Vec<u32> {
    let (n, r) = (config.nope, config.rope);
    let begin = q_rope_begin(config);
    if let SourceLayout::Llama(Shape { groups, head_dim }) = config.source {
        let block = |head: usize| begin + head * pad(r) + head / (config.heads / groups) * head_dim;
        return (0..config.heads).flat_map(|head| (0..head_dim).map(move |i| (block(head) + i) as u32)).collect();
    }
    let column = |head: usize, i: usize| if i < n { head * n + i } else { begin + head * pad(r) + rope_place(config, i - n) };
    (0..config.heads).flat_map(|head| (0..n + r).map(move |i| column(head, i) as u32)).collect()
}

/// Where rotary number i stands in pair order.
fn rope_place(config: &ModelConfig, i: usize) -> usize {
    let half = config.rope / 2;
    match config.rope_interleave {
        true => i,
        false if i < half => 2 * i,
        false => 2 * (i - half) + 1,
    }
}

fn kv_a_columns(config: &ModelConfig) -> Vec<u32> {
    let c = config.kv_lora_rank;
    let rotary = (0..config.rope).map(|i| (pad(c) + rope_place(config, i)) as u32);
    (0..c as u32).chain(rotary).collect()
}

impl Weights {
    pub async fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Self, ModelError> {
        let llama = matches!(config.source, SourceLayout::Llama(_));
        let name = |hub: &'static str, gguf: &'static str| if llama { gguf } else { hub };
        let (hidden, vocab) = (config.hidden, config.vocab_size);
        let table = |name: &'static str| move |from| Ok(vec![Piece::all(Matrix::find(from, name, vocab, hidden)?)]);
        let embed_tokens =
            loader.weight("embed_tokens", [vocab, hidden], 1, table(name("model.embed_tokens.weight", "token_embd.weight"))).await?;
        let mut layers = vec![];
        for layer in 0..config.layers {
            layers.push(match config.source {
                SourceLayout::Llama(shape) => Layer::load_llama(config, shape, loader, layer).await?,
                SourceLayout::HuggingFace => Layer::load(config, loader, layer).await?,
            });
        }
        let norm = loader.vector(name("model.norm.weight", "output_norm.weight"), hidden, pad(hidden), 1.0)?;
        let head = name("lm_head.weight", "output.weight");
        let lm_head = if config.tied { None } else { Some(loader.weight("lm_head", [vocab, hidden], 1, table(head)).await?) };
        let q_columns = loader.indices("q_columns", &q_columns(config))?;
        let kv_a_columns = loader.indices("kv_a_columns", &kv_a_columns(config))?;
        Ok(Self { embed_tokens, layers, norm, lm_head, q_columns, kv_a_columns })
    }

    pub fn head(&self) -> &Weight {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }
}

impl Layer {
    async fn load(config: &ModelConfig, loader: &mut Loader<'_>, layer: usize) -> Result<Self, ModelError> {
        let at = format!("model.layers.{layer}");
        let hidden = config.hidden;
        Ok(Self {
            input_layernorm: loader.vector(&format!("{at}.input_layernorm.weight"), hidden, pad(hidden), 1.0)?,
            attention: Attention::load(config, loader, &format!("{at}.self_attn")).await?,
            post_attention_layernorm: loader.vector(&format!("{at}.post_attention_layernorm.weight"), hidden, pad(hidden), 1.0)?,
            ffn: if config.is_moe(layer) {
                Ffn::Moe(Moe::load(config, loader, &format!("{at}.mlp")).await?)
            } else {
                Ffn::Dense(Mlp::load(config, loader, &format!("{at}.mlp"), config.intermediate).await?)
            },
        })
    }
}

/// A plain matrix under its own name.
async fn plain(loader: &mut Loader<'_>, name: String, [rows, cols]: [usize; 2]) -> Result<Weight, ModelError> {
    let pieces = |from| Ok(vec![Piece::all(Matrix::find(from, &name, rows, cols)?)]);
    loader.weight(&name, [rows, cols], 1, pieces).await
}

/// `count` rows of every head of kv_b from `skip` on: head by head it holds n key rows, then v value rows.
fn kv_b_half<'a>(
    config: &ModelConfig,
    from: &'a Checkpoint,
    name: &str,
    skip: usize,
    count: usize,
) -> Result<Vec<Piece<'a>>, CheckpointError> {
    let each = config.nope + config.v_dim;
    let matrix = Matrix::find(from, name, config.heads * each, config.kv_lora_rank)?;
    let rows = |head: usize| head * each + skip..head * each + skip + count;
    Ok((0..config.heads).map(|head| Piece::Rows(matrix.clone(), rows(head))).collect())
}

impl Attention {
    async fn load(config: &ModelConfig, loader: &mut Loader<'_>, at: &str) -> Result<Self, ModelError> {
        let (hidden, heads) = (config.hidden, config.heads);
        let (n, r, c, v) = (config.nope, config.rope, config.kv_lora_rank, config.v_dim);
        let bias = |loader: &mut Loader<'_>, name: &str, len: usize| match config.attention_bias {
            true => loader.vector(&format!("{at}.{name}.bias"), len, pad(len), 0.0).map(Some),
            false => Ok(None),
        };
        let q = match config.q_lora_rank {
            None => Query::Direct { q_proj: plain(loader, format!("{at}.q_proj.weight"), [heads * (n + r), hidden]).await? },
            Some(rank) => Query::Lora {
                q_a_proj: plain(loader, format!("{at}.q_a_proj.weight"), [rank, hidden]).await?,
                q_a_bias: bias(loader, "q_a_proj", rank)?,
                q_a_layernorm: loader.vector(&format!("{at}.q_a_layernorm.weight"), rank, pad(rank), 1.0)?,
                q_b_proj: plain(loader, format!("{at}.q_b_proj.weight"), [heads * (n + r), rank]).await?,
            },
        };
        let kv_b = format!("{at}.kv_b_proj.weight");
        let kv_b_key = match n {
            0 => None,
            _ => Some(loader.weight(&format!("{kv_b} (key)"), [heads * n, c], n, |from| kv_b_half(config, from, &kv_b, 0, n)).await?),
        };
        Ok(Self {
            q,
            kv_a_proj_with_mqa: plain(loader, format!("{at}.kv_a_proj_with_mqa.weight"), [c + r, hidden]).await?,
            kv_a_bias: bias(loader, "kv_a_proj_with_mqa", c + r)?,
            kv_a_layernorm: loader.vector(&format!("{at}.kv_a_layernorm.weight"), c, pad(c), 1.0)?,
            kv_b_key,
            kv_b_value: loader.weight(&format!("{kv_b} (value)"), [heads * v, c], v, |from| kv_b_half(config, from, &kv_b, n, v)).await?,
            o_proj: plain(loader, format!("{at}.o_proj.weight"), [hidden, heads * v]).await?,
            o_bias: bias(loader, "o_proj", hidden)?,
        })
    }
}

impl Mlp {
    async fn load(config: &ModelConfig, loader: &mut Loader<'_>, at: &str, width: usize) -> Result<Self, ModelError> {
        let hidden = config.hidden;
        let half = |from, half: &str| {
            Ok::<_, CheckpointError>(Piece::all(Matrix::find(from, &format!("{at}.{half}_proj.weight"), width, hidden)?))
        };
        let gate_up = |from| Ok(vec![half(from, "gate")?, half(from, "up")?]);
        Ok(Self {
            gate_up: loader.weight(&format!("{at}.gate_up_proj"), [2 * width, hidden], 2 * width, gate_up).await?,
            down: plain(loader, format!("{at}.down_proj.weight"), [hidden, width]).await?,
            width,
        })
    }

    /// All routed experts as one pair of weights, whichever way the checkpoint holds them (DEEPSEEK.md §8.5).
    async fn load_experts(
        config: &ModelConfig,
        loader: &mut Loader<'_>,
        at: &str,
        experts: usize,
        width: usize,
    ) -> Result<Self, ModelError> {
        let hidden = config.hidden;
        let gate_up = |from| match ExpertNames::of(from, at) {
            ExpertNames::Fused => {
                Ok(vec![Piece::all(Matrix::find(from, &format!("{at}.experts.gate_up_proj"), experts * 2 * width, hidden)?)])
            }
            ExpertNames::Switch => {
                let cut = |half: &str, e: usize| {
                    let matrix = Matrix::find(from, &format!("{at}.switch_mlp.{half}_proj.weight"), experts * width, hidden)?;
                    Ok(Piece::Rows(matrix, e * width..(e + 1) * width))
                };
                (0..experts).flat_map(|e| [cut("gate", e), cut("up", e)]).collect()
            }
            ExpertNames::Each => {
                let one = |half: &str, e: usize| {
                    Ok(Piece::all(Matrix::find(from, &format!("{at}.experts.{e}.{half}_proj.weight"), width, hidden)?))
                };
                (0..experts).flat_map(|e| [one("gate", e), one("up", e)]).collect()
            }
        };
        let down = |from| match ExpertNames::of(from, at) {
            ExpertNames::Fused => Ok(vec![Piece::all(Matrix::find(from, &format!("{at}.experts.down_proj"), experts * hidden, width)?)]),
            ExpertNames::Switch => {
                Ok(vec![Piece::all(Matrix::find(from, &format!("{at}.switch_mlp.down_proj.weight"), experts * hidden, width)?)])
            }
            ExpertNames::Each => {
                let one = |e: usize| Ok(Piece::all(Matrix::find(from, &format!("{at}.experts.{e}.down_proj.weight"), hidden, width)?));
                (0..experts).map(one).collect()
            }
        };
        Ok(Self {
            gate_up: loader.weight(&format!("{at}.experts.gate_up_proj"), [experts * 2 * width, hidden], 2 * width, gate_up).await?,
            down: loader.weight(&format!("{at}.experts.down_proj"), [experts * hidden, width], hidden, down).await?,
            width,
        })
    }
}

enum ExpertNames {
    Each,
    /// `experts.gate_up_proj` as transformers 5 holds them.
    Fused,
    /// `switch_mlp.*` as MLX holds them.
    Switch,
}

impl ExpertNames {
    fn of(from: &Checkpoint, at: &str) -> Self {
        if from.tensor(&format!("{at}.experts.gate_up_proj")).is_some() {
            Self::Fused
        } else if from.tensor(&format!("{at}.switch_mlp.gate_proj.weight")).is_some() {
            Self::Switch
        } else {
            Self::Each
        }
    }
}

impl Moe {
    async fn load(config: &ModelConfig, loader: &mut Loader<'_>, at: &str) -> Result<Self, ModelError> {
        let Some(moe) = &config.moe else { unreachable!("a MoE layer without a MoE config") };
        let correction = match moe.corrected {
            true => loader.vector(&format!("{at}.gate.e_score_correction_bias"), moe.experts, moe.experts, 0.0)?,
            false => loader.values("no correction", &vec![0.0; moe.experts])?,
        };
        let shared = match moe.shared_width {
            0 => None,
            width => Some(Mlp::load(config, loader, &format!("{at}.shared_experts"), width).await?),
        };
        Ok(Self {
            gate: plain(loader, format!("{at}.gate.weight"), [moe.experts, config.hidden]).await?,
            correction,
            experts: Mlp::load_experts(config, loader, at, moe.experts, moe.width).await?,
            shared,
        })
    }
}

/// Llama layers, read as this module's parent says of [`llama`].
impl Layer {
    async fn load_llama(config: &ModelConfig, shape: Shape, loader: &mut Loader<'_>, layer: usize) -> Result<Self, ModelError> {
        let at = format!("blk.{layer}");
        let hidden = config.hidden;
        let ffn = match &config.moe {
            None => Ffn::Dense(Mlp::load_llama(config, loader, &at, 0..config.intermediate, 1).await?),
            Some(moe) => Ffn::Moe(Moe {
                // Equal scores: every expert is chosen with weight 1 / experts, times the scaling factor.
                gate: loader.weight("router", [moe.experts, hidden], 1, |_| Ok(vec![Piece::Zeros(moe.experts)])).await?,
                correction: loader.values("no correction", &vec![0.0; moe.experts])?,
                experts: Mlp::load_llama(config, loader, &at, moe.shared_width..config.intermediate, moe.experts).await?,
                shared: Some(Mlp::load_llama(config, loader, &at, 0..moe.shared_width, 1).await?),
            }),
        };
        Ok(Self {
            input_layernorm: loader.vector(&format!("{at}.attn_norm.weight"), hidden, pad(hidden), 1.0)?,
            attention: Attention::load_llama(config, shape, loader, &at).await?,
            post_attention_layernorm: loader.vector(&format!("{at}.ffn_norm.weight"), hidden, pad(hidden), 1.0)?,
            ffn,
        })
    }
}

impl Attention {
    async fn load_llama(
        config: &ModelConfig,
        Shape { groups, head_dim }: Shape,
        loader: &mut Loader<'_>,
        at: &str,
    ) -> Result<Self, ModelError> {
        let (hidden, heads, c) = (config.hidden, config.heads, config.kv_lora_rank);
        let width = groups * head_dim;
        let kv_a = |from| {
            let value = Matrix::find(from, &format!("{at}.attn_v.weight"), width, hidden)?;
            let key = Matrix::find(from, &format!("{at}.attn_k.weight"), width, hidden)?;
            Ok(vec![Piece::all(value), Piece::Zeros(1), Piece::all(key)])
        };
        let mut bias = vec![0.0; c + width];
        bias[width] = llama::CONSTANT;
        let mut norm = vec![0.0; pad(c)];
        norm[..width].fill(llama::CONSTANT / (c as f32).sqrt());
        // Head h's values are its group's block of the latent.
        let mut identity = vec![0.0; heads * head_dim * pad(c)];
        for row in 0..heads * head_dim {
            let group = row / head_dim / (heads / groups);
            identity[row * pad(c) + group * head_dim + row % head_dim] = 1.0;
        }
        let kv_b_value =
            Weight::allocate(loader.gpu, "kv_b (identity)", crate::checkpoint::WeightFormat::Bf16, [heads * head_dim, c], head_dim)?;
        let packed: Vec<u8> = identity.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        kv_b_value.write_rows(loader.gpu, 0, &packed, &[]);
        Ok(Self {
            q: Query::Direct { q_proj: plain(loader, format!("{at}.attn_q.weight"), [heads * head_dim, hidden]).await? },
            kv_a_proj_with_mqa: loader.weight(&format!("{at}.kv_a"), [c + width, hidden], 1, kv_a).await?,
            kv_a_bias: Some(loader.values("kv_a bias", &bias)?),
            kv_a_layernorm: loader.values("kv_a_layernorm", &norm)?,
            kv_b_key: None,
            kv_b_value,
            o_proj: plain(loader, format!("{at}.attn_output.weight"), [hidden, heads * head_dim]).await?,
            o_bias: None,
        })
    }
}

impl Mlp {
    /// Neurons `neurons` of a Llama FFN, cut into `experts` equal parts.
    async fn load_llama(
        config: &ModelConfig,
        loader: &mut Loader<'_>,
        at: &str,
        neurons: std::ops::Range<usize>,
        experts: usize,
    ) -> Result<Self, ModelError> {
        let hidden = config.hidden;
        let width = neurons.len() / experts;
        let part = |e: usize| neurons.start + e * width..neurons.start + (e + 1) * width;
        let gate_up = |from| {
            let cut = |half: &str, e: usize| {
                Ok(Piece::Rows(Matrix::find(from, &format!("{at}.ffn_{half}.weight"), config.intermediate, hidden)?, part(e)))
            };
            (0..experts).flat_map(|e| [cut("gate", e), cut("up", e)]).collect()
        };
        let down = |from| {
            let cut = |e: usize| {
                Ok(Piece::all(Matrix::find(from, &format!("{at}.ffn_down.weight"), hidden, config.intermediate)?.columns(part(e))?))
            };
            (0..experts).map(cut).collect()
        };
        Ok(Self {
            gate_up: loader.weight(&format!("{at}.ffn gate_up"), [experts * 2 * width, hidden], 2 * width, gate_up).await?,
            down: loader.weight(&format!("{at}.ffn down"), [experts * hidden, width], hidden, down).await?,
            width,
        })
    }
}
