//! Every kernel against its CPU twin, on all the adapter has and on core WebGPU alone.
//!
//! Outputs start as NaN; what lies beyond a result must stay as it was; and each comparison is shown to refuse wrong answers.

#[path = "support/reflect.rs"]
mod reflect;

use fathom::checkpoint::WeightFormat;
use fathom::gpu::{Access, Disabled, Element, Feature, Gpu, GpuOptions, Tensor};
use fathom::kernels::*;
use pollster::block_on;
use std::collections::HashMap;
use std::time::Instant;

/// No adapter is a failure unless the environment allows it.
fn open(disabled: &[Feature]) -> Option<Gpu> {
    let options = GpuOptions { disabled: Disabled(disabled.to_vec()), ..GpuOptions::default() };
    match block_on(Gpu::open(&options)) {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("ALLOW_NO_GPU").is_some_and(|value| value == "1") => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}; ALLOW_NO_GPU=1 skips this test"),
    }
}

fn run(gpu: &Gpu, prepared: &Prepared) -> Vec<Vec<u32>> {
    prepared.recording.replay(gpu);
    prepared.outputs.iter().map(|output| block_on(output.read(gpu)).unwrap()).collect()
}

/// Wrong answers that look much like the right one.
fn perturbed(output: &Output, right: &[u32]) -> Vec<(&'static str, Vec<u32>)> {
    let mut wrong = vec![];
    let mut change = |what, index: Option<usize>, bits: fn(u32) -> u32| {
        if let Some(index) = index {
            let mut found = right.to_vec();
            found[index] = bits(found[index]);
            wrong.push((what, found));
        }
    };
    let touched = || (0..right.len()).filter(|&i| output.expected[i] != UNTOUCHED);
    let untouched = (0..right.len()).rev().find(|&i| output.expected[i] == UNTOUCHED);
    change("a write beyond the result", untouched, |bits| bits ^ 1);
    match output.check {
        Check::Nmse(..) => {
            let number = |i: usize| f32::from_bits(right[i]).abs();
            let largest = touched().max_by(|&a, &b| number(a).total_cmp(&number(b))).filter(|&i| number(i) > 0.0);
            change("one number off by 1%", largest, |bits| (f32::from_bits(bits) * 1.01).to_bits());
            change("NaN", touched().next(), |_| f32::NAN.to_bits());
            change("infinity", touched().next_back(), |_| f32::INFINITY.to_bits());
            change("nothing written", touched().next_back(), |_| UNTOUCHED);
        }
        Check::Exact => change("another number", touched().next_back(), |bits| bits ^ 1),
        Check::Below(_) => change("nothing written", touched().next_back(), |_| UNTOUCHED),
        Check::Untouched => {}
    }
    wrong
}

fn check_every_case(gpu: &Gpu, bench: bool) {
    check_cases(gpu, cases().into_iter().filter(|case| case.bench == bench));
}

fn check_cases(gpu: &Gpu, cases: impl Iterator<Item = Case>) {
    let mut wrong = vec![];
    let mut worst: HashMap<String, (f64, f64, usize)> = HashMap::new();
    for case in cases {
        let since = Instant::now();
        let prepared = case.prepare(gpu).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(!prepared.outputs.is_empty(), "{}: no outputs", case.name);
        for (output, found) in prepared.outputs.iter().zip(run(gpu, &prepared)) {
            match output.compare(&found) {
                Err(message) => wrong.push(format!("{}: {message}", case.name)),
                Ok(nmse) => {
                    let kernel = case.name.split(' ').next().unwrap_or_default().to_string();
                    let entry = worst.entry(kernel).or_default();
                    *entry = (entry.0.max(nmse), entry.1 + since.elapsed().as_secs_f64(), entry.2 + 1);
                    for (what, found) in perturbed(output, &found) {
                        if output.compare(&found).is_ok() {
                            wrong.push(format!("{}, {}: {what} passes for right", case.name, output.name));
                        }
                    }
                }
            }
        }
    }
    println!("{}", gpu.caps());
    for (kernel, (nmse, secs, count)) in &worst {
        println!("{kernel:<16} {count:>4} outputs, largest NMSE {nmse:.1e}, {secs:.2} s");
    }
    assert!(wrong.is_empty(), "{}: {} outputs are wrong\n{}", gpu.caps(), wrong.len(), wrong.join("\n"));
}

