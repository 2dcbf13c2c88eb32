// A loop's bound or a condition from the params, for the workgroup `group`. lavapipe unrolls loops whose bounds the params alone
// fix, and compiles such a shader anew for every dispatch (2 ms each); what seems to depend on the workgroup it leaves alone.
fn bound(value: u32, group: u32) -> u32 {
    return select(0u, value, group != 0xffffffffu);
}
