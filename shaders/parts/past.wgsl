// Where the past of a row lies, and which heads of it a workgroup takes.

const HIDDEN = -3e38;   // the score of a position that is not there

// The heads of a workgroup, and what they read of an entry.
struct HeadTile {
    first: u32,
    end: u32,       // of their group
    key: u32,       // first block of their keys
    latent: u32,    // first block of their latent numbers
}

// Where a position of a sequence begins in the cache.
fn entry_of(sequence: u32, position: u32) -> u32 {
    return (page_table[sequence * params.max_pages + position / PAGE] * PAGE + position % PAGE) * params.entry_quads;
}

fn head_tile(index: u32) -> HeadTile {
    let tiles = (params.group_heads + HEADS - 1u) / HEADS;
    let kv_group = index / tiles;
    let begin = kv_group * params.group_heads;
    return HeadTile(begin + index % tiles * HEADS, begin + params.group_heads, params.key_begin + kv_group * params.key_stride,
                    kv_group * (params.latent / 32u));
}
