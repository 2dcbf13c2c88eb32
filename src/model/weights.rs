//! The model's weights on the device, under the checkpoint's names; what is read together lies together.

use super::arrange::{Arrangement, Columns};
use super::config::SourceLayout;
use super::llama;
use super::load::{Loader, Origin, Piece};
use super::{ModelConfig, ModelError};
use crate::checkpoint::{Checkpoint, CheckpointError, Matrix, Scale, WeightFormat};
use crate::gpu::Tensor;
use crate::kernels::{MAX_EXPERTS, RouterSettings, Weight};

pub struct Weights {
    pub embed_tokens: Weight,
    pub layers: Vec<Layer>,
    pub norm: Tensor,
    /// None when tied to `embed_tokens`.
    pub lm_head: Option<Weight>,
    /// Where rows of `q_b_proj` go, by quads.
    pub q_quads: Tensor,
    /// Where rows of the first projection go, by quads.
    pub inward_quads: Tensor,
}

pub struct Layer {
    pub input_layernorm: Tensor,
    pub attention: Attention,
    pub post_attention_layernorm: Tensor,
    pub ffn: Ffn,
}

pub struct Attention {
    /// All that reads the layer's input: `q_proj` or `q_a_proj`, then `kv_a_proj_with_mqa`.
    pub inward: Weight,
    pub inward_bias: Option<Tensor>,
    /// With a latent for queries.
    pub q_lora: Option<QueryLora>,
    pub kv_a_layernorm: Tensor,
    /// The key half of `kv_b_proj`, `[heads * nope, c]`; none when `nope` is 0.
    pub kv_b_key: Option<Weight>,
    /// The value half of `kv_b_proj`, `[heads * v, c]`; none where a head's latent is its value.
    pub kv_b_value: Option<Weight>,
    pub o_proj: Weight,
    pub o_bias: Option<Tensor>,
}

pub struct QueryLora {
    pub q_a_layernorm: Tensor,
    pub q_b_proj: Weight,
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
    /// None where every row takes every expert.
    pub router: Option<Router>,
    /// The routed experts, then those of `shared_experts`.
    pub experts: Mlp,
    /// The shared FFN cut into experts of the routed ones' width, which every row takes.
    pub shared_experts: usize,
    /// The shared FFN by itself, where it cannot be cut so.
    pub shared: Option<Mlp>,
}

pub struct Router {
    pub gate: Weight,
    pub correction: Tensor,
    pub settings: RouterSettings,
}

/// Sizes as stored: what activations and weights are padded to.
pub fn pad(size: usize) -> usize {
    size.next_multiple_of(crate::kernels::BLOCK_COLS)
}

