// Numbers of a tile as they are, one by one: Metal's matrices are loaded from no vectors.
alias Piece = f32;
const PIECE = 1u;

fn put_quad(at: u32, v: vec4<f32>) {
    staged[at] = v.x;
    staged[at + 1u] = v.y;
    staged[at + 2u] = v.z;
    staged[at + 3u] = v.w;
}

fn fitting_scale(largest: f32) -> f32 {
    return 1.0;
}
