//! GGUF files, versions 2 and 3, little endian: metadata, tensor descriptions, data.
//!
//! Every count is compared with the bytes left in the file before anything is allocated for it. What keys and names mean is
//! left to `model` and `text`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::error::shown;
use super::gguf_metadata::{ELEMENTS_LIMIT, NESTING_LIMIT, ScalarKind};
use super::tensor::{check_apart, element_count};
use super::{CheckpointError, Dtype, GgufArray, GgufMetadata, GgufValue, TensorEntry};
use crate::files::ReadAt;

pub const MAGIC: [u8; 4] = *b"GGUF";

const DEFAULT_ALIGNMENT: u64 = 32;
const AXES_LIMIT: u32 = 4;
const STRING_LIMIT_BYTES: u64 = 64 << 20;

/// The least bytes that a string, a key with its value, and a tensor's description can take.
const STRING_LEAST_BYTES: u64 = 8;
const VALUE_LEAST_BYTES: u64 = 8 + 4 + 1;
const TENSOR_LEAST_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

const STRING_TYPE: u32 = 8;
const ARRAY_TYPE: u32 = 9;

/// A type's number, what it is, and a block's weights and bytes (ggml's `ggml_type`).
const TYPES: [(u32, Dtype, u64, u64); 32] = [
    (0, Dtype::F32, 1, 4),
    (1, Dtype::F16, 1, 2),
    (2, Dtype::Q4_0, 32, 18),
    (3, Dtype::Q4_1, 32, 20),
    (6, Dtype::Unread("Q5_0"), 32, 22),
    (7, Dtype::Unread("Q5_1"), 32, 24),
    (8, Dtype::Q8_0, 32, 34),
    (9, Dtype::Unread("Q8_1"), 32, 36),
    (10, Dtype::Unread("Q2_K"), 256, 84),
    (11, Dtype::Unread("Q3_K"), 256, 110),
    (12, Dtype::Unread("Q4_K"), 256, 144),
    (13, Dtype::Unread("Q5_K"), 256, 176),
    (14, Dtype::Unread("Q6_K"), 256, 210),
    (15, Dtype::Unread("Q8_K"), 256, 292),
    (16, Dtype::Unread("IQ2_XXS"), 256, 66),
    (17, Dtype::Unread("IQ2_XS"), 256, 74),
    (18, Dtype::Unread("IQ3_XXS"), 256, 98),
    (19, Dtype::Unread("IQ1_S"), 256, 50),
    (20, Dtype::Unread("IQ4_NL"), 32, 18),
    (21, Dtype::Unread("IQ3_S"), 256, 110),
    (22, Dtype::Unread("IQ2_S"), 256, 82),
    (23, Dtype::Unread("IQ4_XS"), 256, 136),
    (24, Dtype::I8, 1, 1),
    (25, Dtype::I16, 1, 2),
    (26, Dtype::I32, 1, 4),
    (27, Dtype::I64, 1, 8),
    (28, Dtype::F64, 1, 8),
    (29, Dtype::Unread("IQ1_M"), 256, 56),
    (30, Dtype::Bf16, 1, 2),
    (34, Dtype::Unread("TQ1_0"), 256, 54),
    (35, Dtype::Unread("TQ2_0"), 256, 66),
    (39, Dtype::Unread("MXFP4"), 32, 17),
];

/// What a file says of itself.
#[derive(Debug)]
pub struct Gguf {
    pub metadata: GgufMetadata,
    pub tensors: Vec<TensorEntry>,
}

/// Reads a whole file's metadata and tensor descriptions.
///
/// # Errors
/// The first thing that is wrong, naming the field, key or tensor.
pub fn parse(bytes: &[u8]) -> Result<Gguf, CheckpointError> {
    parse_file(bytes)
}