impl Weights {
    pub async fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Self, ModelError> {
        let llama = config.source == SourceLayout::Llama;
        let name = |hub: &'static str, gguf: &'static str| if llama { gguf } else { hub };
        let (hidden, vocab) = (config.hidden, config.vocab_size);
        let table = |name: &'static str| move |from| Ok(vec![Piece::all(Matrix::find(from, name, vocab, hidden)?)]);
        let embed_tokens =
            loader.weight("embed_tokens", [vocab, hidden], 4, table(name("model.embed_tokens.weight", "token_embd.weight"))).await?;
        let mut layers = vec![];
        for layer in 0..config.layers {
            layers.push(match config.source {
                SourceLayout::Llama => Layer::load_llama(config, loader, layer).await?,
                SourceLayout::HuggingFace => Layer::load(config, loader, layer).await?,
            });
        }
        let norm = loader.gain(name("model.norm.weight", "output_norm.weight"), hidden)?;
        let head = name("lm_head.weight", "output.weight");
        let lm_head = if config.tied { None } else { Some(loader.weight("lm_head", [vocab, hidden], 4, table(head)).await?) };
        let columns = Columns::of(config);
        let q_quads = loader.indices("q_quads", &Arrangement::of(&columns.of_queries(config)).quads)?;
        let inward_quads = loader.indices("inward_quads", &Arrangement::of(&columns.of_inward(config)).quads)?;
        Ok(Self { embed_tokens, layers, norm, lm_head, q_quads, inward_quads })
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
            input_layernorm: loader.gain(&format!("{at}.input_layernorm.weight"), hidden)?,
            attention: Attention::load(config, loader, &format!("{at}.self_attn")).await?,
            post_attention_layernorm: loader.gain(&format!("{at}.post_attention_layernorm.weight"), hidden)?,
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
    loader.weight(&name, [rows, cols], 4, pieces).await
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
        let columns = Columns::of(config);
        let (q_name, q_rows) = config.q_lora_rank.map_or(("q_proj", heads * (n + r)), |rank| ("q_a_proj", rank));
        let inward = Arrangement::of(&columns.of_inward(config));
        let inward_pieces = |from| {
            let q = Matrix::find(from, &format!("{at}.{q_name}.weight"), q_rows, hidden)?;
            let kv_a = Matrix::find(from, &format!("{at}.kv_a_proj_with_mqa.weight"), c + r, hidden)?;
            Ok(inward.pieces(&[Some(q), Some(kv_a)]))
        };
        let inward_weight = loader.weight(&format!("{at}.{q_name} and kv_a_proj"), [inward.len(), hidden], 4, inward_pieces).await?;
        let inward_bias = match config.attention_bias {
            false => None,
            true => {
                // `q_proj` has none.
                let mut bias = match config.q_lora_rank {
                    Some(rank) => loader.numbers(&format!("{at}.q_a_proj.bias"), rank, 0.0)?,
                    None => vec![0.0; q_rows],
                };
                bias.extend(loader.numbers(&format!("{at}.kv_a_proj_with_mqa.bias"), c + r, 0.0)?);
                Some(loader.values(&format!("{at} inward bias"), &inward.values(&bias))?)
            }
        };
        let q_lora = match config.q_lora_rank {
            None => None,
            Some(rank) => {
                let q = Arrangement::of(&columns.of_queries(config));
                let name = format!("{at}.q_b_proj.weight");
                let pieces = |from| Ok(q.pieces(&[Some(Matrix::find(from, &name, heads * (n + r), rank)?)]));
                Some(QueryLora {
                    q_a_layernorm: loader.gain(&format!("{at}.q_a_layernorm.weight"), rank)?,
                    q_b_proj: loader.weight(&name, [q.len(), rank], 4, pieces).await?,
                })
            }
        };
        let kv_b = format!("{at}.kv_b_proj.weight");
        let kv_b_key = match n {
            0 => None,
            _ => Some(loader.weight(&format!("{kv_b} (key)"), [heads * n, c], n, |from| kv_b_half(config, from, &kv_b, 0, n)).await?),
        };
        Ok(Self {
            inward: inward_weight,
            inward_bias,
            q_lora,
            kv_a_layernorm: loader.gain(&format!("{at}.kv_a_layernorm.weight"), c)?,
            kv_b_key,
            kv_b_value: Some(
                loader.weight(&format!("{kv_b} (value)"), [heads * v, c], v, |from| kv_b_half(config, from, &kv_b, n, v)).await?,
            ),
            o_proj: plain(loader, format!("{at}.o_proj.weight"), [hidden, heads * v]).await?,
            o_bias: match config.attention_bias {
                true => Some(loader.vector(&format!("{at}.o_proj.bias"), hidden, pad(hidden), 0.0)?),
                false => None,
            },
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

    /// All routed experts as one pair of weights, whichever way the checkpoint holds them (DEEPSEEK.md §8.5), then `shared` ones cut
    /// from the shared FFN.
    async fn load_experts(loader: &mut Loader<'_>, at: &str, sizes: ExpertSizes) -> Result<Self, ModelError> {
        let ExpertSizes { experts, shared, width, hidden } = sizes;
        let total = experts + shared;
        let gate_up = |from| sizes.gate_up(from, at);
        let down = |from| sizes.down(from, at);
        Ok(Self {
            gate_up: loader.weight(&format!("{at}.experts.gate_up_proj"), [total * 2 * width, hidden], 2 * width, gate_up).await?,
            down: loader.weight(&format!("{at}.experts.down_proj"), [total * hidden, width], hidden, down).await?,
            width,
        })
    }
}

#[derive(Clone, Copy)]
struct ExpertSizes {
    experts: usize,
    /// Experts that the shared FFN is cut into.
    shared: usize,
    width: usize,
    hidden: usize,
}

impl ExpertSizes {
    /// Half `half` of the shared FFN.
    fn shared_half<'a>(&self, from: &'a Checkpoint, at: &str, half: &str) -> Result<Matrix<'a>, CheckpointError> {
        Matrix::find(from, &format!("{at}.shared_experts.{half}_proj.weight"), self.shared * self.width, self.hidden)
    }

    fn shared_down<'a>(&self, from: &'a Checkpoint, at: &str) -> Result<Matrix<'a>, CheckpointError> {
        Matrix::find(from, &format!("{at}.shared_experts.down_proj.weight"), self.hidden, self.shared * self.width)
    }

    /// Whether the shared FFN, of `shared_width` neurons, can be cut into experts that are stored as the routed ones are.
    fn can_share(mut self, from: &Checkpoint, at: &str, shared_width: usize) -> bool {
        self.shared = shared_width / self.width;
        if !shared_width.is_multiple_of(self.width) || self.experts + self.shared > MAX_EXPERTS {
            return false;
        }
        let alike = || -> Result<bool, CheckpointError> {
            let routed = Self { shared: 0, ..self };
            let format = |pieces: Vec<Piece>| match pieces.first() {
                Some(Piece::Rows(matrix, _)) => Some(matrix.format()),
                _ => None,
            };
            let up = format(routed.gate_up(from, at)?);
            let is_up = up == Some(self.shared_half(from, at, "gate")?.format()) && up == Some(self.shared_half(from, at, "up")?.format());
            let down = format(routed.down(from, at)?);
            let all = self.shared_down(from, at)?;
            let part = |e: usize| all.clone().columns(e * self.width..(e + 1) * self.width);
            Ok(is_up && (0..self.shared).all(|e| part(e).is_ok_and(|part| down == Some(part.format()))))
        };
        // What is wrong with the tensors is said when they are loaded.
        alike().unwrap_or(false)
    }

    fn gate_up<'a>(&self, from: &'a Checkpoint, at: &str) -> Result<Vec<Piece<'a>>, CheckpointError> {
        let Self { experts, shared, width, hidden } = *self;
        let mut pieces = match ExpertNames::of(from, at) {
            ExpertNames::Fused => {
                vec![Piece::all(Matrix::find(from, &format!("{at}.experts.gate_up_proj"), experts * 2 * width, hidden)?)]
            }
            ExpertNames::Switch => {
                let half = |half: &str| Matrix::find(from, &format!("{at}.switch_mlp.{half}_proj.weight"), experts * width, hidden);
                halves(&half("gate")?, &half("up")?, experts, width)
            }
            ExpertNames::Each => {
                let one = |half: &str, e: usize| {
                    Ok(Piece::all(Matrix::find(from, &format!("{at}.experts.{e}.{half}_proj.weight"), width, hidden)?))
                };
                (0..experts).flat_map(|e| [one("gate", e), one("up", e)]).collect::<Result<Vec<_>, CheckpointError>>()?
            }
        };
        if shared > 0 {
            pieces.extend(halves(&self.shared_half(from, at, "gate")?, &self.shared_half(from, at, "up")?, shared, width));
        }
        Ok(pieces)
    }

    fn down<'a>(&self, from: &'a Checkpoint, at: &str) -> Result<Vec<Piece<'a>>, CheckpointError> {
        let Self { experts, shared, width, hidden } = *self;
        let mut pieces = match ExpertNames::of(from, at) {
            ExpertNames::Fused => vec![Piece::all(Matrix::find(from, &format!("{at}.experts.down_proj"), experts * hidden, width)?)],
            ExpertNames::Switch => {
                vec![Piece::all(Matrix::find(from, &format!("{at}.switch_mlp.down_proj.weight"), experts * hidden, width)?)]
            }
            ExpertNames::Each => {
                let one = |e: usize| Ok(Piece::all(Matrix::find(from, &format!("{at}.experts.{e}.down_proj.weight"), hidden, width)?));
                (0..experts).map(one).collect::<Result<Vec<_>, CheckpointError>>()?
            }
        };
        if shared > 0 {
            let all = self.shared_down(from, at)?;
            for e in 0..shared {
                pieces.push(Piece::all(all.clone().columns(e * width..(e + 1) * width)?));
            }
        }
        Ok(pieces)
    }
}

