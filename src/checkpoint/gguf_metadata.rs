//! GGUF metadata: typed values by key. Reading the file is `gguf`'s, the meaning of keys `model`'s and `text`'s.

use std::collections::BTreeMap;

use super::CheckpointError;
use super::error::shown;

/// The most array elements in a file's metadata: vocabularies with their merges have less than a million.
pub(super) const ELEMENTS_LIMIT: u64 = 1 << 24;

/// How deep arrays may lie in arrays.
pub(super) const NESTING_LIMIT: u32 = 4;

/// Metadata by key.
#[derive(Debug, Default)]
pub struct GgufMetadata {
    pub(super) values: BTreeMap<String, GgufValue>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum GgufValue {
    /// Of any of the eight integer types.
    Integer(i128),
    F32(f32),
    F64(f64),
    Bool(bool),
    Text(String),
    Array(GgufArray),
}

#[derive(Clone, PartialEq, Debug)]
pub enum GgufArray {
    Texts(Vec<String>),
    Arrays(Vec<GgufArray>),
    /// As in the file, little endian.
    Scalars {
        kind: ScalarKind,
        bytes: Vec<u8>,
    },
}

/// The types of fixed size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScalarKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

impl ScalarKind {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    pub(super) fn size_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// `bytes` is as long as the type; a bool is 0 or 1.
    pub(super) fn decode(self, bytes: &[u8]) -> GgufValue {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        let low = u64::from_le_bytes(padded);
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => GgufValue::Integer(low.into()),
            Self::I8 => GgufValue::Integer((low as i8).into()),
            Self::I16 => GgufValue::Integer((low as i16).into()),
            Self::I32 => GgufValue::Integer((low as i32).into()),
            Self::I64 => GgufValue::Integer((low as i64).into()),
            Self::F32 => GgufValue::F32(f32::from_bits(low as u32)),
            Self::F64 => GgufValue::F64(f64::from_bits(low)),
            Self::Bool => GgufValue::Bool(low != 0),
        }
    }
}

impl GgufArray {
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Arrays(arrays) => arrays.len(),
            Self::Scalars { kind, bytes } => bytes.len() / kind.size_bytes() as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The scalars one by one; none of an array of anything else.
    fn scalars(&self) -> Option<impl Iterator<Item = GgufValue>> {
        match self {
            Self::Scalars { kind, bytes } => Some(bytes.chunks_exact(kind.size_bytes() as usize).map(|bytes| kind.decode(bytes))),
            Self::Texts(_) | Self::Arrays(_) => None,
        }
    }
}

impl GgufValue {
    /// For errors.
    fn describe(&self) -> String {
        match self {
            Self::Integer(number) => format!("the integer {number}"),
            Self::F32(number) => format!("the f32 {number}"),
            Self::F64(number) => format!("the f64 {number}"),
            Self::Bool(truth) => format!("the bool {truth}"),
            Self::Text(text) => format!("the string \"{}\"", shown(text)),
            Self::Array(GgufArray::Texts(texts)) => format!("an array of {} strings", texts.len()),
            Self::Array(GgufArray::Arrays(arrays)) => format!("an array of {} arrays", arrays.len()),
            Self::Array(array @ GgufArray::Scalars { kind, .. }) => {
                format!("an array of {} {}", array.len(), format!("{kind:?}").to_lowercase())
            }
        }
    }

    fn integer<T: TryFrom<i128>>(&self) -> Option<T> {
        match self {
            Self::Integer(number) => T::try_from(*number).ok(),
            _ => None,
        }
    }
}