/// [`parse`] for a file, of which only the part before the data is read.
///
/// # Errors
/// As [`parse`]; a file that cannot be read.
pub fn parse_file(file: &(impl ReadAt + ?Sized)) -> Result<Gguf, CheckpointError> {
    let size_bytes = file.size_bytes();
    let mut reader = Reader { file, size_bytes, at: 0, elements_left: ELEMENTS_LIMIT };
    let magic = reader.array::<4>(Place::Field("magic"))?;
    if magic != MAGIC {
        return Err(CheckpointError::field("magic", "GGUF", magic.escape_ascii().to_string()));
    }
    let version = reader.u32(Place::Field("version"))?;
    if !matches!(version, 2 | 3) {
        let hint = if matches!(version.swap_bytes(), 2 | 3) { " (a big-endian file)" } else { "" };
        return Err(CheckpointError::field("version", "2 or 3, little endian", format!("{version}{hint}")));
    }
    let tensor_count = reader.u64(Place::Field("tensor count"))?;
    let value_count = reader.u64(Place::Field("metadata count"))?;
    reader.check_count(Place::Field("metadata count"), value_count, VALUE_LEAST_BYTES)?;

    let mut values = BTreeMap::new();
    for number in 0..value_count {
        let key = reader.string(Place::Key(number))?;
        let kind = reader.u32(Place::Value(&key))?;
        let value = reader.value(kind, &key, 0)?;
        if values.contains_key(&key) {
            return Err(CheckpointError::field(Place::Value(&key).to_string(), "one value", "two"));
        }
        values.insert(key, value);
    }
    let metadata = GgufMetadata { values };

    let alignment = metadata.u32("general.alignment")?.map_or(DEFAULT_ALIGNMENT, u64::from);
    if !alignment.is_power_of_two() {
        return Err(CheckpointError::field("metadata `general.alignment`", "a power of two", alignment.to_string()));
    }
    reader.check_count(Place::Field("tensor count"), tensor_count, TENSOR_LEAST_BYTES)?;
    let described = (0..tensor_count).map(|number| reader.description(number)).collect::<Result<Vec<_>, _>>()?;
    let data_begin = reader.at.next_multiple_of(alignment);
    let placed = described.into_iter().map(|tensor| tensor.place(alignment, data_begin, size_bytes));
    let tensors = check_apart(placed.collect::<Result<_, _>>()?)?;
    Ok(Gguf { metadata, tensors })
}

/// A tensor's description before it is checked.
struct Description {
    name: String,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

impl Description {
    fn place(self, alignment: u64, data_begin: u64, file_len: u64) -> Result<TensorEntry, CheckpointError> {
        let Self { name, dims, kind, offset } = self;
        let wrong = |expected: String, found: String| Err(CheckpointError::tensor(&name, expected, found));
        let shape = dims.iter().rev().map(|&dim| usize::try_from(dim)).collect::<Result<Vec<_>, _>>();
        let (Some(count), Ok(shape)) = (element_count(&dims), shape) else {
            return wrong("dimensions whose product can be counted".into(), format!("{dims:?}"));
        };
        if offset % alignment != 0 {
            return wrong(format!("an offset that is a multiple of {alignment}"), offset.to_string());
        }
        let (dtype, size_bytes) = match TYPES.iter().find(|row| row.0 == kind) {
            // How many bytes it has is not known; it cannot be used.
            None => (Dtype::UnknownGguf(kind), Some(0)),
            Some(&(_, dtype, block, block_bytes)) => {
                if dims[0] % block != 0 {
                    return wrong(format!("rows of whole blocks of {block} for {dtype}"), format!("rows of {}", dims[0]));
                }
                (dtype, (count / block).checked_mul(block_bytes))
            }
        };
        let data_len = file_len.saturating_sub(data_begin);
        let Some(end) = size_bytes.and_then(|size| offset.checked_add(size)).filter(|&end| end <= data_len) else {
            let size = size_bytes.map_or("uncountable".to_string(), |size| size.to_string());
            return wrong(format!("bytes within the {data_len} bytes of data"), format!("{size} bytes at offset {offset}"));
        };
        let (begin, end) = (data_begin + offset, data_begin + end);
        let (begin, end) = if begin == end { (0, 0) } else { (begin, end) };
        Ok(TensorEntry { name, dtype, shape, begin, end })
    }
}

/// Where in the file something is wrong.
#[derive(Clone, Copy)]
enum Place<'a> {
    Field(&'static str),
    Key(u64),
    Value(&'a str),
    Tensor(u64),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Key(number) => write!(f, "metadata key {number}"),
            Self::Value(key) => write!(f, "metadata `{}`", shown(key)),
            Self::Tensor(number) => write!(f, "description of tensor {number}"),
        }
    }
}

struct Reader<'a, F: ?Sized> {
    file: &'a F,
    size_bytes: u64,
    at: u64,
    /// Array elements that may still be read.
    elements_left: u64,
}

impl<'a, F: ReadAt + ?Sized> Reader<'a, F> {
    fn left(&self) -> u64 {
        self.size_bytes - self.at
    }

