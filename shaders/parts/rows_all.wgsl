// Every row in its place.
fn source_row(row: u32) -> u32 {
    return row;
}
