//! What can be wrong with model files.

use std::path::{Path, PathBuf};

/// One line each: where, what, expected, found.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused to read a file.
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file or directory is not what it must be.
    #[error("{}: expected {expected}, found {found}", .path.display())]
    File { path: PathBuf, expected: String, found: String },
    /// Something inside a file is wrong.
    #[error("{}: {error}", .path.display())]
    InFile { path: PathBuf, error: Box<CheckpointError> },
    #[error("expected JSON, found an error: {0}")]
    Json(#[from] serde_json::Error),
    /// A field of a header, of metadata or of a configuration.
    #[error("{field}: expected {expected}, found {found}")]
    Field { field: String, expected: String, found: String },
    /// A tensor is absent, or not of the dtype, shape or content it must have.
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    Tensor { name: String, expected: String, found: String },
}

impl CheckpointError {
    /// The same error, saying which file it is about.
    pub fn in_file(self, path: &Path) -> Self {
        Self::InFile { path: path.to_path_buf(), error: Box::new(self) }
    }

    pub(super) fn field(field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Field { field: field.into(), expected: expected.into(), found: found.into() }
    }

    pub(super) fn tensor(name: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Tensor { name: shown(name), expected: expected.into(), found: found.into() }
    }

    pub(super) fn file(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), expected: expected.into(), found: found.into() }
    }
}

/// Text out of a file, fit for one line of an error: control characters escaped, the end cut off.
pub(super) fn shown(text: &str) -> String {
    const LIMIT: usize = 160;
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        match character {
            _ if count == LIMIT => {
                out.push('…');
                break;
            }
            _ if character.is_control() => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_files_stay_on_one_short_line() {
        assert_eq!(shown("a\nb\u{1b}"), r"a\nb\u{1b}");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), 161);
        let error = CheckpointError::tensor("w\n", "[1]", "[2]").in_file(Path::new("m.gguf"));
        assert_eq!(error.to_string(), r"m.gguf: tensor `w\n`: expected [1], found [2]");
    }
}
