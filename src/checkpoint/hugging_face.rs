//! Directories in the Hugging Face layout: which files hold the tensors, and what `config.json` says of their quantisation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::error::shown;
use super::source::{is_plain_name, list, open, read_json_object};
use super::{Checkpoint, CheckpointError, FP8_BLOCK, Layout, safetensors};
use crate::files::Source;

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// Opens the shards that the index names, else `model.safetensors`, else the directory's only safetensors file.
pub(super) fn open_dir(dir: &Path) -> Result<Checkpoint, CheckpointError> {
    let config = read_config(dir)?;
    let index_path = dir.join(INDEX);
    let Some(index) = read_json_object(&index_path)? else {
        return assemble(dir, dir, config, vec![open(&dir.join(only_file(dir)?))?]);
    };
    let shard_of = read_weight_map(&index).map_err(|error| error.in_file(&index_path))?;
    let shards: BTreeSet<&str> = shard_of.values().copied().collect();
    let files = shards.iter().map(|shard| open(&dir.join(shard))).collect::<Result<Vec<_>, _>>()?;
    let checkpoint = assemble(dir, dir, config, files)?;
    for (name, shard) in shard_of {
        let found = match checkpoint.tensors.get(name) {
            Some((file, _)) if checkpoint.files[*file].path().ends_with(shard) => continue,
            Some(_) => format!("it in `{}`", checkpoint.file_of(name).display()),
            None => "no such tensor".to_string(),
        };
        return Err(CheckpointError::tensor(name, format!("to be in `{}`", shown(shard)), found).in_file(&index_path));
    }
    Ok(checkpoint)
}

/// Opens one safetensors file and the `config.json` beside it.
pub(super) fn open_file(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let dir = path.parent().unwrap_or(path);
    assemble(path, dir, read_config(dir)?, vec![open(path)?])
}

fn read_config(dir: &Path) -> Result<Value, CheckpointError> {
    let path = dir.join("config.json");
    let Some(config) = read_json_object(&path)? else {
        let found = match list(dir, "gguf") {
            Ok(names) if !names.is_empty() => format!("none, but `{}`: give that file instead", shown(&names[0])),
            _ => "none".to_string(),
        };
        return Err(CheckpointError::file(&path, "a file", found));
    };
    check_quantization_config(&config).map_err(|error| error.in_file(&path))?;
    Ok(config)
}

fn only_file(dir: &Path) -> Result<String, CheckpointError> {
    let mut names = list(dir, "safetensors")?;
    if names.iter().any(|name| name == SINGLE) {
        return Ok(SINGLE.to_string());
    }
    match (names.pop(), names.len()) {
        (Some(name), 0) => Ok(name),
        (last, rest) => {
            let found = format!("{} safetensors files", rest + usize::from(last.is_some()));
            Err(CheckpointError::file(dir, format!("{INDEX}, {SINGLE} or one .safetensors file"), found))
        }
    }
}

fn read_weight_map(index: &Value) -> Result<BTreeMap<&str, &str>, CheckpointError> {
    let Some(map) = index.get("weight_map").and_then(Value::as_object) else {
        let found = index.get("weight_map").map_or("nothing", kind_of);
        return Err(CheckpointError::field("weight_map", "an object of file names", found));
    };
    let check = |(name, shard): (&'_ String, &'_ Value)| match shard.as_str() {
        Some(shard) if is_plain_name(shard) => Ok(()),
        other => {
            let found = other.map_or(kind_of(shard).to_string(), |shard| format!("\"{}\"", shown(shard)));
            Err(CheckpointError::field(format!("weight_map `{}`", shown(name)), "the name of a file in this directory", found))
        }
    };
    map.iter().try_for_each(check)?;
    Ok(map.iter().filter_map(|(name, shard)| Some((name.as_str(), shard.as_str()?))).collect())
}

fn assemble(path: &Path, dir: &Path, config: Value, files: Vec<Source>) -> Result<Checkpoint, CheckpointError> {
    let mut tensors = BTreeMap::new();
    for (number, file) in files.iter().enumerate() {
        let entries = safetensors::parse_file(file).map_err(|error| error.in_file(file.path()))?;
        for entry in entries {
            let name = entry.name.clone();
            if let Some((other, entry)) = tensors.insert(name, (number, entry)) {
                let found = format!("another in `{}`", files[other].path().display());
                return Err(CheckpointError::tensor(&entry.name, "one such tensor", found).in_file(file.path()));
            }
        }
    }
    Ok(Checkpoint { layout: Layout::HuggingFace { config, dir: dir.to_path_buf() }, path: path.to_path_buf(), files, tensors })
}

/// Checks that `quantization_config` is absent, MLX's copy of `quantization`, or fp8 e4m3 in blocks of 128×128.
///
/// # Errors
/// The field that says something else.
pub fn check_quantization_config(config: &Value) -> Result<(), CheckpointError> {
    let Some(quantization) = config.get("quantization_config").filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let wrong = |field: &str, expected: String, found: &Value| {
        Err(CheckpointError::field(format!("quantization_config{field}"), expected, shown(&found.to_string())))
    };
    if !quantization.is_object() {
        return wrong("", "an object".into(), quantization);
    }
    let expected_fields = [
        ("quant_method", Value::from("fp8")),
        ("fmt", Value::from("e4m3")),
        ("weight_block_size", Value::from(vec![FP8_BLOCK, FP8_BLOCK])),
    ];
    for (field, expected) in expected_fields {
        match quantization.get(field) {
            Some(found) if *found != expected => return wrong(&format!(".{field}"), expected.to_string(), found),
            _ => {}
        }
    }
    Ok(())
}

/// What a JSON value is, for errors.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
