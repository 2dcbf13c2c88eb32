// Queries have no part without rotation: their latent half is never read.
fn absorb(i: u32, row: u32) {
}