#[test]
fn every_case_with_all_the_adapter_has() {
    if let Some(gpu) = open(&[]) {
        check_every_case(&gpu, false);
    }
}

#[test]
#[ignore = "takes a minute on a software adapter"]
fn every_timed_case() {
    if let Some(gpu) = open(&[]) {
        check_every_case(&gpu, true);
    }
}

#[test]
fn every_case_on_core_webgpu() {
    if let Some(gpu) = open(&[Feature::Subgroups, Feature::F16]) {
        assert_eq!(gpu.caps().tier(), "core");
        check_every_case(&gpu, false);
    }
}

#[test]
fn every_case_with_subgroups_and_buffers() {
    if let Some(gpu) = open(&[Feature::Images]) {
        check_every_case(&gpu, false);
    }
}

#[test]
fn every_case_with_few_barriers() {
    if let Some(gpu) = open(&[Feature::Subgroups, Feature::F16, Feature::Barriers]) {
        check_every_case(&gpu, false);
    }
}

/// Every way that may be chosen by measuring, with some of the cases of the kernels that have a choice.
#[test]
fn every_choice_of_lanes() {
    let Some(gpu) = open(&[Feature::Images]) else { return };
    let tuned: Vec<(Job, &str)> = cases().into_iter().filter_map(|case| case.tunes).collect();
    assert_eq!(tuned.len(), 7);
    let of = |job| Lanes::candidates(job, gpu.caps());
    let most = tuned.iter().map(|(job, _)| of(*job).len()).max().unwrap();
    let has_choice = |case: &Case| ["matvec", "matmul", "ffn_", "mla_attention"].iter().any(|kernel| case.name.starts_with(kernel));
    // The first are the usual, which have tests of their own.
    for i in 1..most {
        for (job, kernel) in &tuned {
            let lanes = of(*job);
            gpu.choose(kernel, Some(lanes[i % lanes.len()].to_string()));
        }
        check_cases(&gpu, cases().into_iter().filter(|case| !case.bench && has_choice(case)).skip(i % 11).step_by(11));
    }
}

/// Every case of many rows in matrices of every shape, where the adapter has any: Mesa 26's lavapipe does, Mesa 25.0's does not.
#[test]
fn every_case_in_cooperative_matrices() {
    let Some(gpu) = open(&[Feature::Images]) else { return };
    let shapes: Vec<Lanes> = Lanes::candidates(Job::Tiles, gpu.caps()).into_iter().filter(|lanes| lanes.coop.is_some()).collect();
    if shapes.is_empty() {
        eprintln!("skipped: {} has no cooperative matrices", gpu.caps());
    }
    let is_tiled = |case: &Case| ["matmul", "ffn_"].iter().any(|kernel| case.name.starts_with(kernel));
    for lanes in shapes {
        println!("{lanes}");
        for (_, kernel) in cases().into_iter().filter_map(|case| case.tunes).filter(|(job, _)| *job == Job::Tiles) {
            gpu.choose(kernel, Some(lanes.to_string()));
        }
        check_cases(&gpu, cases().into_iter().filter(|case| !case.bench && is_tiled(case)));
    }
}

/// Rows whose numbers half precision cannot hold are scaled, and those beside them keep their bits.
#[test]
fn rows_keep_their_bits_beside_large_ones_in_matrices() {
    let Some(gpu) = open(&[Feature::Images]) else { return };
    let Some(lanes) = Lanes::candidates(Job::Tiles, gpu.caps()).into_iter().find(|lanes| lanes.coop.is_some()) else {
        eprintln!("skipped: {} has no cooperative matrices", gpu.caps());
        return;
    };
    gpu.choose("matmul", Some(lanes.to_string()));
    const ROWS: usize = 16;
    let (cols, out) = (96, 40);
    let linear = weight(&gpu, out, cols);
    let product = |size_of: &dyn Fn(usize) -> f32| -> Vec<f32> {
        let x: Vec<f32> = numbers(2, ROWS * cols).into_iter().enumerate().map(|(i, v)| v * size_of(i / cols)).collect();
        let (x, y) = (gpu.activation_of("x", &[ROWS, cols], &x).unwrap(), gpu.zeros("y", &[ROWS, out]).unwrap());
        let rows = Batch::new(&gpu, 0, ROWS).rows;
        gpu.run(Linear::plain(&x, &linear, &y, &rows)).unwrap();
        block_on(gpu.read(&y)).unwrap()
    };
    let plain = product(&|_| 1.0);
    let beside = product(&|row| [1.0, 1048576.0, 1.0 / 1048576.0][row % 3]);
    for row in 0..ROWS {
        let of = |all: &[f32]| all[row * out..][..out].to_vec();
        let (plain, beside) = (of(&plain), of(&beside));
        match row % 3 {
            0 => assert_eq!(plain, beside, "row {row}"),
            other => {
                let back = [1.0 / 1048576.0, 1048576.0][other - 1];
                let off = plain.iter().zip(&beside).map(|(a, b)| (a - b * back).abs()).fold(0f32, f32::max);
                assert!(off < 0.01, "row {row}: off by {off}");
            }
        }
    }
}

