// What experts' first half is told, over few rows or many.
struct Params {
    cols: u32,          // columns as stored, a multiple of 32
    width: u32,         // neurons of an expert
    h_stride: u32,      // from slot to slot
    slots: u32,         // slots of a row
    expert_begin: u32,  // experts of this slab
    experts: u32,
    norm_dim: u32,      // the norm's own columns, as eps few rows only
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
