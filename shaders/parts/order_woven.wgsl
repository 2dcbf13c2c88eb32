// 32 rows of a weight are woven: the pieces that eight lanes with four rows each want at once are neighbours.
const STEP = 32u;

fn row_begin(row: u32, size: u32) -> u32 {
    return (row / 32u) * size * 32u + (row % 4u) * 8u + (row / 4u) % 8u;
}
