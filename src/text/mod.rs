//! Text in and out of token ids: tokenizers (`tokenizer.json`, GGUF vocabularies), chat templates, streamed decoding,
//! reasoning and stop strings. Knows nothing of GPUs, of checkpoint files or of sampling: callers hand over bytes, strings
//! and ids. All of it may come from strangers and is checked before use.

mod builtin;
mod prompt;
mod reasoning;
mod spm;
mod stop;
mod stream;
mod template;
mod tokenizer;
mod tokenizer_json;
mod vocab;

pub use builtin::Generation;
pub use prompt::{special_tokens_from_tokenizer_config, template_from_tokenizer_config};
pub use reasoning::{Piece, ReasoningSplitter};
pub use stop::StopStrings;
pub use stream::StreamDecoder;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use template::strftime;
pub use template::{ChatTemplate, Message, RenderOptions, Role, SpecialTokens};
pub use tokenizer::Tokenizer;
pub use vocab::GgufVocab;

/// What can be wrong with a tokenizer, a template or their input.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A field of the tokenizer's file does not hold what it must.
    #[error("{field}: expected {expected}, found {found}")]
    Field { field: String, expected: String, found: String },
    /// The embedding has no row for a token.
    #[error("token `{token}`: expected an id below {rows} (the rows of the embedding), found {id}")]
    IdPastEmbedding { token: String, id: u64, rows: usize },
    /// An id to decode that no token has.
    #[error("token id: expected one of the vocabulary's {len}, found {id}")]
    UnknownId { id: u32, len: usize },
    #[error("tokenizer.json: expected JSON, found an error: {0}")]
    Json(#[from] serde_json::Error),
    /// The tokenizers crate refused a part of the tokenizer or a text.
    #[error("{what}: {source}")]
    Tokenizers { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// The chat template does not compile.
    #[error("chat template, line {line}: expected a valid template, found {detail}")]
    TemplateSyntax { line: usize, detail: String },
    /// The chat template failed while rendering.
    #[error("chat template, line {line}: {detail}")]
    TemplateRun { line: usize, detail: String },
    /// The chat template called `raise_exception`.
    #[error("the chat template refused the messages: {0}")]
    TemplateRefused(String),
    /// The chat template asked for more than it may.
    #[error("chat template: expected {what} of at most {limit}, found more")]
    TemplateLimit { what: &'static str, limit: u64 },
}

impl TextError {
    fn field(field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Field { field: field.into(), expected: expected.into(), found: found.into() }
    }
}

/// Outside text fit for one line of an error: escaped and cut.
fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut out: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}
