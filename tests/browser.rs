//! Every program, in every combination of parts, compiles in a browser: naga alone accepts text that Chromium refuses.
//!
//! Needs `chromium` (`make test` installs it where it can); without it this fails, unless `ALLOW_NO_BROWSER=1`.

#[path = "support/chromium.rs"]
mod chromium;

use chromium::{Report, Verdict, compile_in_chromium, has_chromium};
use fathom::gpu::Needs;
use std::collections::{HashMap, HashSet};

/// None where the environment allows to have no browser.
fn compile(programs: &[(String, String)], is_built: impl Fn(usize) -> bool) -> Option<Report> {
    has_chromium().then(|| compile_in_chromium(programs, is_built).unwrap_or_else(|error| panic!("{error}")))
}

/// One entry point named `main` over 64 lanes, which may use `y`, a `read_write` array, `params`, a uniform, and its index `lane`.
fn program(label: &str, body: &str) -> (String, String) {
    let head = "struct Params { count: u32, }\n\
        @group(0) @binding(0) var<uniform> params: Params;\n\
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;\n\
        @compute @workgroup_size(64)\n";
    let text = format!("{head}fn main(@builtin(local_invocation_index) lane: u32) {{\n{body}\n}}\n");
    (label.into(), text)
}

#[test]
fn every_program_compiles_in_chromium() {
    // No browser has cooperative matrices.
    let all: Vec<_> = fathom::kernels::every_program().into_iter().filter(|program| !program.needs(Needs::Coop)).collect();
    // SwiftShader takes half a second for a pipeline, so one stands for all of a kernel's with its lanes: the others differ in how
    // weights are decoded. What Chromium refuses it refuses at compilation already, but for limits, which `shaders.rs` compares.
    let mut built = HashMap::new();
    // No browser's adapter has its tensors in images: more than four of them.
    for (i, program) in all.iter().enumerate().filter(|(_, program)| !program.label().contains(":image")) {
        let lanes = program.constants.iter().find(|(name, _)| *name == "WORKGROUP_SIZE");
        built.entry((program.name, program.needs(Needs::Subgroups), lanes)).or_insert(i);
    }
    let built: HashSet<usize> = built.into_values().collect();
    let programs: Vec<_> = all.iter().map(|program| (program.label(), program.wgsl(true))).collect();
    let labels: HashSet<_> = programs.iter().map(|(label, _)| label).collect();
    assert_eq!(labels.len(), programs.len(), "two programs share a label");
    let Some(report) = compile(&programs, |i| built.contains(&i)) else { return };

    assert_eq!(report.verdicts.len(), programs.len(), "a verdict for each program");
    let mut accepted = 0;
    let mut skipped = 0;
    let mut refusals = Vec::new();
    for (label, verdict) in &report.verdicts {
        match verdict {
            Verdict::Accepted => accepted += 1,
            // The software adapter has no f16; every other feature we use it must have.
            Verdict::Skipped(feature) if feature == "f16" => skipped += 1,
            Verdict::Skipped(feature) => refusals.push(format!("{label}: the adapter lacks `{feature}`")),
            Verdict::Refused(messages) => refusals.push(format!("{label}:\n{messages}")),
        }
    }
    println!("{}: {accepted} programs accepted ({} built), {skipped} skipped for want of f16", report.adapter, built.len());
    assert!(refusals.is_empty(), "{} of {} programs refused\n{}", refusals.len(), programs.len(), refusals.join("\n\n"));
    assert!(accepted > 0, "every program was skipped");
}

#[test]
fn chromium_refuses_a_non_uniform_barrier_so_the_check_can_fail() {
    let barrier = "if y[0] > 1.0 { return; }\nworkgroupBarrier();\ny[lane] = f32(params.count);";
    // naga lets this one pass: if it refused it too, the browser would show nothing new.
    let module = naga::front::wgsl::parse_str(&program("", barrier).1).expect("the text is well-formed");
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .expect("naga accepts it");
    let programs = [
        program("non-uniform barrier", barrier),
        program("uniform barrier", "if params.count > 1u { return; }\nworkgroupBarrier();\ny[lane] = 1.0;"),
        program("syntax error", "y[lane] = ;"),
        program("wrong type", "y[lane] = params.count;"),
        ("no enable".into(), program("", "y[lane] = subgroupAdd(f32(params.count));").1),
        ("enable".into(), format!("enable subgroups;\n{}", program("", "y[lane] = subgroupAdd(f32(params.count));").1)),
        ("too many lanes".into(), program("", "y[lane] = f32(params.count);").1.replace("(64)", "(512)")),
        ("f16".into(), format!("// halves\nenable f16;\n{}", program("", "y[lane] = f32(f16(params.count));").1)),
        ("no entry point".into(), "fn nothing() {}".into()),
    ];
    // What compiling alone finds, and then what takes a pipeline.
    let Some(report) = compile(&programs, |i| i >= 6) else { return };

    let verdict = |wanted: &str| &report.verdicts.iter().find(|(label, _)| label == wanted).expect("a verdict for each label").1;
    let refusal = |label: &str| match verdict(label) {
        Verdict::Refused(messages) => messages.clone(),
        other => panic!("{label}: expected a refusal, found {other:?}"),
    };
    assert!(refusal("non-uniform barrier").contains("uniform control flow"));
    assert!(refusal("syntax error").contains("error 6:"));
    assert!(refusal("wrong type").contains("u32"));
    assert!(refusal("no enable").contains("subgroup"));
    assert!(refusal("too many lanes").contains("512"));
    refusal("no entry point");
    assert_eq!(*verdict("uniform barrier"), Verdict::Accepted);
    assert_eq!(*verdict("enable"), Verdict::Accepted);
    let f16 = verdict("f16");
    assert!(matches!(f16, Verdict::Accepted) || *f16 == Verdict::Skipped("f16".into()), "{f16:?}");
}

#[test]
fn many_long_programs_are_answered_in_order() {
    // One refused among them: no verdict is lost or lands at its neighbour's.
    const WRONG: usize = 117;
    let filler: String = (0..90).map(|k| format!("fn unused_{k}(a: f32, count: u32) -> f32 {{ var sum = a; for (var i = 0u; i < count; i++) {{ sum += y[i]; }} return sum; }}\n")).collect();
    let programs: Vec<_> = (0..200)
        .map(|i| {
            let (label, text) =
                program(&format!("program {i}"), if i == WRONG { "y[lane] = nothing;" } else { "y[lane] = f32(params.count);" });
            (label, format!("{text}{filler}const NUMBER = {i}u;\n"))
        })
        .collect();
    let Some(report) = compile(&programs, |_| true) else { return };
    assert_eq!(report.verdicts.len(), programs.len());
    for (i, (label, verdict)) in report.verdicts.iter().enumerate() {
        assert_eq!(*label, programs[i].0);
        assert_eq!(*verdict == Verdict::Accepted, i != WRONG, "{label}: {verdict:?}");
    }
}
