//! A checkpoint's side of text: which tokenizer and template it has, which ids end an answer, how it likes to be sampled.
//! Finds the files and fields; what is in them is `text`'s business.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Begun, EngineError};
use crate::checkpoint::{Checkpoint, GgufMetadata};
use crate::model::ModelConfig;
use crate::sampler::Sampling;
use crate::text::{
    ChatTemplate, GgufVocab, Message, ReasoningSplitter, RenderOptions, SpecialTokens, TextError, Tokenizer,
    special_tokens_from_tokenizer_config, template_from_tokenizer_config,
};

/// Tokens that end an answer in some template although no config of the checkpoint may say so.
const TURN_ENDS: [&str; 3] = ["<|im_end|>", "<｜end▁of▁sentence｜>", "<|EOT|>"];

/// Everything about text that a checkpoint brings.
pub(super) struct Language {
    pub tokenizer: Option<Tokenizer>,
    pub template: Option<ChatTemplate>,
    /// Fed once before plain text.
    pub bos: Option<u32>,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
    /// Its answers may begin with reasoning.
    pub reasons: bool,
    /// What `generation_config.json` recommends, or what suits the kind of model.
    pub sampling: Sampling,
    is_gguf: bool,
}

/// A prompt ready to be fed.
pub(super) struct Prompt {
    pub ids: Vec<u32>,
    pub splitter: ReasoningSplitter,
}

