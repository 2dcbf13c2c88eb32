//! The README's path of a token names the kernels that `plan` lists, and no others.

mod support;

use fathom::checkpoint::Checkpoint;
use fathom::gpu::{Gpu, GpuOptions, Recording};
use fathom::model::Model;
use fathom::session::{Runtime, RuntimeOptions};
use pollster::block_on;
use std::collections::BTreeSet;
use support::golden;

#[test]
fn the_path_table_agrees_with_the_plan() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, section) = readme.split_once("A token's path").unwrap();
    let (section, _) = section.split_once("Invariants:").unwrap();
    let names: BTreeSet<&str> = section.split('`').skip(1).step_by(2).collect();

    let gpu = block_on(Gpu::open(&GpuOptions::default())).unwrap();
    let model = block_on(Model::load(&gpu, &Checkpoint::open(&golden::dir("v3")).unwrap(), &mut |_| {})).unwrap();
    let mut runtime = Runtime::new(model, RuntimeOptions { context: 128, chunk: 16, ..Default::default() }).unwrap();
    let kernels = |plan: &Recording| plan.plan().map(|step| step.kernel).collect::<BTreeSet<_>>();
    let mut planned = kernels(runtime.decode_plan().unwrap());
    planned.extend(kernels(runtime.prefill_plan(16).unwrap()));
    for kernel in &planned {
        assert!(names.contains(kernel), "the README's path misses `{kernel}`");
    }
    let is_kernel = |name: &&&str| fathom::kernels::every_program().iter().any(|program| program.name == **name);
    for name in names.iter().filter(is_kernel) {
        assert!(planned.contains(name), "the README's path names `{name}`, which no step runs");
    }
}

#[test]
fn nothing_waits_between_a_decoded_tokens_layers() {
    let gpu = block_on(Gpu::open(&GpuOptions::default())).unwrap();
    let model = block_on(Model::load(&gpu, &Checkpoint::open(&golden::dir("v3")).unwrap(), &mut |_| {})).unwrap();
    let mut runtime = Runtime::new(model, RuntimeOptions { context: 1088, ..Default::default() }).unwrap();
    let mut session = runtime.session().unwrap();
    block_on(runtime.begin(&mut session, &[0, 5, 9], &Default::default(), &mut |_, _| true)).unwrap();
    block_on(runtime.next(&mut session)).unwrap();
    let (held, read) = (gpu.held_bytes(), gpu.read_back_bytes());
    for _ in 0..1000 {
        block_on(runtime.next(&mut session)).unwrap();
    }
    assert_eq!(gpu.held_bytes(), held, "device memory grows while decoding");
    assert_eq!(gpu.read_back_bytes() - read, 4 * 1000, "bytes that come back");
}
