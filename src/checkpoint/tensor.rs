//! What a file says of a tensor: its dtype, its shape, where its bytes lie. What the bytes mean is left to `formats` and `matrix`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::CheckpointError;
use crate::files::Extent;

/// The element types of model files. `Unread` ones are named in the error when such a tensor is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    F8E4m3,
    /// A power of two, as a scale.
    F8E8m0,
    I64,
    U64,
    I32,
    U32,
    I16,
    U16,
    I8,
    U8,
    /// GGUF: blocks of 32, an f16 scale and four-bit weights less 8.
    Q4_0,
    /// GGUF: blocks of 32, an f16 scale, an f16 minimum and four-bit weights.
    Q4_1,
    /// GGUF: blocks of 32, an f16 scale and signed bytes.
    Q8_0,
    /// Known by name only.
    Unread(&'static str),
    /// A GGUF type number that is not known.
    UnknownGguf(u32),
}

impl Dtype {
    /// Bytes of one number; of a type in blocks, of none.
    pub(super) fn size_bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F8E4m3 | Self::F8E8m0 | Self::I8 | Self::U8 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 | Self::Unread(_) | Self::UnknownGguf(_) => 0,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4m3 => "F8_E4M3",
            Self::F8E8m0 => "F8_E8M0",
            Self::I64 => "I64",
            Self::U64 => "U64",
            Self::I32 => "I32",
            Self::U32 => "U32",
            Self::I16 => "I16",
            Self::U16 => "U16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q8_0 => "Q8_0",
            Self::Unread(name) => name,
            Self::UnknownGguf(id) => return write!(f, "GGUF type {id}"),
        };
        f.write_str(name)
    }
}

/// A tensor as it lies in its file.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    pub name: &'a str,
    pub dtype: Dtype,
    /// Slowest axis first, in GGUF too.
    pub shape: Vec<usize>,
    /// Little endian; empty for `Dtype::UnknownGguf`.
    pub bytes: Extent<'a>,
}

/// Some of a tensor's bytes, counted from the extent's beginning.
///
/// # Errors
/// A file that cannot be read any more, naming the tensor.
pub(super) fn read<'a>(name: &str, extent: &Extent<'a>, range: Range<u64>) -> Result<Cow<'a, [u8]>, CheckpointError> {
    extent.read(range).map_err(|error| CheckpointError::tensor(name, "bytes", format!("an error: {error}")))
}

/// A tensor as a header describes it, checked against the file's length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorEntry {
    pub name: String,
    pub dtype: Dtype,
    /// Slowest axis first.
    pub shape: Vec<usize>,
    /// Bytes of the file, from its start.
    pub begin: u64,
    pub end: u64,
}

/// Numbers in a shape, if they can be counted.
pub(super) fn element_count(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |product, &axis| product.checked_mul(axis))
}

/// Sorts by name and refuses equal names and shared bytes.
pub(super) fn check_apart(mut entries: Vec<TensorEntry>) -> Result<Vec<TensorEntry>, CheckpointError> {
    entries.sort_unstable_by_key(|entry| (entry.begin, entry.end));
    let filled = || entries.iter().filter(|entry| entry.begin < entry.end);
    for (before, after) in filled().zip(filled().skip(1)) {
        if after.begin < before.end {
            let found = format!("bytes {}..{} inside `{}`", after.begin, after.end, super::error::shown(&before.name));
            return Err(CheckpointError::tensor(&after.name, format!("bytes from {} on", before.end), found));
        }
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(CheckpointError::tensor(&pair[0].name, "one such tensor", "two")),
        None => Ok(entries),
    }
}
