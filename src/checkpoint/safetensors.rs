//! Safetensors headers (DEEPSEEK.md §8.4): a u64 length, JSON of names, dtypes, shapes and offsets, then the data.
//!
//! Everything is checked here, so that a [`TensorEntry`] can be sliced out of the file without a thought. Own code rather
//! than the safetensors crate's, whose errors name neither tensor nor what was found.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::shown;
use super::tensor::{check_apart, element_count};
use super::{CheckpointError, Dtype, TensorEntry};
use crate::files::ReadAt;

/// The longest header that is read, as in the safetensors crate.
pub const HEADER_LIMIT_BYTES: u64 = 100 << 20;

/// The most axes a tensor may have.
const AXES_LIMIT: usize = 8;

/// Names in the file, what they are, and bits of one element.
const DTYPES: [(&str, Dtype, u64); 22] = [
    ("F64", Dtype::F64, 64),
    ("F32", Dtype::F32, 32),
    ("F16", Dtype::F16, 16),
    ("BF16", Dtype::Bf16, 16),
    ("F8_E4M3", Dtype::F8E4m3, 8),
    ("F8_E8M0", Dtype::F8E8m0, 8),
    ("I64", Dtype::I64, 64),
    ("U64", Dtype::U64, 64),
    ("I32", Dtype::I32, 32),
    ("U32", Dtype::U32, 32),
    ("I16", Dtype::I16, 16),
    ("U16", Dtype::U16, 16),
    ("I8", Dtype::I8, 8),
    ("U8", Dtype::U8, 8),
    ("BOOL", Dtype::Unread("BOOL"), 8),
    ("F8_E5M2", Dtype::Unread("F8_E5M2"), 8),
    ("F8_E4M3FNUZ", Dtype::Unread("F8_E4M3FNUZ"), 8),
    ("F8_E5M2FNUZ", Dtype::Unread("F8_E5M2FNUZ"), 8),
    ("F6_E2M3", Dtype::Unread("F6_E2M3"), 6),
    ("F6_E3M2", Dtype::Unread("F6_E3M2"), 6),
    ("F4", Dtype::Unread("F4"), 4),
    ("C64", Dtype::Unread("C64"), 64),
];

/// The tensors of a file, by name, of which only the header is read.
///
/// # Errors
/// Those of [`parse_header`]; a file that cannot be read.
pub fn parse_file(file: &(impl ReadAt + ?Sized)) -> Result<Vec<TensorEntry>, CheckpointError> {
    let size_bytes = file.size_bytes();
    let read = |end: u64| {
        file.read(0..end.min(size_bytes)).map_err(|error| CheckpointError::field("safetensors header", "bytes", error.to_string()))
    };
    let header_bytes = read(8)?.split_first_chunk().map_or(0, |(length, _)| u64::from_le_bytes(*length));
    parse_header(&read(header_bytes.min(HEADER_LIMIT_BYTES) + 8)?, size_bytes)
}

/// The tensors of a file, by name. `bytes` is the file's beginning, at least to the end of the header; `file_len` its length.
///
/// # Errors
/// The first thing that is wrong, naming the field or the tensor.
pub fn parse_header(bytes: &[u8], file_len: u64) -> Result<Vec<TensorEntry>, CheckpointError> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(CheckpointError::field("safetensors header length", "8 bytes", format!("a file of {}", bytes.len())));
    };
    let header_bytes = u64::from_le_bytes(*length);
    let limit = file_len.saturating_sub(8).min(HEADER_LIMIT_BYTES);
    if header_bytes > limit {
        let expected = format!("at most {limit} bytes (of a file of {file_len})");
        return Err(CheckpointError::field("safetensors header length", expected, header_bytes.to_string()));
    }
    let Some(json) = rest.get(..header_bytes as usize) else {
        return Err(CheckpointError::field("safetensors header", format!("{header_bytes} bytes"), rest.len().to_string()));
    };
    let header: Header = serde_json::from_slice(json)
        .map_err(|error| CheckpointError::field("safetensors header", "a JSON object of tensors", format!("an error: {error}")))?;
    let data_begin = 8 + header_bytes;
    let entries = header.0.into_iter().map(|(name, raw)| raw.check(name, data_begin, file_len));
    check_apart(entries.collect::<Result<_, _>>()?)
}

/// Names and descriptions in the file's order.
struct Header(Vec<(String, RawTensor)>);

/// A tensor's description before it is checked.
#[derive(Default)]
struct RawTensor {
    dtype: RawField,
    shape: RawField,
    data_offsets: RawField,
}

