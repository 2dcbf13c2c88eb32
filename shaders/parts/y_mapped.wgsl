// Rows of the result are scattered over y, whose other columns stay as they are (zeros): rows of padding cost nothing.
@group(0) @binding(11) var<storage, read> column_from_row: array<u32>;   // [rows]

fn y_column(row: u32) -> u32 {
    return column_from_row[row];
}