    fn take(&mut self, size: u64, place: Place) -> Result<Cow<'a, [u8]>, CheckpointError> {
        if size > self.left() {
            return Err(CheckpointError::field(place.to_string(), format!("{size} bytes"), format!("{} left in the file", self.left())));
        }
        let taken = self.file.read(self.at..self.at + size);
        self.at += size;
        taken.map_err(|error| CheckpointError::field(place.to_string(), format!("{size} bytes"), format!("an error: {error}")))
    }

    fn array<const N: usize>(&mut self, place: Place) -> Result<[u8; N], CheckpointError> {
        Ok(self.take(N as u64, place)?.as_chunks().0[0])
    }

    fn u32(&mut self, place: Place) -> Result<u32, CheckpointError> {
        self.array(place).map(u32::from_le_bytes)
    }

    fn u64(&mut self, place: Place) -> Result<u64, CheckpointError> {
        self.array(place).map(u64::from_le_bytes)
    }

    /// Refuses a count of things that the rest of the file has no room for.
    fn check_count(&self, place: Place, count: u64, least_bytes: u64) -> Result<(), CheckpointError> {
        let room = self.left() / least_bytes;
        if count > room {
            return Err(CheckpointError::field(place.to_string(), format!("at most {room} in the rest of the file"), count.to_string()));
        }
        Ok(())
    }

    fn string(&mut self, place: Place) -> Result<String, CheckpointError> {
        let size = self.u64(place)?;
        if size > STRING_LIMIT_BYTES {
            let expected = format!("a string of at most {STRING_LIMIT_BYTES} bytes");
            return Err(CheckpointError::field(place.to_string(), expected, format!("{size}")));
        }
        match str::from_utf8(&self.take(size, place)?) {
            Ok(text) => Ok(text.to_string()),
            Err(error) => Err(CheckpointError::field(place.to_string(), "UTF-8", format!("an error: {error}"))),
        }
    }

    fn value(&mut self, kind: u32, key: &str, depth: u32) -> Result<GgufValue, CheckpointError> {
        let place = Place::Value(key);
        match (kind, ScalarKind::from_number(kind)) {
            (STRING_TYPE, _) => self.string(place).map(GgufValue::Text),
            (ARRAY_TYPE, _) => self.elements(key, depth).map(GgufValue::Array),
            (_, Some(kind)) => self.scalars(kind, 1, place).map(|bytes| kind.decode(&bytes)),
            _ => Err(CheckpointError::field(place.to_string(), "a type from 0 to 12", kind.to_string())),
        }
    }

    fn scalars(&mut self, kind: ScalarKind, count: u64, place: Place) -> Result<Cow<'a, [u8]>, CheckpointError> {
        // The count is at most `ELEMENTS_LIMIT`.
        let bytes = self.take(count * kind.size_bytes(), place)?;
        match bytes.iter().find(|&&byte| kind == ScalarKind::Bool && byte > 1) {
            Some(byte) => Err(CheckpointError::field(place.to_string(), "0 or 1 for a bool", byte.to_string())),
            None => Ok(bytes),
        }
    }

    fn elements(&mut self, key: &str, depth: u32) -> Result<GgufArray, CheckpointError> {
        let place = Place::Value(key);
        if depth == NESTING_LIMIT {
            return Err(CheckpointError::field(place.to_string(), format!("arrays at most {NESTING_LIMIT} deep"), "deeper ones"));
        }
        let kind = self.u32(place)?;
        let count = self.u64(place)?;
        if count > self.elements_left {
            let expected = format!("at most {ELEMENTS_LIMIT} array elements in the file");
            return Err(CheckpointError::field(place.to_string(), expected, format!("{count} more")));
        }
        self.elements_left -= count;
        match (kind, ScalarKind::from_number(kind)) {
            (STRING_TYPE, _) => {
                self.check_count(place, count, STRING_LEAST_BYTES)?;
                (0..count).map(|_| self.string(place)).collect::<Result<_, _>>().map(GgufArray::Texts)
            }
            (ARRAY_TYPE, _) => {
                self.check_count(place, count, 4 + 8)?;
                (0..count).map(|_| self.elements(key, depth + 1)).collect::<Result<_, _>>().map(GgufArray::Arrays)
            }
            (_, Some(kind)) => self.scalars(kind, count, place).map(|bytes| GgufArray::Scalars { kind, bytes: bytes.into_owned() }),
            _ => Err(CheckpointError::field(place.to_string(), "elements of a type from 0 to 12", kind.to_string())),
        }
    }

    fn description(&mut self, number: u64) -> Result<Description, CheckpointError> {
        let place = Place::Tensor(number);
        let name = self.string(place)?;
        let axes = self.u32(place)?;
        if !(1..=AXES_LIMIT).contains(&axes) {
            return Err(CheckpointError::tensor(&name, format!("1 to {AXES_LIMIT} dimensions"), axes.to_string()));
        }
        let dims = (0..axes).map(|_| self.u64(place)).collect::<Result<Vec<_>, _>>()?;
        Ok(Description { name, dims, kind: self.u32(place)?, offset: self.u64(place)? })
    }
}

#[cfg(test)]
mod tests;