#[test]
fn bindings_are_those_of_the_shaders() {
    for disabled in [&[][..], &[Feature::Subgroups], &[Feature::Images], &[Feature::Subgroups, Feature::Barriers]] {
        let Some(gpu) = open(disabled) else { return };
        let mut known = HashMap::new();
        for case in cases().into_iter().filter(|case| !case.bench) {
            for (program, given) in case.prepare(&gpu).unwrap().launches {
                let expected: &Vec<(u32, Access)> = known.entry(program.wgsl(false)).or_insert_with(|| {
                    reflect::reflect(&program).unwrap_or_else(|error| panic!("{} [{}]: {error}", program.name, program.label())).bindings
                });
                let mut given = [vec![(0, Access::Uniform)], given].concat();
                given.sort_by_key(|(number, _)| *number);
                assert_eq!(given, *expected, "{}: {} [{}]", case.name, program.name, program.label());
            }
        }
        assert!(known.len() > 50);
    }
}

#[test]
fn names_of_cases_are_unique() {
    let mut names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}

#[test]
fn the_self_test_goes_through_every_kernel() {
    let Some(gpu) = open(&[]) else { return };
    let since = Instant::now();
    let results = block_on(self_test(&gpu)).unwrap();
    println!("self-test: {} kernels in {:.2?}", results.len(), since.elapsed());
    assert_eq!(results.len(), 14);
    for (name, result) in results {
        result.unwrap_or_else(|message| panic!("{name}: {message}"));
    }
}

#[test]
fn replays_give_the_same_bits() {
    let Some(gpu) = open(&[]) else { return };
    for case in cases().into_iter().filter(|case| !case.bench && case.name.contains("one sequence")) {
        let prepared = case.prepare(&gpu).unwrap();
        assert_eq!(run(&gpu, &prepared), run(&gpu, &prepared), "{}", case.name);
    }
}

/// Numbers that look random, from an index.
fn number(seed: usize, i: usize) -> f32 {
    let mut bits = (i as u32).wrapping_mul(0x9e37_79b9) ^ (seed as u32).wrapping_mul(0x85eb_ca6b);
    for _ in 0..2 {
        bits = (bits ^ (bits >> 16)).wrapping_mul(0x21f0_aaad);
    }
    (bits >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}

fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| number(seed, i)).collect()
}

/// What a step of some rows gives for each of them; `first` is the number of the first row among all.
struct Batch<'a> {
    gpu: &'a Gpu,
    first: usize,
    rows: Rows,
}

