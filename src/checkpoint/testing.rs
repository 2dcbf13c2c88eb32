//! Small model files for the unit tests of this folder.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::Checkpoint;

/// Name, dtype, shape, bytes.
pub type Tensor<'a> = (&'a str, &'a str, &'a [usize], Vec<u8>);

/// A safetensors file whose tensors lie one after another.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = Map::from_iter([("__metadata__".to_string(), json!({"format": "pt"}))]);
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        header.insert(name.to_string(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    with_header(&Value::from(header).to_string(), &data)
}

/// A safetensors file of any header.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A directory in the Hugging Face layout.
pub fn write_dir(config: &Value, tensors: &[Tensor]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::write(dir.path().join("model.safetensors"), safetensors(tensors)).unwrap();
    dir
}

/// Opened and already removed: mapped files stay.
pub fn open_dir(config: &Value, tensors: &[Tensor]) -> Checkpoint {
    Checkpoint::open(write_dir(config, tensors).path()).unwrap()
}

/// What opening must refuse to do.
pub fn open_error(path: &Path) -> String {
    let error = Checkpoint::open(path).map(|_| ()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// A GGUF file in the making.
#[derive(Clone, Default)]
pub struct GgufFile {
    pub values: Vec<u8>,
    pub value_count: u64,
    pub descriptions: Vec<u8>,
    pub tensor_count: u64,
    pub data: Vec<u8>,
}

pub fn gguf_string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl GgufFile {
    /// Adds a value of type `kind` with its encoded `bytes`.
    pub fn value(mut self, key: &str, kind: u32, bytes: &[u8]) -> Self {
        self.values.extend([&gguf_string(key), &kind.to_le_bytes()[..], bytes].concat());
        self.value_count += 1;
        self
    }

    /// Adds a tensor, its fastest axis first, at the next multiple of 32 bytes.
    pub fn tensor(mut self, name: &str, kind: u32, dims: &[u64], bytes: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        self.describe(name, kind, dims, offset)
    }

    /// Adds a tensor's description only.
    pub fn describe(mut self, name: &str, kind: u32, dims: &[u64], offset: u64) -> Self {
        self.descriptions.extend(gguf_string(name));
        self.descriptions.extend((dims.len() as u32).to_le_bytes());
        self.descriptions.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        self.descriptions.extend(kind.to_le_bytes());
        self.descriptions.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let counts = [self.tensor_count.to_le_bytes(), self.value_count.to_le_bytes()].concat();
        let mut out = [b"GGUF", &3u32.to_le_bytes()[..], &counts, &self.values, &self.descriptions].concat();
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend_from_slice(&self.data);
        out
    }

    pub fn open(&self) -> Checkpoint {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), self.bytes()).unwrap();
        Checkpoint::open(file.path()).unwrap()
    }
}
