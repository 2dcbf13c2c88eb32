//! Models on this machine: what a header says of one, and whether it fits, before it is loaded.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::app::settings::ModelRef;
use crate::checkpoint::Checkpoint;
use crate::engine::default_model_path;
use crate::kernels::CacheFormat;
use crate::model::ModelConfig;

/// A model that was found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelEntry {
    pub model: ModelRef,
    pub path: PathBuf,
    pub name: String,
    /// What its header says, or the one-line reason why it cannot be opened.
    pub header: Result<ModelHeader, String>,
}

/// What can be told of a model without loading it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelHeader {
    /// `model_type` of the config.
    pub architecture: String,
    /// `GGUF` or `safetensors`.
    pub layout: Cow<'static, str>,
    /// The formats of its matrices, most bytes first, such as `Q4_1`.
    pub formats: String,
    pub weight_bytes: u64,
    pub cache_bytes_per_token: u64,
    pub max_positions: usize,
    pub layers: usize,
    /// Routed experts and how many of them a token takes; none without experts.
    pub experts: Option<(usize, usize)>,
}

/// Whether a model goes into the memory there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    Fits,
    /// With little room for context.
    Tight,
    TooLarge,
    /// The device does not tell its memory.
    Unknown,
}

/// Tokens of context that a comfortable fit has room for.
const COMFORTABLE_TOKENS: u64 = 4096;
/// Activations and staging, about.
const OVERHEAD_BYTES: u64 = 256 << 20;

impl ModelHeader {
    /// Whether it fits `memory_bytes`.
    pub fn fit(&self, memory_bytes: Option<u64>) -> Fit {
        let Some(memory) = memory_bytes else { return Fit::Unknown };
        let cache = self.cache_bytes_per_token.saturating_mul(COMFORTABLE_TOKENS.min(self.max_positions as u64));
        match self.weight_bytes {
            weights if weights > memory => Fit::TooLarge,
            weights if weights.saturating_add(cache).saturating_add(OVERHEAD_BYTES) > memory => Fit::Tight,
            _ => Fit::Fits,
        }
    }
}