/// Each expert's rows of the gate, then of up.
fn halves<'a>(gate: &Matrix<'a>, up: &Matrix<'a>, experts: usize, width: usize) -> Vec<Piece<'a>> {
    let cut = |matrix: &Matrix<'a>, e: usize| Piece::Rows(matrix.clone(), e * width..(e + 1) * width);
    (0..experts).flat_map(|e| [cut(gate, e), cut(up, e)]).collect()
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
        let hidden = config.hidden;
        let router = match moe.router {
            None => None,
            Some(config) => Some(Router {
                gate: plain(loader, format!("{at}.gate.weight"), [moe.experts, hidden]).await?,
                correction: match config.corrected {
                    true => loader.vector(&format!("{at}.gate.e_score_correction_bias"), moe.experts, moe.experts, 0.0)?,
                    false => loader.values("no correction", &vec![0.0; moe.experts])?,
                },
                settings: config.settings,
            }),
        };
        let sizes = ExpertSizes { experts: moe.experts, shared: 0, width: moe.width, hidden };
        let cut = match loader.origin {
            Origin::Checkpoint(from) if moe.shared_width > 0 && !sizes.can_share(from, at, moe.shared_width) => 0,
            _ => moe.shared_experts(),
        };
        let shared = match moe.shared_width - cut * moe.width {
            0 => None,
            width => Some(Mlp::load(config, loader, &format!("{at}.shared_experts"), width).await?),
        };
        Ok(Self {
            router,
            experts: Mlp::load_experts(loader, at, ExpertSizes { shared: cut, ..sizes }).await?,
            shared_experts: cut,
            shared,
        })
    }
}