/// Each getter gives none if the key is absent, and an error naming key, expected and found if the value is of another kind.
/// Integers may be stored in any width and sign that holds the number.
impl GgufMetadata {
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.values.get(key)
    }

    pub fn str(&self, key: &str) -> Result<Option<&str>, CheckpointError> {
        self.typed(key, "a string", |value| match value {
            GgufValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn u32(&self, key: &str) -> Result<Option<u32>, CheckpointError> {
        self.typed(key, "an integer from 0 to 4294967295", GgufValue::integer)
    }

    pub fn u64(&self, key: &str) -> Result<Option<u64>, CheckpointError> {
        self.typed(key, "an integer from 0 on", GgufValue::integer)
    }

    /// An f64 is rounded.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, CheckpointError> {
        self.typed(key, "an f32", |value| match value {
            GgufValue::F32(number) => Some(*number),
            GgufValue::F64(number) => Some(*number as f32),
            _ => None,
        })
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>, CheckpointError> {
        self.typed(key, "a bool", |value| match value {
            GgufValue::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    pub fn str_array(&self, key: &str) -> Result<Option<&[String]>, CheckpointError> {
        self.typed(key, "an array of strings", |value| match value {
            GgufValue::Array(GgufArray::Texts(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    pub fn i32_array(&self, key: &str) -> Result<Option<Vec<i32>>, CheckpointError> {
        self.typed(key, "an array of i32", |value| match value {
            GgufValue::Array(array) => array.scalars()?.map(|value| value.integer()).collect(),
            _ => None,
        })
    }

    pub fn f32_array(&self, key: &str) -> Result<Option<Vec<f32>>, CheckpointError> {
        self.typed(key, "an array of f32", |value| match value {
            GgufValue::Array(array) => {
                let number = |value| match value {
                    GgufValue::F32(number) => Some(number),
                    _ => None,
                };
                array.scalars()?.map(number).collect()
            }
            _ => None,
        })
    }

    /// A value that must be there: `metadata.require("llama.block_count", GgufMetadata::u32)`.
    ///
    /// # Errors
    /// Those of the getter, and the absence of the key.
    pub fn require<'a, T>(
        &'a self,
        key: &str,
        get: fn(&'a Self, &str) -> Result<Option<T>, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        get(self, key)?.ok_or_else(|| CheckpointError::field(format!("metadata `{key}`"), "a value", "no such key"))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>, CheckpointError> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(CheckpointError::field(format!("metadata `{}`", shown(key)), expected, value.describe())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> GgufMetadata {
        let scalars = |kind, bytes: &[u8]| GgufValue::Array(GgufArray::Scalars { kind, bytes: bytes.to_vec() });
        let values = [
            ("arch", GgufValue::Text("llama".into())),
            ("blocks", ScalarKind::U64.decode(&30u64.to_le_bytes())),
            ("below", ScalarKind::I16.decode(&(-3i16).to_le_bytes())),
            ("eps", ScalarKind::F32.decode(&1e-5f32.to_le_bytes())),
            ("flag", ScalarKind::Bool.decode(&[1])),
            ("types", scalars(ScalarKind::I8, &[1, 0xff])),
            ("scores", scalars(ScalarKind::F32, &0.5f32.to_le_bytes())),
            ("tokens", GgufValue::Array(GgufArray::Texts(vec!["a".into()]))),
        ];
        GgufMetadata { values: values.map(|(key, value)| (key.to_string(), value)).into() }
    }

    #[test]
    fn values_come_in_their_types() {
        let metadata = metadata();
        assert_eq!(metadata.str("arch").unwrap(), Some("llama"));
        assert_eq!(metadata.u32("blocks").unwrap(), Some(30));
        assert_eq!(metadata.u64("blocks").unwrap(), Some(30));
        assert_eq!(metadata.f32("eps").unwrap(), Some(1e-5));
        assert_eq!(metadata.bool("flag").unwrap(), Some(true));
        assert_eq!(metadata.i32_array("types").unwrap(), Some(vec![1, -1]));
        assert_eq!(metadata.f32_array("scores").unwrap(), Some(vec![0.5]));
        assert_eq!(metadata.str_array("tokens").unwrap(), Some(&["a".to_string()][..]));
        assert_eq!(metadata.u32("absent").unwrap(), None);
        assert_eq!(metadata.require("arch", GgufMetadata::str).unwrap(), "llama");
    }

    #[test]
    fn errors_name_key_expected_and_found() {
        let metadata = metadata();
        let cases = [
            (metadata.str("blocks").unwrap_err(), "metadata `blocks`: expected a string, found the integer 30"),
            (metadata.u32("below").unwrap_err(), "metadata `below`: expected an integer from 0 to 4294967295, found the integer -3"),
            (metadata.f32("arch").unwrap_err(), "metadata `arch`: expected an f32, found the string \"llama\""),
            (metadata.bool("eps").unwrap_err(), "metadata `eps`: expected a bool, found the f32 0.00001"),
            (metadata.i32_array("scores").unwrap_err(), "metadata `scores`: expected an array of i32, found an array of 1 f32"),
            (metadata.f32_array("types").unwrap_err(), "metadata `types`: expected an array of f32, found an array of 2 i8"),
            (metadata.str_array("flag").unwrap_err(), "metadata `flag`: expected an array of strings, found the bool true"),
            (metadata.require("absent", GgufMetadata::u32).unwrap_err(), "metadata `absent`: expected a value, found no such key"),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
    }
}
