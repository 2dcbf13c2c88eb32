//! Model files: Hugging Face directories of safetensors (DEEPSEEK.md §8) and GGUF. Finds tensors, checks everything a header
//! claims before it is believed, and packs matrices into the layouts the kernels read ([`Matrix`], [`WeightFormat`]).
//!
//! Leaves to others: what tensors and settings mean (`model`), tokenizers and templates (`text`), the device (`gpu`).

mod error;
mod formats;
pub mod gguf;
mod gguf_metadata;
mod hugging_face;
mod matrix;
mod pack;
pub mod safetensors;
mod source;
mod tensor;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use error::CheckpointError;
pub use formats::{BLOCK_COLS, FP8_BLOCK, Scale, WeightFormat, bf16_to_f32, decode_row, e4m3_to_f32, e8m0_to_f32, f16_to_f32};
pub use gguf_metadata::{GgufArray, GgufMetadata, GgufValue};
pub use hugging_face::check_quantization_config;
pub use matrix::Matrix;
pub use tensor::{Dtype, TensorEntry, TensorView};

use crate::files::{Extent, ReadAt, Source};

/// An open model: its tensors, mapped, and its settings.
#[derive(Debug)]
pub struct Checkpoint {
    layout: Layout,
    /// What was opened.
    path: PathBuf,
    files: Vec<Source>,
    /// By name: the number of the file, and what its header says.
    tensors: BTreeMap<String, (usize, TensorEntry)>,
}

#[derive(Debug)]
enum Layout {
    /// `dir` has the files beside the tensors.
    HuggingFace {
        config: Value,
        dir: PathBuf,
    },
    Gguf(GgufMetadata),
}

impl Checkpoint {
    /// Opens a directory in the Hugging Face layout, a `.safetensors` file with its `config.json` beside it, or a GGUF file.
    ///
    /// # Errors
    /// A file that is absent or not what it must be, a header that does not hold together, a quantisation that is not read.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if source::is_dir(path)? {
            return hugging_face::open_dir(path);
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            return hugging_face::open_file(path);
        }
        let file = source::open(path)?;
        let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
        let begin = file.read(0..file.size_bytes().min(gguf::MAGIC.len() as u64)).map_err(io)?;
        if *begin != gguf::MAGIC {
            return Err(CheckpointError::file(path, "a model directory, a GGUF or a .safetensors file", "something else"));
        }
        let parsed = gguf::parse_file(&file).map_err(|error| error.in_file(path))?;
        let tensors = parsed.tensors.into_iter().map(|entry| (entry.name.clone(), (0, entry))).collect();
        Ok(Self { layout: Layout::Gguf(parsed.metadata), path: path.to_path_buf(), files: vec![file], tensors })
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, (file, entry)) = self.tensors.get_key_value(name)?;
        let bytes = Extent::new(&self.files[*file], entry.begin..entry.end);
        Some(TensorView { name, dtype: entry.dtype, shape: entry.shape.clone(), bytes })
    }

    /// All tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The file that holds a tensor; what was opened, if none does.
    pub fn file_of(&self, name: &str) -> &Path {
        self.tensors.get(name).map_or(&self.path, |(file, _)| self.files[*file].path())
    }

    /// The `config.json` of a Hugging Face checkpoint.
    pub fn config(&self) -> Option<&Value> {
        match &self.layout {
            Layout::HuggingFace { config, .. } => Some(config),
            Layout::Gguf(_) => None,
        }
    }

    /// The metadata of a GGUF file.
    pub fn gguf(&self) -> Option<&GgufMetadata> {
        match &self.layout {
            Layout::HuggingFace { .. } => None,
            Layout::Gguf(metadata) => Some(metadata),
        }
    }

    /// A file beside the tensors, such as `tokenizer.json`; none if there is no such file. A GGUF file has none.
    ///
    /// # Errors
    /// A file that cannot be read or is larger than 256 MiB.
    pub fn side_file(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        assert!(source::is_plain_name(name), "a file name: {name}");
        match &self.layout {
            Layout::HuggingFace { dir, .. } => source::read_limited(&dir.join(name), source::SIDE_FILE_LIMIT_BYTES),
            Layout::Gguf(_) => Ok(None),
        }
    }

    /// Gives the pages read so far back to the system, so that loading does not fill the memory with what is on the device.
    pub fn release_pages(&self) {
        self.files.iter().for_each(Source::release_pages);
    }
}

/// Whether the checkpoint has a tensor of this name.
pub fn exists(checkpoint: &Checkpoint, name: &str) -> bool {
    checkpoint.tensors.contains_key(name)
}

/// A vector `[len]`, such as a norm's weight or a bias, as f32: exact but for F64, which is rounded.
///
/// # Errors
/// No such tensor, another shape, a dtype that is not a float, or a number that is not finite.
pub fn vector(checkpoint: &Checkpoint, name: &str, len: usize) -> Result<Vec<f32>, CheckpointError> {
    let wrong = |expected: String, found: String| CheckpointError::tensor(name, expected, found).in_file(checkpoint.file_of(name));
    let Some(view) = checkpoint.tensor(name) else {
        return Err(wrong(format!("[{len}]"), "no such tensor".into()));
    };
    if view.shape != [len] {
        return Err(wrong(format!("[{len}]"), format!("{:?}", view.shape)));
    }
    if !matches!(view.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
        return Err(wrong("F32, F16, BF16 or F64".into(), view.dtype.to_string()));
    }
    let bytes = tensor::read(name, &view.bytes, 0..view.bytes.size_bytes()).map_err(|error| error.in_file(checkpoint.file_of(name)))?;
    let values: Vec<f32> = (0..len).map(|i| formats::float_at(&bytes, view.dtype, i)).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(wrong("finite numbers".into(), format!("{} at {at}", values[at]))),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests;
