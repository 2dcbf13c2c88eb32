// The rows of a list: those whose logits are wanted.
@group(0) @binding(12) var<storage, read> listed: array<u32>;            // [outputs]

fn source_row(row: u32) -> u32 {
    return listed[row];
}