/// A value out of the header. What no field may hold is not kept, so that a header cannot grow in memory.
#[derive(Default)]
enum RawField {
    #[default]
    Absent,
    Text(String),
    Number(u64),
    Numbers(Vec<u64>),
    Other(&'static str),
}

impl RawTensor {
    fn check(self, name: String, data_begin: u64, file_len: u64) -> Result<TensorEntry, CheckpointError> {
        let wrong = |field: &str, expected: &str, found: &RawField| {
            CheckpointError::tensor(&name, format!("{field} {expected}"), found.to_string())
        };
        let dtype = match &self.dtype {
            RawField::Text(text) => DTYPES.iter().find(|row| row.0 == text),
            _ => None,
        };
        let Some(&(_, dtype, bits)) = dtype else {
            return Err(wrong("a known dtype", "(F32, F16, BF16, F8_E4M3, U32, …)", &self.dtype));
        };
        let RawField::Numbers(axes) = &self.shape else {
            return Err(wrong("shape", "as a list of numbers", &self.shape));
        };
        let RawField::Numbers(offsets) = &self.data_offsets else {
            return Err(wrong("data_offsets", "as a list of numbers", &self.data_offsets));
        };
        let data_len = file_len - data_begin;
        let &[begin, end] = offsets.as_slice() else {
            return Err(wrong("data_offsets", "[begin, end]", &self.data_offsets));
        };
        if begin > end || end > data_len {
            return Err(wrong("data_offsets", &format!("in order and within {data_len} bytes of data"), &self.data_offsets));
        }
        let size_bits = element_count(axes).and_then(|count| count.checked_mul(bits));
        let shape = axes.iter().map(|&axis| usize::try_from(axis)).collect::<Result<Vec<_>, _>>();
        let (Some(size_bits), Ok(shape)) = (size_bits, shape) else {
            return Err(wrong("a shape", "whose size can be counted", &self.shape));
        };
        if size_bits % 8 != 0 || end - begin != size_bits / 8 {
            let expected = format!("{} bytes for {dtype} {axes:?}", size_bits.div_ceil(8));
            return Err(CheckpointError::tensor(&name, expected, (end - begin).to_string()));
        }
        Ok(TensorEntry { name, dtype, shape, begin: data_begin + begin, end: data_begin + end })
    }
}

impl fmt::Display for RawField {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Text(text) => write!(f, "\"{}\"", shown(text)),
            Self::Number(number) => write!(f, "{number}"),
            Self::Numbers(numbers) => write!(f, "{numbers:?}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        let raw = map.next_value().map_err(|error| de::Error::custom(format!("tensor `{}`: {error}", shown(&name))))?;
                        entries.push((name, raw));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for RawTensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawTensor;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of dtype, shape and data_offsets")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTensor, A::Error> {
                let mut raw = RawTensor::default();
                while let Some(field) = map.next_key::<String>()? {
                    match field.as_str() {
                        "dtype" => raw.dtype = map.next_value()?,
                        "shape" => raw.shape = map.next_value()?,
                        "data_offsets" => raw.data_offsets = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for RawField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = RawField;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<RawField, E> {
                Ok(RawField::Other("null"))
            }
            fn visit_bool<E>(self, _: bool) -> Result<RawField, E> {
                Ok(RawField::Other("a boolean"))
            }
            fn visit_u64<E>(self, number: u64) -> Result<RawField, E> {
                Ok(RawField::Number(number))
            }
            fn visit_i64<E>(self, _: i64) -> Result<RawField, E> {
                Ok(RawField::Other("a negative number"))
            }
            fn visit_f64<E>(self, _: f64) -> Result<RawField, E> {
                Ok(RawField::Other("a fraction"))
            }
            fn visit_str<E>(self, text: &str) -> Result<RawField, E> {
                Ok(RawField::Text(text.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawField, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(RawField::Other("an object"))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawField, A::Error> {
                let (mut numbers, mut other) = (Vec::new(), None);
                while numbers.len() < AXES_LIMIT && other.is_none() {
                    match seq.next_element()? {
                        Some(RawField::Number(number)) => numbers.push(number),
                        Some(_) => other = Some("a list with something that is no whole number from 0 on"),
                        None => return Ok(RawField::Numbers(numbers)),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    other = other.or(Some("a list of more than 8"));
                }
                Ok(other.map_or(RawField::Numbers(numbers), RawField::Other))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests;