impl Language {
    pub fn read(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Self, EngineError> {
        let path = checkpoint.path();
        let text = |source| EngineError::Text { path: path.to_path_buf(), source };
        let rows = config.vocab_size;
        let mut found = match checkpoint.gguf() {
            Some(metadata) => {
                let in_file = |error: crate::checkpoint::CheckpointError| error.in_file(path);
                let vocab = gguf_vocab(metadata).map_err(in_file)?;
                from_gguf(metadata, vocab, config).map_err(in_file)?.finish().map_err(text)?
            }
            None => hugging_face(checkpoint, config)?,
        };
        if let Some(tokenizer) = &found.tokenizer {
            found.eos.extend(TURN_ENDS.iter().filter_map(|token| tokenizer.token_id(token)));
        }
        found.eos.retain(|&id| (id as usize) < rows);
        found.eos.sort_unstable();
        found.eos.dedup();
        found.bos = found.bos.filter(|&id| (id as usize) < rows);
        Ok(found)
    }

    /// Ids below this may be sampled.
    pub fn tokens(&self, config: &ModelConfig) -> usize {
        self.tokenizer.as_ref().map_or(config.vocab_size, |tokenizer| tokenizer.len().min(config.vocab_size))
    }

    pub fn chat(&self, path: &Path, messages: &[Message], thinking: Option<bool>, begun: Option<&Begun>) -> Result<Prompt, EngineError> {
        let tokenizer = self.tokenizer(path)?;
        let Some(template) = &self.template else {
            let expected = if self.is_gguf { "metadata `tokenizer.chat_template`" } else { "chat_template in tokenizer_config.json" };
            return Err(EngineError::NoTemplate { path: path.to_path_buf(), expected });
        };
        let options = RenderOptions { add_generation_prompt: true, thinking, unix_secs: super::clock::unix_secs() };
        let failed = |source| EngineError::Text { path: path.to_path_buf(), source };
        let rendered = template.render(messages, &options).map_err(failed)?;
        let mut ids = template.encode(tokenizer, messages, &options).map_err(failed)?;
        let mut splitter = ReasoningSplitter::for_prompt(&rendered, self.reasons);
        if let Some(begun) = begun.filter(|begun| !begun.reasoning.is_empty() || !begun.text.is_empty()) {
            // What the splitter took out comes back: the tags around the reasoning.
            let tag = |name: &str| tokenizer.encode(name).map_err(failed);
            if !begun.reasoning.is_empty() {
                if !rendered.trim_end().ends_with("<think>") {
                    ids.extend(tag("<think>")?);
                }
                ids.extend(tokenizer.encode_plain(&begun.reasoning).map_err(failed)?);
            }
            if begun.text.is_empty() {
                splitter = ReasoningSplitter::new(true);
            } else {
                if !begun.reasoning.is_empty() {
                    ids.extend(tag("</think>")?);
                }
                ids.extend(tokenizer.encode_plain(&begun.text).map_err(failed)?);
                splitter = ReasoningSplitter::disabled();
            }
        }
        Ok(Prompt { ids, splitter })
    }

    pub fn text(&self, path: &Path, text: &str) -> Result<Prompt, EngineError> {
        let encoded = self.tokenizer(path)?.encode(text);
        let mut ids = encoded.map_err(|source| EngineError::Text { path: path.to_path_buf(), source })?;
        if let Some(bos) = self.bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(Prompt { ids, splitter: ReasoningSplitter::disabled() })
    }

    fn tokenizer(&self, path: &Path) -> Result<&Tokenizer, EngineError> {
        let expected = if self.is_gguf { "metadata `tokenizer.ggml.tokens`" } else { "tokenizer.json beside its tensors" };
        self.tokenizer.as_ref().ok_or_else(|| EngineError::NoTokenizer { path: path.to_path_buf(), expected })
    }
}

/// What the files say, before tokenizer and template are built.
struct Parts {
    tokenizer: Option<Result<Tokenizer, TextError>>,
    template: Option<String>,
    tokens: SpecialTokens,
    /// What the checkpoint is called, to tell generations apart.
    name: String,
    bos: Option<u32>,
    eos: Vec<u32>,
    sampling: Option<Sampling>,
    is_gguf: bool,
}

impl Parts {
    fn finish(self) -> Result<Language, TextError> {
        let tokenizer = self.tokenizer.transpose()?;
        let mut tokens = self.tokens;
        let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.as_ref()?.token_text(id)).unwrap_or_default().to_string();
        if tokens.bos.is_empty() {
            tokens.bos = text_of(self.bos);
        }
        if tokens.eos.is_empty() {
            tokens.eos = text_of(self.eos.first().copied());
        }
        let mut eos = self.eos;
        eos.extend(tokenizer.as_ref().and_then(|tokenizer| tokenizer.token_id(&tokens.eos)));
        let generation = tokenizer.as_ref().and_then(|tokenizer| ChatTemplate::pick_builtin(tokenizer, &self.name));
        let (template, reasons) = match (self.template, generation) {
            (Some(source), _) => {
                let reasons = source.contains("</think>");
                (Some(ChatTemplate::new(&source, tokens)?), reasons)
            }
            (None, Some(generation)) => (Some(ChatTemplate::builtin(generation, tokens)), generation.reasons()),
            (None, None) => (None, false),
        };
        let recommended = if reasons { Sampling { temperature: 0.6, top_p: 0.95, ..Sampling::default() } } else { Sampling::default() };
        let sampling = self.sampling.unwrap_or(recommended);
        Ok(Language { tokenizer, template, bos: self.bos, eos, reasons, sampling, is_gguf: self.is_gguf })
    }
}

fn gguf_vocab(metadata: &GgufMetadata) -> Result<Option<GgufVocab>, crate::checkpoint::CheckpointError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let Some(tokens) = metadata.str_array(&key("tokens"))? else { return Ok(None) };
    let text = |name: &str| Ok::<_, crate::checkpoint::CheckpointError>(metadata.str(&key(name))?.unwrap_or_default().to_string());
    Ok(Some(GgufVocab {
        model: text("model")?,
        pre: text("pre")?,
        tokens: tokens.to_vec(),
        types: metadata.i32_array(&key("token_type"))?.unwrap_or_default(),
        merges: metadata.str_array(&key("merges"))?.map(<[String]>::to_vec).unwrap_or_default(),
        scores: metadata.f32_array(&key("scores"))?.unwrap_or_default(),
        bos: metadata.u32(&key("bos_token_id"))?,
        eos: metadata.u32(&key("eos_token_id"))?,
        // Absent, it depends on the model: SentencePiece vocabularies want a BOS.
        add_bos: metadata.bool(&key("add_bos_token"))?.unwrap_or(metadata.str(&key("model"))? == Some("llama")),
        add_space_prefix: metadata.bool(&key("add_space_prefix"))?.unwrap_or(true),
    }))
}