impl Batch<'_> {
    fn new(gpu: &Gpu, first: usize, count: usize) -> Batch<'_> {
        let step = gpu.uniform("step", 4).unwrap();
        gpu.write(&step, 0, bytemuck::cast_slice(&[count as u32, count as u32, 0, 0]));
        Batch { gpu, first, rows: Rows { count, few: count <= FEW_ROWS, step } }
    }

    /// These rows' part of an input of `width` numbers a row.
    fn input(&self, seed: usize, shape: &[usize]) -> Tensor {
        let width: usize = shape.iter().product();
        let data: Vec<f32> = (0..self.rows.count * width).map(|i| number(seed, self.first * width + i)).collect();
        self.gpu.activation_of("x", &[&[self.rows.count], shape].concat(), &data).unwrap()
    }

    /// The same, in a buffer.
    fn numbers(&self, seed: usize, width: usize) -> Tensor {
        let data: Vec<f32> = (0..self.rows.count * width).map(|i| number(seed, self.first * width + i)).collect();
        self.gpu.tensor("x", &[self.rows.count, width], &data).unwrap()
    }

    fn chosen(&self, top_k: usize, experts: usize) -> Tensor {
        let ids: Vec<u32> = (0..self.rows.count * top_k).map(|i| ((self.first * top_k + i) * 3 % experts) as u32).collect();
        self.gpu.tensor_u32("chosen", &[self.rows.count, top_k], &ids).unwrap()
    }

    fn zeros(&self, shape: &[usize]) -> Tensor {
        self.gpu.activation("y", &[&[self.rows.count], shape].concat()).unwrap()
    }
}

/// Runs a kernel over five rows at once and over each alone; every row's bits must be the same.
fn check_alone_and_beside(what: &str, gpu: &Gpu, step: impl Fn(&Batch<'_>) -> Vec<Tensor>) {
    const ROWS: usize = 5;
    let bits = |batch: Batch<'_>| -> Vec<Vec<u32>> {
        let tensors = step(&batch);
        tensors.iter().map(|tensor| block_on(gpu.read(tensor)).unwrap()).collect()
    };
    let together = bits(Batch::new(gpu, 0, ROWS));
    for row in 0..ROWS {
        let alone = bits(Batch::new(gpu, row, 1));
        for (alone, together) in alone.iter().zip(&together) {
            let width = alone.len();
            assert!(alone.iter().any(|&bits| bits != 0), "{what}: nothing was computed");
            assert_eq!(alone[..], together[row * width..][..width], "{what}: row {row} differs beside others");
        }
    }
}

fn weight(gpu: &Gpu, rows: usize, cols: usize) -> Weight {
    let weight = Weight::allocate(gpu, "weight", WeightFormat::Bf16, [rows, cols], 1).unwrap();
    let bits = numbers(1, rows * cols);
    let bytes: Vec<u8> = bits.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
    weight.writer(gpu).push(&bytes, &[]);
    weight
}

