//! Where the embedded default model is looked for.

use std::path::{Path, PathBuf};

use super::EngineError;
use crate::files::is_file;

/// The file name of the embedded default.
pub const DEFAULT_MODEL: &str = "smollm2-135m-instruct-q4_1.gguf";

/// Fathom's folder among the user's data, such as `~/.local/share/fathom`.
#[cfg(not(target_arch = "wasm32"))]
pub fn user_data_dir() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "fathom").map(|dirs| dirs.data_dir().to_path_buf())
}

/// A tab has no folders.
#[cfg(target_arch = "wasm32")]
pub fn user_data_dir() -> Option<PathBuf> {
    None
}

/// Fathom's folder for what can be made again, such as `~/.cache/fathom`.
#[cfg(not(target_arch = "wasm32"))]
pub fn user_cache_dir() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "fathom").map(|dirs| dirs.cache_dir().to_path_buf())
}

/// The embedded default: beside the program, in `./assets`, then in the user's data directory.
///
/// # Errors
/// `NoDefaultModel`, which says where to put the file.
pub fn default_model_path() -> Result<PathBuf, EngineError> {
    // In a tab the page mounts it at `assets`.
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let data = user_data_dir();
    first_file(&candidates(beside, data.as_deref())).ok_or_else(|| EngineError::NoDefaultModel {
        name: DEFAULT_MODEL,
        place: data.map_or_else(|| "./assets".to_string(), |dir| format!("{} or ./assets", dir.display())),
    })
}

fn candidates(beside: Option<&Path>, data: Option<&Path>) -> Vec<PathBuf> {
    let folders = [beside.map(Path::to_path_buf), beside.map(|dir| dir.join("assets")), Some("assets".into()), data.map(Path::to_path_buf)];
    folders.into_iter().flatten().map(|dir| dir.join(DEFAULT_MODEL)).collect()
}

fn first_file(paths: &[PathBuf]) -> Option<PathBuf> {
    paths.iter().find(|path| is_file(path).unwrap_or(false)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_in_order_is_taken() {
        let (program, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let paths = candidates(Some(program.path()), Some(data.path()));
        assert_eq!(paths[2], Path::new("assets").join(DEFAULT_MODEL));
        let found = |paths: &[PathBuf]| first_file(&[paths[0].clone(), paths[1].clone(), paths[3].clone()]);
        assert_eq!(found(&paths), None);
        std::fs::write(&paths[3], b"x").unwrap();
        assert_eq!(found(&paths), Some(paths[3].clone()));
        std::fs::create_dir(&paths[0]).unwrap();
        assert_eq!(found(&paths), Some(paths[3].clone()), "a folder is no model");
        std::fs::create_dir(program.path().join("assets")).unwrap();
        std::fs::write(&paths[1], b"x").unwrap();
        assert_eq!(found(&paths), Some(paths[1].clone()));
    }
}
