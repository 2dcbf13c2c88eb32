//! Files: read in parts when asked for, never half written. Natively they are mapped; in a tab they are what the page has
//! mounted under a path.

#[cfg(not(target_arch = "wasm32"))]
mod disk;
#[cfg(target_arch = "wasm32")]
mod tab;
mod write;

use std::borrow::Cow;
use std::io;
use std::ops::Range;

#[cfg(not(target_arch = "wasm32"))]
pub use disk::{Source, is_dir, is_file, list};
#[cfg(target_arch = "wasm32")]
pub use tab::{Source, is_dir, is_file, list, mount, mounted, unmount};
pub use write::{write_in_folder, write_whole};

/// Bytes that can be read at any place.
pub trait ReadAt {
    fn size_bytes(&self) -> u64;

    /// The bytes of a range that lies within.
    ///
    /// # Errors
    /// What the system says of a file that cannot be read any more.
    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;
}

impl ReadAt for [u8] {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        // A slice's places fit a usize.
        Ok(Cow::Borrowed(&self[range.start as usize..range.end as usize]))
    }
}

/// Some of a file's bytes, not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    source: &'a Source,
    begin: u64,
    end: u64,
}

impl<'a> Extent<'a> {
    /// A part of a file that it has.
    pub fn new(source: &'a Source, range: Range<u64>) -> Self {
        assert!(range.start <= range.end && range.end <= source.size_bytes(), "bytes {range:?} of {}", source.path().display());
        Self { source, begin: range.start, end: range.end }
    }

    pub fn size_bytes(&self) -> u64 {
        self.end - self.begin
    }

    /// Reads a part, counted from the extent's beginning.
    ///
    /// # Errors
    /// Those of [`ReadAt::read`].
    pub fn read(&self, range: Range<u64>) -> io::Result<Cow<'a, [u8]>> {
        assert!(range.start <= range.end && range.end <= self.size_bytes(), "bytes {range:?} of {}", self.size_bytes());
        self.source.read(self.begin + range.start..self.begin + range.end)
    }
}