#[test]
fn rows_do_not_depend_on_those_beside_them() {
    for disabled in [&[][..], &[Feature::Subgroups], &[Feature::Images], &[Feature::Subgroups, Feature::Barriers]] {
        let Some(gpu) = open(disabled) else { return };
        let gpu = &gpu;
        let (cols, out, top_k, experts) = (2048 + 32, 36, 3, 7);
        let gain = gpu.activation_of("gain", &[cols], &numbers(6, cols)).unwrap();
        let norm = Norm { gain: &gain, dim: cols, eps: 1e-6 };
        let linear = weight(gpu, out, cols);
        for norm in [None, Some(norm)] {
            check_alone_and_beside("linear", gpu, |batch| {
                let (x, base, y) = (batch.input(2, &[cols]), batch.input(5, &[out]), batch.zeros(&[out]));
                let (rows, base) = (&batch.rows, Some(&base));
                gpu.run(Linear { norm, base, ..Linear::plain(&x, &linear, &y, rows) }).unwrap();
                vec![y]
            });
        }
        let gate_up = weight(gpu, experts * 2 * out, cols);
        check_alone_and_beside("ffn_up", gpu, |batch| {
            let (x, chosen, h) = (batch.input(2, &[cols]), batch.chosen(top_k, experts), batch.zeros(&[top_k, 64]));
            let (slots, rows) = (Slots::Routed(&chosen), &batch.rows);
            gpu.run(FfnUp { x: &x, norm: Some(norm), weight: &gate_up, h: &h, width: out, slots, rows }).unwrap();
            vec![h]
        });
        let down = weight(gpu, experts * out, cols);
        check_alone_and_beside("ffn_down", gpu, |batch| {
            let (h, chosen) = (batch.input(3, &[top_k, cols]), batch.chosen(top_k, experts));
            let (weights, base, y) = (batch.numbers(4, top_k), batch.input(5, &[out]), batch.zeros(&[out]));
            let (slots, rows) = (Slots::Routed(&chosen), &batch.rows);
            let (base, scratch) = (&base, &base);
            gpu.run(FfnDown { h: &h, weight: &down, weights: &weights, base, scratch, y: &y, out, slots, rows }).unwrap();
            vec![y]
        });
        check_alone_and_beside("rms_norm", gpu, |batch| {
            let (x, y) = (batch.input(2, &[cols]), batch.zeros(&[cols]));
            gpu.run(RmsNorm { x: &x, weight: &gain, y: &y, listed: None, count: batch.rows.count, dim: cols, eps: 1e-6 }).unwrap();
            vec![y]
        });
        let correction = gpu.tensor("correction", &[64], &numbers(7, 64)).unwrap();
        let gate = weight(gpu, 64, cols);
        let (scoring, group_score) = (Scoring::Softmax, GroupScore::Best);
        let settings = RouterSettings { scoring, groups: 8, top_groups: 3, group_score, normalise: true, scaling: 2.5 };
        for given in [true, false] {
            check_alone_and_beside("moe_route", gpu, |batch| {
                let (logits, x, weights) = (batch.numbers(8, 64), batch.input(2, &[cols]), batch.numbers(9, 7));
                let chosen = gpu.zeros_u32("chosen", &[batch.rows.count, 7]).unwrap();
                let input = if given { RouterInput::Logits(&logits) } else { RouterInput::Gate { x: &x, norm, weight: &gate } };
                gpu.run(MoeRoute {
                    input,
                    correction: &correction,
                    chosen: &chosen,
                    weights: &weights,
                    shared_experts: 1,
                    settings,
                    rows: &batch.rows,
                })
                .unwrap();
                vec![chosen, weights]
            });
        }
        let (heads, latent, rope, max_pages) = (6, 96, 32, 3);
        let entries = 5 * max_pages * PAGE;
        let cache = LatentCache::of(gpu, CacheFormat::F16, latent + rope, &numbers(9, entries * (latent + rope))).unwrap();
        let pages: Vec<u32> = (0..5 * max_pages as u32).map(|i| i * 7 % 15).collect();
        let page_table = gpu.tensor_u32("pages", &[5, max_pages], &pages).unwrap();
        check_alone_and_beside("mla_attention", gpu, |batch| {
            let (x, zeta) = (batch.input(10, &[heads, latent + rope]), batch.zeros(&[heads, latent]));
            let row = |row: usize| BatchRow { token: 0, position: (row * 47 % 190) as u32, sequence: row as u32, entry: 0 };
            let rows: Vec<BatchRow> = (batch.first..batch.first + batch.rows.count).map(row).collect();
            let step = gpu.uniform("batch", 4 * MAX_ROWS).unwrap();
            gpu.write(&step, 0, bytemuck::cast_slice(&rows));
            let (x, cache, page_table, zeta_out, rows) = (&x, &cache, &page_table, &zeta, &batch.rows);
            let attention = MlaAttention { x, cache, page_table, batch: &step, zeta: zeta_out, stats: None, scale: 0.1, groups: 1, rows };
            gpu.run(attention).unwrap();
            vec![zeta]
        });
    }
}

#[test]
fn comparisons_refuse_what_is_not_a_number() {
    let Some(gpu) = open(&[]) else { return };
    let tensor = gpu.zeros("y", &[3]).unwrap();
    assert_eq!(tensor.element, Element::F32);
    let one = 1f32.to_bits();
    let output = |check| Output {
        name: "y",
        tensor: tensor.clone(),
        start: vec![UNTOUCHED; 3],
        expected: vec![one, one, UNTOUCHED],
        check,
        cache: None,
    };
    let nmse = output(Check::Nmse(1e-6, "test"));
    assert!(nmse.compare(&[one, one, UNTOUCHED]).is_ok());
    for wrong in [[one, UNTOUCHED, UNTOUCHED], [one, 0, UNTOUCHED], [one, one, 0], [f32::NAN.to_bits(), one, UNTOUCHED]] {
        assert!(nmse.compare(&wrong).is_err(), "{wrong:?}");
    }
    assert!(nmse.compare(&[one, one]).is_err());
    assert!(output(Check::Below(2)).compare(&[0, 1, UNTOUCHED]).is_ok());
    assert!(output(Check::Below(2)).compare(&[0, 2, UNTOUCHED]).is_err());
    assert!(output(Check::Untouched).compare(&[0, 0, 0]).is_err());
}
