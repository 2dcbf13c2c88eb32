//! Any bytes as a safetensors file: an error, or tensors that lie within it.
#![no_main]

use fathom::checkpoint::safetensors::parse_header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for entry in parse_header(bytes, bytes.len() as u64).unwrap_or_default() {
        assert!(bytes.get(entry.begin as usize..entry.end as usize).is_some(), "{entry:?} in {} bytes", bytes.len());
    }
    // The same bytes as the header itself, which the fuzzer finds sooner than a matching length.
    let file = [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    let _ = parse_header(&file, u64::MAX);
});
