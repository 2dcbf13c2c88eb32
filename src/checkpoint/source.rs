//! Reading files: the only place of `checkpoint` that touches the file system. Model files are mapped, small ones are read
//! whole with a limit. What the bytes mean is left to the others.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;

use super::CheckpointError;

/// The most that is read whole: tokenizers have tens of megabytes.
pub const SIDE_FILE_LIMIT_BYTES: u64 = 256 << 20;

/// A model file, mapped for as long as this lives.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    map: Mmap,
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
        // Asked before opening: to open a pipe would wait for its other end.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(CheckpointError::file(path, "a regular file", "something else"));
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: the mapping is read-only and private to `Source`. Another program that shortens the file while it is
        // mapped ends this one with a signal, as with every mapped file; nothing read from it is trusted to stay the same.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path: path.to_path_buf(), map })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Lets the system drop the pages read so far; they come back from the file when read again.
    pub fn release_pages(&self) {
        #[cfg(unix)]
        // SAFETY: `DontNeed` discards changes of a private mapping; this one is read-only and has none.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

pub(super) fn is_dir(path: &Path) -> Result<bool, CheckpointError> {
    let metadata = fs::metadata(path).map_err(|source| CheckpointError::Io { path: path.to_path_buf(), source })?;
    Ok(metadata.is_dir())
}

/// The whole of a small file; none if there is no such file.
pub(super) fn read_limited(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if !metadata.is_file() {
        return Err(CheckpointError::file(path, "a regular file", "something else"));
    }
    let too_long = |len: u64| CheckpointError::file(path, format!("at most {limit_bytes} bytes"), format!("{len}"));
    if metadata.len() > limit_bytes {
        return Err(too_long(metadata.len()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit_bytes + 1).read_to_end(&mut bytes)).map_err(io)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(Some(bytes))
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
    let io = |source| CheckpointError::Io { path: dir.to_path_buf(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|found| found == extension)
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            names.push(name.to_string());
        }
    }
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
        let source = Source::open(file.path()).unwrap();
        source.release_pages();
        assert!(source.bytes().is_empty());
        assert_eq!(source.path(), file.path());
    }
}
