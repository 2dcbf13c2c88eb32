// Quads of rows are scattered over y, whose other columns stay as they are (zeros): padding costs nothing.
@group(0) @binding(11) var<storage, read> quad_from_rows: array<u32>;    // [rows / 4]: four columns

fn y_column(row: u32) -> u32 {
    return quad_from_rows[row / 4u] * 4u;
}
