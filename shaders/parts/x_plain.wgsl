// x is whole.
fn begin_x(token: u32, head: u32) {
}
