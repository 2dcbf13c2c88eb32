// Several workgroups saw parts of a row's past: what reads the sums weighs them by the largest score and the total of each.
fn finish(largest: Shares, total: Shares, row: u32, heads: HeadTile, lane: u32) -> Shares {
    let is_here = lane < HEADS && heads.first + lane < heads.end;
    stats_put((row + heads.first + lane) * 4u, vec4<f32>(shares_pick(largest, lane), shares_pick(total, lane), 0.0, 0.0),
              select(0u, 4u, is_here));
    return shares_of(1.0);
}