/// Llama layers, read as this module's parent says of [`llama`].
impl Layer {
    async fn load_llama(config: &ModelConfig, loader: &mut Loader<'_>, layer: usize) -> Result<Self, ModelError> {
        let at = format!("blk.{layer}");
        let hidden = config.hidden;
        let ffn = match &config.moe {
            None => Ffn::Dense(Mlp::load_llama(config, loader, &at, 0..config.intermediate, 1).await?),
            Some(moe) => {
                // Neurons of the shared FFN come last, so that it can be cut into experts like the routed ones.
                let cut = moe.shared_experts();
                let routed = (moe.experts + cut) * moe.width;
                let shared = match config.intermediate - routed {
                    0 => None,
                    _ => Some(Mlp::load_llama(config, loader, &at, routed..config.intermediate, 1).await?),
                };
                Ffn::Moe(Moe {
                    router: None,
                    experts: Mlp::load_llama(config, loader, &at, 0..routed, moe.experts + cut).await?,
                    shared_experts: cut,
                    shared,
                })
            }
        };
        Ok(Self {
            input_layernorm: loader.gain(&format!("{at}.attn_norm.weight"), hidden)?,
            attention: Attention::load_llama(config, loader, &at).await?,
            post_attention_layernorm: loader.gain(&format!("{at}.ffn_norm.weight"), hidden)?,
            ffn,
        })
    }
}

