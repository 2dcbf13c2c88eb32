//! Any bytes as a GGUF file: an error, or tensors that lie within it.
#![no_main]

use fathom::checkpoint::gguf::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(parsed) = parse(bytes) else {
        return;
    };
    for entry in parsed.tensors {
        assert!(bytes.get(entry.begin as usize..entry.end as usize).is_some(), "{entry:?} in {} bytes", bytes.len());
    }
    for key in parsed.metadata.keys() {
        let _ = (parsed.metadata.str(key), parsed.metadata.u32(key), parsed.metadata.f32(key), parsed.metadata.bool(key));
        let _ = (parsed.metadata.str_array(key), parsed.metadata.i32_array(key), parsed.metadata.f32_array(key));
    }
});
