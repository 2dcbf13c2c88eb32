// Tiles of up to eight slots of one expert, as moe_sort lists them.
@group(0) @binding(13) var<storage, read> tiles: array<vec4<u32>>;       // [tiles]: expert, first in order, slots, slots of a wide tile
@group(0) @binding(14) var<storage, read> order: array<u32>;             // [rows * slots]: slots by expert

fn load_tile(tile: u32) -> vec3<u32> {
    return tiles[tile].xyz;
}

// Up to thirty-two slots, where the list's tile is the first of them; otherwise none.
fn load_wide_tile(tile: u32) -> vec3<u32> {
    return tiles[tile].xyw;
}

fn tile_slot(at: u32) -> u32 {
    return order[at];
}
