// Tiles of eight rows for one expert that every row takes: a dense or a shared FFN.
@group(0) @binding(13) var<uniform> step: vec4<u32>;                     // live rows first

// Expert, first slot, slots.
fn load_tile(tile: u32) -> vec3<u32> {
    return vec3<u32>(0u, tile * 8u, min(8u, max(step.x, tile * 8u) - tile * 8u));
}

// The same for tiles of thirty-two.
fn load_wide_tile(tile: u32) -> vec3<u32> {
    return vec3<u32>(0u, tile * 32u, min(32u, max(step.x, tile * 32u) - tile * 32u));
}

fn tile_slot(at: u32) -> u32 {
    return at;
}
