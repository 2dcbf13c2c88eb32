//! Files of a tab: blobs that the page has mounted, read synchronously, which a browser allows in workers only.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use wasm_bindgen::JsValue;
use web_sys::{Blob, FileReaderSync};

use super::ReadAt;

thread_local! {
    static MOUNTED: RefCell<BTreeMap<PathBuf, Blob>> = const { RefCell::new(BTreeMap::new()) };
}

/// Gives a blob a path, until it is unmounted.
pub fn mount(path: &Path, blob: Blob) {
    MOUNTED.with_borrow_mut(|mounted| mounted.insert(path.to_path_buf(), blob));
}

/// Takes a path, and all below it, away again. What is open stays readable.
pub fn unmount(path: &Path) {
    MOUNTED.with_borrow_mut(|mounted| mounted.retain(|other, _| !other.starts_with(path)));
}

/// All paths, sorted.
pub fn mounted() -> Vec<PathBuf> {
    MOUNTED.with_borrow(|mounted| mounted.keys().cloned().collect())
}

/// What is read at once when little is asked for: headers are read word by word.
const WINDOW_BYTES: u64 = 1 << 20;

/// A mounted file.
pub struct Source {
    path: PathBuf,
    blob: Blob,
    size_bytes: u64,
    reader: FileReaderSync,
    /// The bytes read last, and where they begin.
    window: RefCell<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.size_bytes)
    }
}

impl Source {
    /// Opens a mounted file.
    ///
    /// # Errors
    /// A path that nothing is mounted at; a page instead of a worker.
    pub fn open(path: &Path) -> io::Result<Self> {
        let blob = MOUNTED.with_borrow(|mounted| mounted.get(path).cloned()).ok_or(io::ErrorKind::NotFound)?;
        let reader = FileReaderSync::new().map_err(refused)?;
        // Numbers of JavaScript are whole up to 2^53.
        let size_bytes = blob.size() as u64;
        Ok(Self { path: path.to_path_buf(), blob, size_bytes, reader, window: RefCell::default() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the bytes read last.
    pub fn release_pages(&self) {
        self.window.take();
    }

    fn fetch(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let part = self.blob.slice_with_f64_and_f64(range.start as f64, range.end as f64).map_err(refused)?;
        let buffer: JsValue = self.reader.read_as_array_buffer(&part).map_err(refused)?.into();
        let bytes = js_sys::Uint8Array::new(&buffer).to_vec();
        match bytes.len() as u64 {
            found if found == range.end - range.start => Ok(bytes),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl ReadAt for Source {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let size = range.end - range.start;
        if size > WINDOW_BYTES / 4 {
            return self.fetch(range).map(Cow::Owned);
        }
        let mut window = self.window.borrow_mut();
        let held = window.0..window.0 + window.1.len() as u64;
        if range.start < held.start || range.end > held.end {
            let wanted = range.start..self.size_bytes.min(range.start + WINDOW_BYTES);
            *window = (range.start, self.fetch(wanted)?);
        }
        let from = (range.start - window.0) as usize;
        Ok(Cow::Owned(window.1[from..from + size as usize].to_vec()))
    }
}

fn refused(error: JsValue) -> io::Error {
    let text = js_sys::Reflect::get(&error, &"message".into()).ok().and_then(|message| message.as_string());
    io::Error::other(text.unwrap_or_else(|| format!("{error:?}")))
}

/// Whether anything is mounted below a path.
///
/// # Errors
/// A path that names nothing.
pub fn is_dir(path: &Path) -> io::Result<bool> {
    is_file(path).map(|is_file| !is_file)
}

/// Whether a file is mounted at a path.
///
/// # Errors
/// A path that names nothing.
pub fn is_file(path: &Path) -> io::Result<bool> {
    MOUNTED.with_borrow(|mounted| match mounted.contains_key(path) {
        true => Ok(true),
        false if mounted.keys().any(|other| other.starts_with(path)) => Ok(false),
        false => Err(io::ErrorKind::NotFound.into()),
    })
}

/// Names of the files mounted directly below a path.
///
/// # Errors
/// None: a path without files has no names.
pub fn list(dir: &Path) -> io::Result<Vec<String>> {
    let name = |path: &PathBuf| Some(path.strip_prefix(dir).ok()?.to_str()?.to_string());
    let names = MOUNTED.with_borrow(|mounted| mounted.keys().filter_map(name).collect::<Vec<_>>());
    Ok(names.into_iter().filter(|name| !name.is_empty() && !name.contains('/')).collect())
}