/// What a model is called: its file's name without the ending, or its folder's.
pub fn model_name(path: &Path) -> String {
    let is_file = path.extension().is_some_and(|extension| extension == "gguf" || extension == "safetensors");
    let name = if is_file { path.file_stem() } else { path.file_name() };
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// How deep folders of models are searched: `publisher/model/file`.
const DEPTH: usize = 3;
/// Models and folders looked at, at the most: a home folder is not a folder of models.
const MOST_MODELS: usize = 200;
const MOST_FOLDERS: usize = 2000;

/// The embedded default, then the models of `paths` in their order, then those in `folders` by path; each once.
pub fn scan(folders: &[PathBuf], paths: &[PathBuf]) -> Vec<ModelEntry> {
    let mut seen = BTreeSet::new();
    let mut found = vec![];
    if let Ok(path) = default_model_path() {
        found.push((ModelRef::Default, path));
    }
    found.extend(paths.iter().map(|path| (ModelRef::Path(path.clone()), path.clone())));
    let mut room = MOST_FOLDERS;
    for folder in folders {
        let mut within = vec![];
        walk(folder, DEPTH, &mut room, &mut within);
        within.sort();
        found.extend(within.into_iter().map(|path| (ModelRef::Path(path.clone()), path)));
    }
    found.retain(|(_, path)| seen.insert(std::path::absolute(path).unwrap_or_else(|_| path.clone())));
    found.truncate(MOST_MODELS);
    let entry = |(model, path): (ModelRef, PathBuf)| ModelEntry { model, name: model_name(&path), header: header(&path), path };
    found.into_iter().map(entry).collect()
}

fn is_model_folder(folder: &Path) -> bool {
    folder.join("config.json").is_file()
}

/// GGUF files and model folders below `folder`; what cannot be read has none.
fn walk(folder: &Path, depth: usize, room: &mut usize, found: &mut Vec<PathBuf>) {
    if *room == 0 {
        return;
    }
    *room -= 1;
    if is_model_folder(folder) {
        return found.push(folder.to_path_buf());
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && depth > 0 {
            walk(&path, depth - 1, room, found);
        } else if path.extension().is_some_and(|extension| extension == "gguf") {
            found.push(path);
        }
    }
}

/// What a model's header says.
///
/// # Errors
/// The one-line reason why it cannot be opened.
pub fn header(path: &Path) -> Result<ModelHeader, String> {
    let checkpoint = Checkpoint::open(path).map_err(|error| error.to_string())?;
    let config = ModelConfig::from_checkpoint(&checkpoint).map_err(|error| error.to_string())?;
    let mut by_format: Vec<(String, u64)> = vec![];
    let mut weight_bytes = 0;
    for tensor in checkpoint.names().filter_map(|name| checkpoint.tensor(name)) {
        let (name, bytes) = (tensor.dtype.to_string(), tensor.bytes.size_bytes());
        weight_bytes += bytes;
        if tensor.shape.len() < 2 {
            continue;
        }
        match by_format.iter_mut().find(|(other, _)| *other == name) {
            Some((_, sum)) => *sum += bytes,
            None => by_format.push((name, bytes)),
        }
    }
    by_format.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let bits = checkpoint.config().and_then(|config| config["quantization"]["bits"].as_u64());
    let formats = match bits {
        // Packed into words, which would say nothing.
        Some(bits) => format!("affine {bits} bits"),
        None => by_format.iter().take(2).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
    };
    let is_gguf = checkpoint.gguf().is_some();
    Ok(ModelHeader {
        architecture: checkpoint
            .gguf()
            .and_then(|gguf| gguf.str("general.architecture").ok().flatten())
            .unwrap_or(&config.model_type)
            .to_string(),
        layout: Cow::Borrowed(if is_gguf { "GGUF" } else { "safetensors" }),
        formats,
        weight_bytes,
        cache_bytes_per_token: config.cache_bytes_per_token(CacheFormat::default()),
        max_positions: config.max_positions,
        layers: config.layers,
        // A dense model that is read as experts has none to choose from.
        experts: config.moe.as_ref().filter(|moe| moe.top_k < moe.experts).map(|moe| (moe.experts, moe.top_k)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_and_described_and_broken_ones_say_why() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2lite");
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("someone/tiny");
        std::fs::create_dir_all(&model).unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(golden.join(name), model.join(name)).unwrap();
        }
        std::fs::write(folder.path().join("broken.gguf"), b"GGUF????").unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"x").unwrap();
        let found = scan(&[folder.path().to_path_buf()], std::slice::from_ref(&model));
        let names: Vec<&str> = found.iter().filter(|entry| entry.model != ModelRef::Default).map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["tiny", "broken"], "each once, recent ones first");
        let tiny = found.iter().find(|entry| entry.name == "tiny").unwrap().header.clone().unwrap();
        assert_eq!((tiny.architecture.as_str(), &*tiny.layout, tiny.formats.as_str()), ("deepseek_v2", "safetensors", "BF16"));
        assert!(tiny.weight_bytes > 100_000 && tiny.experts.is_some(), "{tiny:?}");
        let broken = found.iter().find(|entry| entry.name == "broken").unwrap();
        assert!(broken.header.as_ref().unwrap_err().contains("broken.gguf"), "{:?}", broken.header);
    }

    #[test]
    fn a_fit_counts_weights_cache_and_overhead() {
        let header = ModelHeader {
            architecture: "deepseek_v2".into(),
            layout: "GGUF".into(),
            formats: "Q4_0".into(),
            weight_bytes: 1 << 30,
            cache_bytes_per_token: 1 << 16,
            max_positions: 1 << 20,
            layers: 27,
            experts: Some((64, 6)),
        };
        let gib = 1u64 << 30;
        assert_eq!(
            [Some(2 * gib), Some(gib + (300 << 20)), Some(gib - 1), None].map(|memory| header.fit(memory)),
            [Fit::Fits, Fit::Tight, Fit::TooLarge, Fit::Unknown]
        );
    }
}
