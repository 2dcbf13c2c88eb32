//! Files of the system, mapped.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::ReadAt;

/// A file that stays mapped for as long as this lives.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    map: Mmap,
}

impl Source {
    /// Opens a regular file.
    ///
    /// # Errors
    /// What the system says of a file that is absent or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only and private to `Source`. Another program that shortens the file while it is
        // mapped ends this one with a signal, as with every mapped file; nothing read from it is trusted to stay the same.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(Self { path: path.to_path_buf(), map })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the system drop the pages read so far; they come back from the file when read again.
    pub fn release_pages(&self) {
        #[cfg(unix)]
        // SAFETY: `DontNeed` discards changes of a private mapping; this one is read-only and has none.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

impl ReadAt for Source {
    fn size_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        self.map.as_ref().read(range)
    }
}

/// Whether a path names a directory.
///
/// # Errors
/// What the system says of a path that names nothing.
pub fn is_dir(path: &Path) -> io::Result<bool> {
    fs::metadata(path).map(|metadata| metadata.is_dir())
}

/// Whether a path names a regular file; asked before opening, as to open a pipe would wait for its other end.
///
/// # Errors
/// What the system says of a path that names nothing.
pub fn is_file(path: &Path) -> io::Result<bool> {
    fs::metadata(path).map(|metadata| metadata.is_file())
}

/// Names of what lies in a directory.
///
/// # Errors
/// What the system says of a directory that cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
    fs::read_dir(dir)?.map(name).filter_map(Result::transpose).collect()
}
