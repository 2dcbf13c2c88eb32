// Numbers of a tile as they are, one by one: Metal's matrices are loaded from no vectors.
alias Piece = f32;
const PIECE = 1u;

fn put_weight(at: u32, v: vec4<f32>) {
    tile_weight[at] = v.x;
    tile_weight[at + 1u] = v.y;
    tile_weight[at + 2u] = v.z;
    tile_weight[at + 3u] = v.w;
}

fn put_x(at: u32, v: vec4<f32>) {
    tile_x[at] = v.x;
    tile_x[at + 1u] = v.y;
    tile_x[at + 2u] = v.z;
    tile_x[at + 3u] = v.w;
}

fn fitting_scale(largest: f32) -> f32 {
    return 1.0;
}
