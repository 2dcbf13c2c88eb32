// Several workgroups saw parts of a row's past: what reads the sums weighs them by the largest score and the total of each.
@group(0) @binding(13) var<storage, read_write> stats: array<vec2<f32>>; // [rows, SPLITS, heads]: largest, total

fn finish(largest: Shares, total: Shares, row: u32, first_head: u32, lane: u32) -> Shares {
    if lane < HEADS && first_head + lane < params.heads {
        stats[row + first_head + lane] = vec2<f32>(shares_pick(largest, lane), shares_pick(total, lane));
    }
    return shares_of(1.0);
}