impl Attention {
    async fn load_llama(config: &ModelConfig, loader: &mut Loader<'_>, at: &str) -> Result<Self, ModelError> {
        let (hidden, heads, c, head_dim) = (config.hidden, config.heads, config.kv_lora_rank, config.v_dim);
        let width = config.groups * head_dim;
        let columns = Columns::of(config);
        let inward = Arrangement::of(&columns.of_inward(config));
        let pieces = |from| {
            let q = Matrix::find(from, &format!("{at}.attn_q.weight"), heads * head_dim, hidden)?;
            let value = Matrix::find(from, &format!("{at}.attn_v.weight"), width, hidden)?;
            let key = Matrix::find(from, &format!("{at}.attn_k.weight"), width, hidden)?;
            // Between values and keys the constant, which is all bias.
            Ok(inward.pieces(&[Some(q), Some(value), None, Some(key)]))
        };
        let mut bias = vec![0.0; heads * head_dim + c + width];
        bias[heads * head_dim + width] = llama::CONSTANT;
        let mut norm = vec![llama::CONSTANT / (c as f32).sqrt(); config.groups * columns.head_latent];
        norm.resize(columns.latent, 0.0);
        // A row of heads' latents is a row of their values, unless these are padded.
        let kv_b_value = match columns.head_latent == head_dim {
            true => None,
            false => Some(Self::identities(loader, heads, head_dim)?),
        };
        Ok(Self {
            inward: loader.weight(&format!("{at}.attn_q, attn_v and attn_k"), [inward.len(), hidden], 4, pieces).await?,
            inward_bias: Some(loader.values("inward bias", &inward.values(&bias))?),
            q_lora: None,
            kv_a_layernorm: loader.gain_of("kv_a_layernorm", &norm)?,
            kv_b_key: None,
            kv_b_value,
            o_proj: plain(loader, format!("{at}.attn_output.weight"), [hidden, heads * head_dim]).await?,
            o_bias: None,
        })
    }

    /// For every head the value half of `kv_b_proj` that gives the latent without its padding.
    fn identities(loader: &mut Loader<'_>, heads: usize, dim: usize) -> Result<Weight, ModelError> {
        let format = WeightFormat::Affine { bits: 4, group: 128, scale: Scale::F16 };
        let weight = Weight::allocate(loader.gpu, "kv_b (identity)", format, [heads * dim, dim], dim)?;
        let row_bytes = format.row_bytes(pad(dim));
        let mut identity = vec![0u8; heads * dim * row_bytes];
        for row in 0..heads * dim {
            let column = row % dim;
            identity[row * row_bytes + column / 2] = 1 << (4 * (column % 2));
        }
        let scale = [half::f16::ONE.to_le_bytes(), half::f16::ZERO.to_le_bytes()].concat();
        let scales = scale.repeat(heads * dim * format.scale_row_bytes(pad(dim)) / scale.len());
        weight.writer(loader.gpu).push(&identity, &scales);
        Ok(weight)
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
            let half = |half: &str| Matrix::find(from, &format!("{at}.ffn_{half}.weight"), config.intermediate, hidden);
            let (gate, up) = (half("gate")?, half("up")?);
            Ok((0..experts).flat_map(|e| [&gate, &up].map(|half| Piece::Rows(half.clone(), part(e)))).collect())
        };
        let down = |from| {
            let all = Matrix::find(from, &format!("{at}.ffn_down.weight"), hidden, config.intermediate)?;
            (0..experts).map(|e| Ok(Piece::all(all.clone().columns(part(e))?))).collect()
        };
        Ok(Self {
            gate_up: loader.weight(&format!("{at}.ffn gate_up"), [experts * 2 * width, hidden], 2 * width, gate_up).await?,
            down: loader.weight(&format!("{at}.ffn down"), [experts * hidden, width], hidden, down).await?,
            width,
        })
    }
}
