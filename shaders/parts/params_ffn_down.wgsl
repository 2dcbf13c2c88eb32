// What experts' second half is told over many rows.
struct Params {
    cols: u32,          // columns as stored, a multiple of 32
    rows: u32,          // rows of an expert
    y_stride: u32,      // from slot to slot
    expert_begin: u32,  // experts of this slab
    experts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
