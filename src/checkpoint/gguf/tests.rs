use proptest::prelude::*;

use super::super::testing::{GgufFile, gguf_string};
use super::*;

fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

fn valid() -> GgufFile {
    let texts = [gguf_string("a"), gguf_string("é")].concat();
    let nested = array(9, 2, &[array(0, 1, &[7]), array(8, 0, &[])].concat());
    GgufFile::default()
        .value("general.architecture", 8, &gguf_string("llama"))
        .value("llama.block_count", 4, &30u32.to_le_bytes())
        .value("flag", 7, &[1])
        .value("tokens", 9, &array(8, 2, &texts))
        .value("scores", 9, &array(6, 2, &[0; 8]))
        .value("nested", 9, &nested)
        .tensor("f", 0, &[3, 2], &[1; 24])
        .tensor("q", 2, &[64, 2, 1], &[2; 72])
        .tensor("k", 14, &[256], &[3; 210])
        .describe("later", 99, &[5], 32)
}

fn error_of(file: GgufFile) -> String {
    let error = parse(&file.bytes()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// One tensor over 64 bytes of data.
fn one(kind: u32, dims: &[u64], offset: u64) -> GgufFile {
    GgufFile { data: vec![0; 64], ..GgufFile::default() }.describe("t", kind, dims, offset)
}

#[test]
fn metadata_and_tensors() {
    let bytes = valid().bytes();
    let Gguf { metadata, tensors } = parse(&bytes).unwrap();
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(metadata.u32("llama.block_count").unwrap(), Some(30));
    assert_eq!(metadata.str_array("tokens").unwrap(), Some(&["a".to_string(), "é".to_string()][..]));
    assert_eq!(metadata.f32_array("scores").unwrap(), Some(vec![0.0; 2]));
    let scalars = GgufArray::Scalars { kind: ScalarKind::U8, bytes: vec![7] };
    let nested = GgufArray::Arrays(vec![scalars, GgufArray::Texts(vec![])]);
    assert_eq!(metadata.get("nested"), Some(&GgufValue::Array(nested)));
    let [f, k, later, q] = tensors.try_into().unwrap();
    assert_eq!((f.name.as_str(), f.dtype, &f.shape[..]), ("f", Dtype::F32, &[2, 3][..]));
    assert_eq!(bytes[f.begin as usize..f.end as usize], [1; 24]);
    assert_eq!((k.dtype, bytes[k.begin as usize..k.end as usize].to_vec()), (Dtype::Unread("Q6_K"), vec![3; 210]));
    assert_eq!((later.dtype, later.end - later.begin), (Dtype::UnknownGguf(99), 0));
    assert_eq!((q.dtype, &q.shape[..], bytes[q.begin as usize..q.end as usize].to_vec()), (Dtype::Q4_0, &[1, 2, 64][..], vec![2; 72]));
}

#[test]
fn truncated_anywhere_is_an_error() {
    let mut file = valid();
    file.data.truncate(32 + 96 + 210);
    let bytes = file.bytes();
    assert!(parse(&bytes).is_ok());
    for cut in 0..bytes.len() {
        assert!(parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn magic_and_version() {
    let edit = |at: usize, new: &[u8]| {
        let mut bytes = valid().bytes();
        bytes[at..at + new.len()].copy_from_slice(new);
        parse(&bytes).unwrap_err().to_string()
    };
    assert_eq!(edit(0, b"GGML"), "magic: expected GGUF, found GGML");
    assert_eq!(edit(0, b"\n"), r"magic: expected GGUF, found \nGUF");
    assert_eq!(edit(4, &[1]), "version: expected 2 or 3, little endian, found 1");
    assert_eq!(edit(4, &[0, 0, 0, 3]), "version: expected 2 or 3, little endian, found 50331648 (a big-endian file)");
    let mut bytes = valid().bytes();
    bytes[4] = 2;
    assert!(parse(&bytes).is_ok());
}

#[test]
fn huge_counts_are_refused_before_they_cost_anything() {
    let huge = u64::MAX;
    let file = GgufFile { tensor_count: huge, ..GgufFile::default() };
    assert_eq!(error_of(file), "tensor count: expected at most 0 in the rest of the file, found 18446744073709551615");
    let file = GgufFile { value_count: huge, ..GgufFile::default() };
    assert_eq!(error_of(file), "metadata count: expected at most 0 in the rest of the file, found 18446744073709551615");
    let value = |bytes: &[u8]| error_of(GgufFile::default().value("k", 9, bytes));
    assert_eq!(
        value(&array(4, huge, &[])),
        "metadata `k`: expected at most 16777216 array elements in the file, found 18446744073709551615 more"
    );
    assert!(value(&array(8, 1 << 20, &[])).starts_with("metadata `k`: expected at most "));
    assert!(value(&array(9, 1 << 20, &[])).starts_with("metadata `k`: expected at most "));
    assert!(value(&array(10, 1 << 20, &[])).starts_with("metadata `k`: expected 8388608 bytes, found "));
    let text = error_of(GgufFile::default().value("k", 8, &huge.to_le_bytes()));
    assert_eq!(text, "metadata `k`: expected a string of at most 67108864 bytes, found 18446744073709551615");
    assert_eq!(
        error_of(GgufFile { values: huge.to_le_bytes().repeat(3), value_count: 1, ..GgufFile::default() }).split(':').next(),
        Some("metadata key 0")
    );
}

#[test]
fn values_that_are_wrong() {
    let value = |kind: u32, bytes: &[u8]| error_of(GgufFile::default().value("k", kind, bytes));
    assert_eq!(value(13, &[0; 8]), "metadata `k`: expected a type from 0 to 12, found 13");
    assert_eq!(value(9, &array(13, 0, &[])), "metadata `k`: expected elements of a type from 0 to 12, found 13");
    assert_eq!(value(7, &[2]), "metadata `k`: expected 0 or 1 for a bool, found 2");
    assert_eq!(value(9, &array(7, 3, &[0, 1, 9])), "metadata `k`: expected 0 or 1 for a bool, found 9");
    assert!(value(8, &[&1u64.to_le_bytes()[..], &[0xff]].concat()).starts_with("metadata `k`: expected UTF-8, found an error: "));
    let deep = (0..1000).fold(array(0, 0, &[]), |inner, _| array(9, 1, &inner));
    assert_eq!(value(9, &deep), "metadata `k`: expected arrays at most 4 deep, found deeper ones");
    let twice = GgufFile::default().value("k", 7, &[1]).value("k", 7, &[1]);
    assert_eq!(error_of(twice), "metadata `k`: expected one value, found two");
}

#[test]
fn alignment() {
    let with = |kind: u32, bytes: &[u8]| one(0, &[8], 0).value("general.alignment", kind, bytes);
    for wrong in [0u32, 3, 48] {
        let expected = format!("metadata `general.alignment`: expected a power of two, found {wrong}");
        assert_eq!(error_of(with(4, &wrong.to_le_bytes())), expected);
    }
    assert!(error_of(with(8, &gguf_string("32"))).starts_with("metadata `general.alignment`: expected an integer"));
    assert!(parse(&with(4, &8u32.to_le_bytes()).bytes()).is_ok());
    // The data would begin past the end of the file.
    assert!(error_of(with(4, &(1u32 << 31).to_le_bytes())).starts_with("tensor `t`: expected bytes within the 0 bytes of data"));
}

#[test]
fn tensors_that_are_wrong() {
    let cases = [
        (one(0, &[], 0), "tensor `t`: expected 1 to 4 dimensions, found 0"),
        (one(0, &[1; 5], 0), "tensor `t`: expected 1 to 4 dimensions, found 5"),
        (
            one(0, &[1 << 40, 1 << 40], 0),
            "tensor `t`: expected dimensions whose product can be counted, found [1099511627776, 1099511627776]",
        ),
        (one(0, &[1 << 62], 0), "tensor `t`: expected bytes within the 64 bytes of data, found uncountable bytes at offset 0"),
        (one(0, &[8], 16), "tensor `t`: expected an offset that is a multiple of 32, found 16"),
        (one(0, &[9], 32), "tensor `t`: expected bytes within the 64 bytes of data, found 36 bytes at offset 32"),
        (
            one(0, &[1], u64::MAX - 31),
            "tensor `t`: expected bytes within the 64 bytes of data, found 4 bytes at offset 18446744073709551584",
        ),
        (one(8, &[33], 0), "tensor `t`: expected rows of whole blocks of 32 for Q8_0, found rows of 33"),
        (one(14, &[128], 0), "tensor `t`: expected rows of whole blocks of 256 for Q6_K, found rows of 128"),
        (one(0, &[8], 0).describe("t", 0, &[8], 32), "tensor `t`: expected one such tensor, found two"),
    ];
    for (file, expected) in cases {
        assert_eq!(error_of(file), expected);
    }
    let overlapping = one(0, &[9], 0).describe("u", 0, &[1], 32);
    assert!(error_of(overlapping).starts_with("tensor `u`: expected bytes from "));
    // No elements, though the product of the other dimensions overflows.
    assert!(parse(&one(0, &[0, 1 << 40, 1 << 40], 0).bytes()).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..300), tensors in 0u64..3, values in 0u64..3) {
        let _ = parse(&tail);
        let head = [b"GGUF", &3u32.to_le_bytes()[..], &tensors.to_le_bytes(), &values.to_le_bytes()].concat();
        let _ = parse(&[head, tail].concat());
    }

    #[test]
    fn mutated_files_never_panic_and_never_reach_outside(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = valid().bytes();
        for (at, byte) in edits {
            let at = at.index(file.len());
            file[at] = byte;
        }
        for file in [&file[..], &file[..cut.index(file.len())]] {
            if let Ok(parsed) = parse(file) {
                for entry in parsed.tensors {
                    prop_assert!(file.get(entry.begin as usize..entry.end as usize).is_some());
                }
            }
        }
    }
}
