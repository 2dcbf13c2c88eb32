use proptest::prelude::*;

use super::super::testing::{safetensors, with_header};
use super::*;

fn parse(file: &[u8]) -> Result<Vec<TensorEntry>, CheckpointError> {
    parse_header(file, file.len() as u64)
}

fn error_of(header: &str, data: &[u8]) -> String {
    let error = parse(&with_header(header, data)).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn valid() -> Vec<u8> {
    safetensors(&[
        ("b", "BF16", &[2, 3], vec![1; 12]),
        ("a", "F32", &[1], vec![2; 4]),
        ("scalar", "I64", &[], vec![3; 8]),
        ("empty", "U8", &[0, 7], vec![]),
        ("nibbles", "F4", &[4], vec![4; 2]),
    ])
}

#[test]
fn entries_are_sorted_and_placed() {
    let file = valid();
    let entries = parse(&file).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b", "empty", "nibbles", "scalar"]);
    assert_eq!((entries[0].dtype, &entries[0].shape[..]), (Dtype::F32, &[1][..]));
    assert_eq!(file[entries[0].begin as usize..entries[0].end as usize], [2; 4]);
    assert_eq!(file[entries[1].begin as usize..entries[1].end as usize], [1; 12]);
    assert_eq!(entries[3].dtype, Dtype::Unread("F4"));
    assert_eq!(file[entries[4].begin as usize..entries[4].end as usize], [3; 8]);
}

#[test]
fn trailing_spaces_holes_and_foreign_fields_are_fine() {
    let header = r#"{"a": {"dtype":"U8","shape":[2],"data_offsets":[3,5],"other":{"x":[1,[2]]}}, "__metadata__": {"x": "y"}}   "#;
    assert_eq!(parse(&with_header(header, &[0; 9])).unwrap().len(), 1);
    assert!(parse(&with_header("{}", &[])).unwrap().is_empty());
}

#[test]
fn truncated_files_and_absurd_lengths() {
    let file = valid();
    assert_eq!(parse(&file[..7]).unwrap_err().to_string(), "safetensors header length: expected 8 bytes, found a file of 7");
    for cut in [8, 20, file.len() - 1] {
        assert!(parse(&file[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(
        parse(&[0xff; 16]).unwrap_err().to_string(),
        "safetensors header length: expected at most 8 bytes (of a file of 16), found 18446744073709551615"
    );
    // A length within the file but beyond what is read.
    let huge = [&(HEADER_LIMIT_BYTES + 1).to_le_bytes()[..], b"{}"].concat();
    let error = parse_header(&huge, 1 << 40).unwrap_err().to_string();
    assert!(error.starts_with("safetensors header length: expected at most 104857600 bytes"), "{error}");
    // Within both, but not in the bytes at hand.
    assert_eq!(parse_header(&file[..20], 4096).unwrap_err().to_string().split(": ").next(), Some("safetensors header"));
}

#[test]
fn what_is_no_json_of_tensors() {
    for header in ["", "[]", "{", "{\"a\":1}", "{\"a\":{}} x", "\u{0}\u{0}"] {
        assert!(error_of(header, &[]).starts_with("safetensors header: expected a JSON object of tensors, found an error: "), "{header}");
    }
    assert!(error_of(r#"{"w": 3}"#, &[]).contains("tensor `w`: "));
    assert!(error_of(&"[".repeat(100_000), &[]).contains("found an error"));
    assert!(error_of(&format!(r#"{{"w":{{"x":{}"#, "[".repeat(100_000)), &[]).contains("found an error"));
}

#[test]
fn fields_that_are_wrong() {
    let with = |dtype: &str, shape: &str, offsets: &str| {
        error_of(&format!(r#"{{"w":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}"#), &[0; 16])
    };
    let cases = [
        (with("\"F31\"", "[4]", "[0,16]"), "tensor `w`: expected a known dtype (F32, F16, BF16, F8_E4M3, U32, …), found \"F31\""),
        (with("7", "[4]", "[0,16]"), "tensor `w`: expected a known dtype (F32, F16, BF16, F8_E4M3, U32, …), found 7"),
        (with("\"F32\"", "4", "[0,16]"), "tensor `w`: expected shape as a list of numbers, found 4"),
        (
            with("\"F32\"", "[4,-1]", "[0,16]"),
            "tensor `w`: expected shape as a list of numbers, found a list with something that is no whole number from 0 on",
        ),
        (with("\"F32\"", "[1,1,1,1,1,1,1,1,4]", "[0,16]"), "tensor `w`: expected shape as a list of numbers, found a list of more than 8"),
        (with("\"F32\"", "[4]", "[0]"), "tensor `w`: expected data_offsets [begin, end], found [0]"),
        (with("\"F32\"", "[4]", "[16,0]"), "tensor `w`: expected data_offsets in order and within 16 bytes of data, found [16, 0]"),
        (with("\"F32\"", "[4]", "[1,17]"), "tensor `w`: expected data_offsets in order and within 16 bytes of data, found [1, 17]"),
        (with("\"F32\"", "[2]", "[0,16]"), "tensor `w`: expected 8 bytes for F32 [2], found 16"),
        (
            with("\"F32\"", "[4294967296,4294967296]", "[0,16]"),
            "tensor `w`: expected a shape whose size can be counted, found [4294967296, 4294967296]",
        ),
        (
            with("\"F64\"", "[2305843009213693952]", "[0,0]"),
            "tensor `w`: expected a shape whose size can be counted, found [2305843009213693952]",
        ),
        (with("\"F4\"", "[3]", "[0,1]"), "tensor `w`: expected 2 bytes for F4 [3], found 1"),
        (error_of(r#"{"w":{}}"#, &[]), "tensor `w`: expected a known dtype (F32, F16, BF16, F8_E4M3, U32, …), found nothing"),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn tensors_that_overlap_or_share_a_name() {
    let two = |a: &str, b: &str| {
        format!(r#"{{"{a}":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},"{b}":{{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}}}"#)
    };
    let data = 8 + two("a", "b").len();
    let expected = format!("tensor `b`: expected bytes from {} on, found bytes {}..{} inside `a`", data + 4, data + 3, data + 7);
    assert_eq!(error_of(&two("a", "b"), &[0; 7]), expected);
    let twice = two("a", "a").replace("[3,7]", "[4,8]");
    assert_eq!(error_of(&twice, &[0; 8]), "tensor `a`: expected one such tensor, found two");
    // An empty tensor shares no bytes.
    let empty = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}"#;
    assert_eq!(parse(&with_header(empty, &[0; 4])).unwrap().len(), 2);
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic(header in proptest::collection::vec(any::<u8>(), 0..200), file_len: u64) {
        let file = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
        let _ = parse(&file);
        let _ = parse_header(&file, file_len);
        let _ = parse_header(&header, file_len);
    }

    #[test]
    fn mutated_files_never_panic_and_never_reach_outside(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        digits in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = valid();
        for (at, byte) in edits {
            let at = at.index(file.len());
            // Digits keep the JSON whole more often than any byte does.
            file[at] = if digits && file[at].is_ascii_digit() { b'0' + byte % 10 } else { byte };
        }
        for file in [&file[..], &file[..cut.index(file.len())]] {
            for entry in parse(file).unwrap_or_default() {
                prop_assert!(file.get(entry.begin as usize..entry.end as usize).is_some());
            }
        }
    }
}
