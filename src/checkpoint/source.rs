//! Opening files for `checkpoint`, with its errors: model files are read in parts, small ones whole with a limit. What the bytes
//! mean is left to the others.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::CheckpointError;
use crate::files::{self, ReadAt, Source};

/// The most that is read whole: tokenizers have tens of megabytes.
pub const SIDE_FILE_LIMIT_BYTES: u64 = 256 << 20;

/// Opens a model file.
pub(super) fn open(path: &Path) -> Result<Source, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    match files::is_file(path).map_err(io)? {
        true => Source::open(path).map_err(io),
        false => Err(CheckpointError::file(path, "a regular file", "something else")),
    }
}

pub(super) fn is_dir(path: &Path) -> Result<bool, CheckpointError> {
    files::is_dir(path).map_err(|source| CheckpointError::Io { path: path.to_path_buf(), source })
}

/// The whole of a small file; none if there is no such file.
pub(super) fn read_limited(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, CheckpointError> {
    let file = match open(path) {
        Ok(file) => file,
        Err(CheckpointError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size_bytes = file.size_bytes();
    if size_bytes > limit_bytes {
        return Err(CheckpointError::file(path, format!("at most {limit_bytes} bytes"), format!("{size_bytes}")));
    }
    let bytes = file.read(0..size_bytes).map_err(|source| CheckpointError::Io { path: path.to_path_buf(), source })?;
    Ok(Some(bytes.into_owned()))
}

/// A JSON object out of a small file; none if there is no such file.
pub(super) fn read_json_object(path: &Path) -> Result<Option<Value>, CheckpointError> {
    let Some(bytes) = read_limited(path, SIDE_FILE_LIMIT_BYTES)? else {
        return Ok(None);
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| CheckpointError::from(error).in_file(path))?;
    match value {
        Value::Object(_) => Ok(Some(value)),
        _ => Err(CheckpointError::file(path, "a JSON object", "another JSON value")),
    }
}

/// File names in a directory that end in `.extension`, sorted.
pub(super) fn list(dir: &Path, extension: &str) -> Result<Vec<String>, CheckpointError> {
    let mut names = files::list(dir).map_err(|source| CheckpointError::Io { path: dir.to_path_buf(), source })?;
    names.retain(|name| Path::new(name).extension().is_some_and(|found| found == extension));
    names.sort_unstable();
    Ok(names)
}

/// Whether `name` names a file directly inside a directory, on any system.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_plain_names_are_plain() {
        for name in ["", ".", "..", "a/b", "../a", "/etc/passwd", "a\\b", "C:a", "a\0"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        assert!(is_plain_name("model-00001-of-000163.safetensors") && is_plain_name("..a"));
    }

    #[test]
    fn limits_hold_and_absence_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        assert!(read_limited(&path, 10).unwrap().is_none());
        fs::write(&path, b"0123456789").unwrap();
        assert_eq!(read_limited(&path, 10).unwrap().unwrap(), b"0123456789");
        let error = read_limited(&path, 9).unwrap_err().to_string();
        assert!(error.ends_with("tokenizer.json: expected at most 9 bytes, found 10"), "{error}");
        assert!(read_limited(dir.path(), 9).unwrap_err().to_string().ends_with("expected a regular file, found something else"));
        assert!(read_json_object(&path).unwrap_err().to_string().contains("expected JSON, found an error: "));
        fs::write(&path, b"[]").unwrap();
        assert!(read_json_object(&path).unwrap_err().to_string().ends_with("expected a JSON object, found another JSON value"));
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = open(file.path()).unwrap();
        source.release_pages();
        assert!(source.size_bytes() == 0 && source.read(0..0).unwrap().is_empty());
        assert_eq!(source.path(), file.path());
    }
}
