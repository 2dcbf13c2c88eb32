//! Every program, in every combination of parts: valid for naga, within core WebGPU's limits, translatable to every backend,
//! and its params as Rust lays them out.

#[path = "support/reflect.rs"]
mod reflect;

use fathom::gpu::{Access, Needs, Part, Program};
use fathom::kernels::every_program;
use naga::back::{hlsl, msl, spv};
use reflect::{Reflected, reflect};
use std::collections::{BTreeMap, HashSet};

/// Runs a check on every program and fails with all that went wrong.
fn check_all(check: impl Fn(&Program, &Reflected) -> Result<(), String>) {
    let programs = every_program();
    let mut wrong = vec![];
    for program in &programs {
        if let Err(message) = reflect(program).and_then(|reflected| check(program, &reflected)) {
            wrong.push(format!("{} [{}]: {message}", program.name, program.label()));
        }
    }
    assert!(!programs.is_empty());
    assert!(wrong.is_empty(), "{} of {} programs\n{}", wrong.len(), programs.len(), wrong.join("\n"));
}

fn require(holds: bool, message: impl Fn() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

#[test]
fn fit_core_limits() {
    check_all(|_, found| {
        let count = |wanted: fn(&Access) -> bool| found.bindings.iter().filter(|(_, access)| wanted(access)).count();
        let (storage, uniform) = (count(|a| *a != Access::Uniform), count(|a| *a == Access::Uniform));
        require(storage <= 8, || format!("{storage} storage buffers"))?;
        require(uniform <= 12, || format!("{uniform} uniform buffers"))?;
        require(found.shared_bytes <= 16384, || format!("{} bytes of workgroup memory", found.shared_bytes))?;
        let lanes: u32 = found.workgroup.iter().product();
        require((1..=256).contains(&lanes), || format!("{lanes} invocations"))
    });
}

#[test]
fn params_are_laid_out_as_in_rust() {
    check_all(|program, found| {
        let expected: Vec<_> = program.fields.iter().map(|&(name, offset)| (name.to_string(), offset)).collect();
        require(found.fields == expected, || format!("WGSL has {:?}, Rust has {expected:?}", found.fields))?;
        require(found.params_bytes <= 256, || format!("{} bytes of params", found.params_bytes))
    });
}

#[test]
fn bindings_are_distinct_and_the_body_comes_first() {
    check_all(|_, found| {
        let numbers: Vec<u32> = found.bindings.iter().map(|(number, _)| *number).collect();
        require(numbers.windows(2).all(|pair| pair[0] < pair[1]), || format!("bindings {numbers:?}"))?;
        let body = numbers.iter().filter(|&&number| number < fathom::gpu::PART_BINDINGS).count();
        require(numbers[..body] == *(0..body as u32).collect::<Vec<_>>(), || format!("bindings {numbers:?} leave a gap"))
    });
}

#[test]
fn translate_to_every_backend() {
    check_all(|program, Reflected { module, info, .. }| {
        let words = spv::write_vec(module, info, &spv::Options { lang_version: (1, 3), ..Default::default() }, None);
        words.map_err(|error| format!("SPIR-V: {error}"))?;
        let options = msl::Options { lang_version: (2, 4), ..Default::default() };
        msl::write_string(module, info, &options, &msl::PipelineOptions::default()).map_err(|error| format!("MSL: {error}"))?;
        // wgpu has cooperative matrices on Vulkan and Metal only.
        if program.needs(Needs::Coop) {
            return Ok(());
        }
        let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
        let pipeline = hlsl::PipelineOptions::default();
        let mut text = String::new();
        let written = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None);
        let entries = written.map_err(|error| format!("HLSL: {error}"))?.entry_point_names;
        require(matches!(entries.as_slice(), [Ok(_)]), || format!("HLSL of {}: {entries:?}", program.name))
    });
}

#[test]
fn labels_and_texts_are_unique() {
    let (mut labels, mut texts) = (HashSet::new(), HashSet::new());
    let mut counts = BTreeMap::new();
    for program in every_program() {
        assert!(labels.insert((program.name, program.label())), "{} [{}] twice", program.name, program.label());
        assert!(texts.insert(program.wgsl(false)), "{} [{}] has the text of another", program.name, program.label());
        *counts.entry(program.name).or_insert(0) += 1;
    }
    println!("{} programs: {counts:?}", texts.len());
}

#[test]
fn every_file_is_part_of_a_program() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");
    let used: HashSet<String> = every_program().iter().flat_map(|p| p.parts.clone()).map(|part| part.name.to_string()).collect();
    let mut found = HashSet::new();
    for folder in ["", "parts/"] {
        for entry in std::fs::read_dir(format!("{root}/{folder}")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".wgsl") {
                found.insert(format!("{folder}{name}"));
            }
        }
    }
    assert_eq!(found, used);
}

#[test]
fn what_is_wrong_is_refused() {
    let refused = |text: &'static str, needs: &'static [Needs], hint: &str| {
        let part = Part { name: "wrong.wgsl", source: text, needs };
        let error = reflect(&Program::new("wrong", &[], [part])).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(error.contains(hint), "{hint:?} is not in: {error}");
    };
    refused("@compute @workgroup_size(1) fn wrong() { let a = 1u + 1.0; }", &[], "");
    refused("@compute @workgroup_size(1) fn other() {}", &[], "entry point");
    refused("@group(0) @binding(1) var<storage, read> y: array<u32>;\n@compute @workgroup_size(1) fn wrong() {}", &[], "never used");
    let adds = "@group(0) @binding(1) var<storage, read_write> y: array<f32>;\n\
        @compute @workgroup_size(8) fn wrong(@builtin(local_invocation_index) i: u32) { y[i] = subgroupAdd(y[i]); }";
    refused(adds, &[], "");
    let part = Part { name: "right.wgsl", source: adds, needs: &[Needs::Subgroups] };
    assert!(reflect(&Program::new("wrong", &[], [part])).is_ok());
}
