// What a linear map is told, over few rows or many.
struct Params {
    rows: u32,          // rows of a head
    cols: u32,          // columns as stored, a multiple of 32
    row_begin: u32,     // first row of this slab among all heads' rows
    head_begin: u32,    // first head of this slab
    x_stride: u32,      // from token to token, in vec4
    x_head_stride: u32, // from head to head, in vec4
    x_split: u32,       // from part to part of an x in parts, in vec4; few rows only
    y_stride: u32,      // from token to token
    norm_dim: u32,      // the norm's own columns, as eps few rows only
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