fn from_gguf(metadata: &GgufMetadata, vocab: Option<GgufVocab>, config: &ModelConfig) -> Result<Parts, crate::checkpoint::CheckpointError> {
    let ends = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    let mut eos = config.eos.clone();
    for key in ends {
        eos.extend(metadata.u32(key)?);
    }
    let bos = vocab.as_ref().and_then(|vocab| vocab.bos);
    let add_bos = vocab.as_ref().is_some_and(|vocab| vocab.add_bos);
    let tokenizer = vocab.map(|vocab| Tokenizer::from_gguf(vocab, config.vocab_size));
    let text_of = |id: Option<u32>| match (&tokenizer, id) {
        (Some(Ok(tokenizer)), Some(id)) => tokenizer.token_text(id).unwrap_or_default().to_string(),
        _ => String::new(),
    };
    let tokens = SpecialTokens { bos: text_of(bos), eos: text_of(eos.first().copied()) };
    Ok(Parts {
        tokens,
        tokenizer,
        template: metadata.str("tokenizer.chat_template")?.map(str::to_string),
        name: metadata.str("general.name")?.unwrap_or_default().to_string(),
        bos: bos.filter(|_| add_bos),
        eos,
        sampling: None,
        is_gguf: true,
    })
}

fn hugging_face(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Language, EngineError> {
    let in_file = |name: &str| {
        let path = beside(checkpoint, name);
        move |source| EngineError::Text { path, source }
    };
    let tokenizer_config = json_file(checkpoint, "tokenizer_config.json")?;
    let read_config = in_file("tokenizer_config.json");
    let (template, template_file) = match checkpoint.side_file("chat_template.jinja")? {
        Some(bytes) => (Some(String::from_utf8_lossy(&bytes).into_owned()), "chat_template.jinja"),
        None => (template_from_tokenizer_config(&tokenizer_config).map_err(read_config)?, "tokenizer_config.json"),
    };
    let tokens = special_tokens_from_tokenizer_config(&tokenizer_config).map_err(in_file("tokenizer_config.json"))?;
    let tokenizer = match checkpoint.side_file("tokenizer.json")? {
        Some(bytes) => Some(Tokenizer::from_json(&bytes, config.vocab_size).map_err(in_file("tokenizer.json"))?),
        None => None,
    };
    let adds_bos = tokenizer_config["add_bos_token"].as_bool().unwrap_or(true);
    // The whole path: `.` has no name of its own.
    let folder = std::path::absolute(beside(checkpoint, "")).unwrap_or_default();
    let folder = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let generation = "generation_config.json";
    let sampling = recommended_sampling(&json_file(checkpoint, generation)?, &beside(checkpoint, generation))?;
    let parts = Parts {
        tokenizer: tokenizer.map(Ok),
        template,
        tokens,
        name: format!("{folder} {}", config.model_type),
        bos: config.bos.filter(|_| adds_bos),
        eos: config.eos.clone(),
        sampling,
        is_gguf: false,
    };
    parts.finish().map_err(in_file(template_file))
}

/// The path of a file beside the tensors: in the directory, or next to the one safetensors file.
fn beside(checkpoint: &Checkpoint, name: &str) -> PathBuf {
    let path = checkpoint.path();
    if path.is_file() { path.with_file_name(name) } else { path.join(name) }
}

/// A JSON file beside the tensors, null if there is none.
fn json_file(checkpoint: &Checkpoint, name: &str) -> Result<Value, EngineError> {
    let Some(bytes) = checkpoint.side_file(name)? else { return Ok(Value::Null) };
    let path = beside(checkpoint, name);
    serde_json::from_slice(&bytes).map_err(|error| EngineError::Field {
        path,
        field: "content".into(),
        expected: "JSON",
        found: error.to_string(),
    })
}

/// The sampling that a `generation_config.json` asks for; none if it does not sample.
fn recommended_sampling(json: &Value, path: &Path) -> Result<Option<Sampling>, EngineError> {
    let wrong =
        |field: &str, expected, found: String| EngineError::Field { path: path.to_path_buf(), field: field.into(), expected, found };
    if json["do_sample"].as_bool() != Some(true) {
        return Ok(None);
    }
    let number = |name: &str, default: f32| match &json[name] {
        Value::Null => Ok(default),
        value => value.as_f64().map(|v| v as f32).ok_or_else(|| wrong(name, "a number", value.to_string())),
    };
    let sampling = Sampling {
        temperature: number("temperature", 1.0)?,
        top_k: match &json["top_k"] {
            Value::Null => 0,
            value => value.as_u64().and_then(|k| u32::try_from(k).ok()).ok_or_else(|| wrong("top_k", "a count", value.to_string()))?,
        },
        top_p: number("top_p", 1.0)?,
        min_p: number("min_p", 0.0)?,
        seed: 0,
    };
    sampling.check().map_err(|error| wrong(error.field, error.expected, error.found.to_string()))?;
    Ok(Some(sampling))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recommended_sampling_is_read_and_checked() {
        let read = |json: Value| recommended_sampling(&json, Path::new("generation_config.json"));
        assert_eq!(read(Value::Null).unwrap(), None);
        assert_eq!(read(json!({"do_sample": false, "temperature": 0.6})).unwrap(), None);
        let r1 = read(json!({"do_sample": true, "temperature": 0.6, "top_p": 0.95})).unwrap().unwrap();
        assert_eq!((r1.temperature, r1.top_p, r1.top_k), (0.6, 0.95, 0));
        for (json, expected) in [
            (json!({"do_sample": true, "temperature": "hot"}), "temperature: expected a number, found \"hot\""),
            (json!({"do_sample": true, "top_p": 7}), "top_p: expected a number above 0 and up to 1, found 7"),
            (json!({"do_sample": true, "top_k": -1}), "top_k: expected a count, found -1"),
        ] {
            assert_eq!(read(json).unwrap_err().to_string(), format!("generation_config.json: {expected}"));
        }
    }

    fn vocab(tokens: &[&str]) -> Tokenizer {
        let tokens: Vec<String> = tokens.iter().map(|token| (*token).to_string()).collect();
        let types = vec![3; tokens.len()];
        let vocab = GgufVocab { model: "gpt2".into(), pre: "deepseek-v3".into(), tokens, types, ..GgufVocab::default() };
        Tokenizer::from_gguf(vocab, 16).unwrap()
    }

    fn parts(tokens: &[&str], template: Option<&str>, name: &str) -> Parts {
        Parts {
            tokenizer: Some(Ok(vocab(tokens))),
            template: template.map(str::to_string),
            tokens: SpecialTokens::default(),
            name: name.into(),
            bos: Some(0),
            eos: vec![1],
            sampling: None,
            is_gguf: false,
        }
    }

    #[test]
    fn special_tokens_template_and_sampling_follow_the_vocabulary() {
        let deepseek = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<think>"];
        let r1 = parts(&deepseek, None, "DeepSeek-R1").finish().unwrap();
        assert!(r1.reasons);
        assert_eq!((r1.sampling.temperature, r1.sampling.top_p), (0.6, 0.95));
        assert_eq!(r1.template.unwrap().tokens().bos, deepseek[0]);
        let v3 = parts(&deepseek, None, "DeepSeek-V3").finish().unwrap();
        assert!(!v3.reasons && v3.sampling.is_greedy());
        let own = parts(&["<s>", "</s>"], Some("{{ bos_token }}{{ messages[0].content.split('</think>')[-1] }}"), "x").finish().unwrap();
        assert!(own.reasons && own.template.is_some());
        assert!(parts(&["<s>", "</s>"], None, "x").finish().unwrap().template.is_none());
        assert!(parts(&["<s>"], Some("{% if"), "x").finish().is_err());
    }

    #[test]
    fn a_begun_answer_follows_the_prompt_with_its_tags() {
        let tokens = ["<s>", "</s>", "<think>", "</think>", "a", "b", "c"].map(str::to_string).to_vec();
        let vocab =
            GgufVocab { model: "gpt2".into(), pre: "deepseek-v3".into(), tokens, types: vec![3, 3, 4, 4, 1, 1, 1], ..GgufVocab::default() };
        let language = |template: &str| {
            let tokenizer = Some(Ok(Tokenizer::from_gguf(vocab.clone(), 16).unwrap()));
            Parts { tokenizer, ..parts(&["<s>"], Some(template), "x") }.finish().unwrap()
        };
        let path = Path::new("m");
        let messages = [Message { role: crate::text::Role::User, content: "a".into() }];
        let begin = |language: &Language, reasoning: &str, text: &str, more: &str| {
            let begun = Begun { reasoning: reasoning.into(), text: text.into() };
            let mut prompt = language.chat(path, &messages, None, Some(&begun)).unwrap();
            let mut pieces = prompt.splitter.push(more);
            pieces.extend(prompt.splitter.finish());
            (prompt.ids, pieces)
        };
        let (reasoning, answer) =
            (|text: &str| crate::text::Piece::Reasoning(text.into()), |text: &str| crate::text::Piece::Answer(text.into()));
        // The model opens its reasoning itself.
        let own = language("{{ messages[0].content }}{# </think> #}");
        assert_eq!(begin(&own, "", "", "<think>b</think>c"), (vec![4], vec![reasoning("b"), answer("c")]));
        assert_eq!(begin(&own, "b", "", "b</think>c"), (vec![4, 2, 5], vec![reasoning("b"), answer("c")]));
        assert_eq!(begin(&own, "b", "c", "<think>"), (vec![4, 2, 5, 3, 6], vec![answer("<think>")]));
        assert_eq!(begin(&own, "", "cc", "c"), (vec![4, 6, 6], vec![answer("c")]));
        // The prompt has opened it.
        let opened = language("{{ messages[0].content }}<think>{# </think> #}");
        assert_eq!(begin(&opened, "b", "", "b</think>c"), (vec![4, 2, 5], vec![reasoning("b"), answer("c")]));
        assert_eq!(begin(&opened, "b", "c", "c"), (vec![4, 2, 5, 3, 6], vec![answer("c")]));
    }

    #[test]
    fn plain_text_gets_one_bos_and_missing_files_are_named() {
        let path = Path::new("m");
        let mut language = parts(&["<s>", "</s>"], None, "x").finish().unwrap();
        assert_eq!(language.text(path, "</s>").unwrap().ids, [0, 1]);
        assert_eq!(language.text(path, "<s></s>").unwrap().ids, [0, 1]);
        let message = [Message { role: crate::text::Role::User, content: "hi".into() }];
        let error = language.chat(path, &message, None, None).err().unwrap().to_string();
        assert!(error.contains("m has no chat template: expected chat_template in tokenizer_config.json"), "{error}");
        language.tokenizer = None;
        let error = language.text(path, "x").err().unwrap().to_string();
        assert!(error.contains("m has no tokenizer: expected tokenizer.json"), "{error}");
    }
}
