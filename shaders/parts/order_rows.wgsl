// A weight's rows lie one after another, `size` pieces each.
const STEP = 1u;

fn row_begin(row: u32, size: u32) -> u32 {
    return row * size;
}
