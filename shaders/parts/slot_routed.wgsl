// The experts that the router chose.
@group(0) @binding(13) var<storage, read> chosen: array<u32>;            // [rows, slots]

fn slot_expert(slot: u32) -> u32 {
    return chosen[slot];
}
