//! The reference forward pass against transformers' golden data and DEEPSEEK.md's worked numbers, and the tiny
//! checkpoints against their promise of clear margins.

mod support;

use std::fs;

use safetensors::tensor::Dtype;
use support::config::{Config, Rotary};
use support::golden::{self, Golden};
use support::reference::{Cache, Reference, route};
use support::stored::{Stored, Tensors, e4m3, to_e4m3, write_dir};
use support::tiny::{Storage, Tiny, yarn};
use support::zoo::{GREEDY_GAP, PROMPT, ROUTER_MARGIN, margins, zoo};

#[track_caller]
fn assert_near(what: &str, found: &[f64], expected: &[f32], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - f64::from(*expected)).abs();
        assert!(difference <= tolerance, "{what}[{at}]: expected {expected}, found {found}");
    }
}

fn check_golden(name: &str, config_file: &str) {
    let dir = golden::dir(name);
    let golden = Golden::read(&dir);
    let reference = Reference::load_with_config(&dir, config_file);
    let prompt = reference.forward(&golden.input_ids);
    assert_near("logits", &prompt.logits, &golden.logits, 1e-4);
    assert_near("logits_f64", &prompt.logits, &golden.logits_f64, 1e-4);
    assert_near("final_hidden", &prompt.final_hidden, &golden.final_hidden, 1e-4);
    assert_eq!(prompt.hidden.len(), golden.hidden.len());
    for (i, (found, expected)) in prompt.hidden.iter().zip(&golden.hidden).enumerate() {
        assert_near(&format!("{name} hidden.{i}"), found, expected, 1e-4);
    }

    let (greedy_ids, gap) = reference.greedy(&golden.input_ids, golden.greedy_ids.len());
    assert_eq!(greedy_ids, golden.greedy_ids, "greedy ids, smallest gap {gap}");
    let all_ids = [&golden.input_ids[..], &greedy_ids[..greedy_ids.len() - 1]].concat();
    let all = reference.forward(&all_ids);
    let chosen_from = (golden.input_ids.len() - 1) * golden.vocab;
    assert_near("greedy_logits", &all.logits[chosen_from..], &golden.greedy_logits, 1e-4);
    assert!(all.routers.keys().eq(golden.routers.keys()), "MoE layers");
    for (layer, expected) in &golden.routers {
        let found = &all.routers[layer];
        assert_eq!(found.indices, expected.indices, "experts of layer {layer}");
        // V2's weights reach 16, and so does the rounding of transformers' f32.
        let largest = expected.weights.iter().copied().fold(1.0, f32::max);
        assert_near("router weights", &found.weights, &expected.weights, 1e-5 * f64::from(largest));
        assert_near("router logits", &found.logits, &expected.logits, 1e-4);
        assert_near("router margin", &found.margin, &expected.margin, 1e-5);
    }
}

#[test]
fn golden_data_is_reproduced() {
    for name in golden::NAMES {
        check_golden(name, "config.json");
    }
}

#[test]
fn configs_of_transformers_5_mean_the_same() {
    for name in golden::NAMES {
        check_golden(name, "config.tf5.json");
    }
}

fn config_of(tiny: &Tiny) -> Config {
    Config::parse(&tiny.config())
}

/// The worked example of DEEPSEEK.md §3.6.
#[test]
fn router_variants_match_worked_example() {
    let logits = [0.5, -1.0, 2.0, 0.0, 1.5, 1.4, -0.5, 1.0];
    let correction = [0.0, 0.3, -0.4, 0.0, 0.0, 0.0, 0.5, -0.1];

    let greedy = config_of(&Tiny::v2_lite());
    let choice = route(&greedy, &logits, None);
    assert_eq!(choice.indices, [2, 4, 5]);
    assert_near("greedy", &choice.weights, &[0.331834, 0.201267, 0.182114], 1e-6);

    let grouped = config_of(&Tiny { experts: 8, top_k: 3, groups: (4, 2), ..Tiny::v2() });
    let choice = route(&grouped, &logits, None);
    assert_eq!(choice.indices, [2, 4, 5]);
    assert_near("grouped", &choice.weights, &[5.309336, 3.220275, 2.913826], 1e-6);
    assert!((choice.margin - (0.201267 - 0.122075)).abs() < 1e-6, "group gap, found {}", choice.margin);

    let no_aux = config_of(&Tiny::v3());
    let choice = route(&no_aux, &logits, Some(&correction));
    assert_eq!(choice.indices, [4, 5, 6]);
    assert_near("no_aux", &choice.weights, &[1.02335, 1.004086, 0.472564], 1e-6);
    assert!((choice.margin - (0.802184 - 0.631059)).abs() < 1e-6, "expert gap, found {}", choice.margin);
}

/// The check values of DEEPSEEK.md §2.4, at V3's head widths.
#[test]
fn yarn_matches_check_values() {
    let rotary = |scaling| {
        let tiny = Tiny { nope: 128, rope: 64, ..Tiny::v3() }.with_rope(scaling, 163_840);
        config_of(&tiny).rotary
    };
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-6, "{found} is not {expected}");

    let v3 = rotary(yarn(40.0, 4096, Some((1.0, 1.0))));
    near(v3.softmax_scale, 0.13523378);
    near(v3.attention_factor, 1.0);
    for (i, frequency) in [(0, 1.0), (10, 0.0562341325), (11, 0.0390069266), (22, 1.77827941e-4), (31, 3.33380358e-6)] {
        near(v3.frequencies[i].into(), frequency);
    }
    near(rotary(yarn(40.0, 4096, Some((0.707, 0.707)))).softmax_scale, 0.11472139);
    let unequal = rotary(yarn(40.0, 4096, Some((1.0, 0.5))));
    near(unequal.attention_factor, 1.155722);
    near(unequal.softmax_scale, 1.402908 * 192f64.powf(-0.5));
    let bare = rotary(yarn(4.0, 4096, None));
    near(bare.attention_factor, 1.13863);
    near(bare.softmax_scale, 192f64.powf(-0.5));

    let plain: Rotary = config_of(&Tiny::moonlight()).rotary;
    near(plain.frequencies[3].into(), 50000f64.powf(-6.0 / 8.0));
}

/// Gathering the even rotary rows before the odd ones turns (2i, 2i + 1) pairs into (i, i + rope/2) pairs: the same
/// model, if `rope_interleave` says so.
#[test]
fn half_split_pairs_are_reordered_interleaved_ones() {
    let tiny = Tiny { storage: Storage::F32, q_lora: None, rope: 12, ..Tiny::v3() };
    let (dir, ids) = (tempfile::tempdir().expect("a directory"), tiny.prompt(1, 20));
    tiny.write(dir.path());
    let expected = Reference::load(dir.path()).forward(&ids).logits;

    let mut tensors: Vec<_> = Tensors::read_dir(dir.path()).0.into_iter().collect();
    for (name, stored) in &mut tensors {
        // Rows before the first rotary ones, and rows from one such to the next.
        let (skip, head) = match name.rsplit('.').nth(1) {
            Some("q_proj") => (tiny.nope, tiny.nope + tiny.rope),
            Some("kv_a_proj_with_mqa") => (tiny.kv_lora, tiny.kv_lora + tiny.rope),
            _ => continue,
        };
        let row_bytes = stored.shape[1] * 4;
        for head in stored.data.chunks_mut(head * row_bytes) {
            let rows: Vec<Vec<u8>> = head[skip * row_bytes..].chunks(row_bytes).map(<[u8]>::to_vec).collect();
            let (even, odd) = (rows.iter().step_by(2), rows.iter().skip(1).step_by(2));
            let reordered: Vec<u8> = even.chain(odd).flatten().copied().collect();
            head[skip * row_bytes..].copy_from_slice(&reordered);
        }
    }
    Tiny { rope_interleave: false, ..tiny }.write(dir.path());
    let unordered = Reference::load(dir.path()).forward(&ids).logits;
    write_dir(dir.path(), &tensors, 1);
    let found = Reference::load(dir.path()).forward(&ids).logits;
    let largest = |a: &[f64]| a.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest(&found) < 1e-9, "reordered: {}", largest(&found));
    assert!(largest(&unordered) > 0.1, "not reordered: {}", largest(&unordered));
}

#[test]
fn e4m3_codes_round_trip() {
    for code in (0..=255u8).filter(|code| code & 0x7f != 0x7f) {
        assert_eq!(to_e4m3(e4m3(code)), code);
    }
    assert_eq!([e4m3(0x7e), e4m3(0x01), e4m3(0x08), e4m3(0xb8)], [448.0, 1.0 / 512.0, 1.0 / 64.0, -1.0]);
    // A tie goes to the even code: halfway from 1 (0x38) to 1.125 (0x39), and from there to 1.25 (0x3a).
    assert_eq!([to_e4m3(1.0625), to_e4m3(1.1875), to_e4m3(1e9)], [0x38, 0x3a, 0x7e]);
}

/// MLX's packing by hand: the first element of a word in its lowest bits, one scale and bias per group.
#[test]
fn affine_words_hold_their_codes_from_the_low_bits() {
    let row: Vec<f32> = (0..64).map(|i| if i < 32 { (i % 16) as f32 } else { 8.0 - (i % 16) as f32 * 0.5 }).collect();
    let [weight, scales, biases] = Stored::encode_affine(&row, &[1, 64], 4, 32, Dtype::BF16);
    assert_eq!((&weight.shape[..], &scales.shape[..], &biases.shape[..]), (&[1, 8][..], &[1, 2][..], &[1, 2][..]));
    let words: Vec<u32> = weight.data.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    assert_eq!(words[..4], [0x7654_3210, 0xfedc_ba98, 0x7654_3210, 0xfedc_ba98]);
    assert_eq!(words[4..], [0x89ab_cdef, 0x0123_4567, 0x89ab_cdef, 0x0123_4567]);
    assert_eq!((scales.floats(), biases.floats()), (vec![1.0, 0.5], vec![0.0, 0.5]));

    let names = ["w.weight", "w.scales", "w.biases"].map(str::to_owned);
    let tensors = Tensors(names.into_iter().zip([weight, scales, biases]).collect());
    assert_near("decoded", &tensors.decode("w.weight", &[1, 64]), &row, 0.0);
}

/// What is stored stays within half a step of what was given, in every block and group.
#[test]
fn quantised_weights_stay_near() {
    let (rows, cols) = (130, 192);
    // Every 128×128 block and every group has a size of its own.
    let size = |i: usize| 1.0 + (i / cols / 128 * 2 + i % cols / 128) as f32 * 10.0;
    let values: Vec<f32> = (0..rows * cols).map(|i| size(i) * ((i * 7919 % 1009) as f32 / 504.5 - 1.0)).collect();
    let (weight, scale_inv) = Stored::encode_fp8(&values, &[rows, cols]);
    assert_eq!(scale_inv.shape, [2, 2]);
    let fp8 = Tensors([("w".to_owned(), weight), ("w_scale_inv".to_owned(), scale_inv)].into());
    for (i, (found, given)) in fp8.decode("w", &[rows, cols]).iter().zip(&values).enumerate() {
        let step = f64::from((given.abs() / 8.0).max(size(i) / 448.0 / 512.0));
        assert!((found - f64::from(*given)).abs() <= step * 0.51, "fp8 at {i}: {given} became {found}");
    }
    for (bits, group) in [(4, 32), (4, 64), (8, 64), (8, 32)] {
        let stored = Stored::encode_affine(&values, &[rows, cols], bits, group, Dtype::F16);
        let names = ["w.weight", "w.scales", "w.biases"].map(str::to_owned);
        let tensors = Tensors(names.into_iter().zip(stored).collect());
        for (i, (found, given)) in tensors.decode("w.weight", &[rows, cols]).iter().zip(&values).enumerate() {
            // f16 scales and biases move the ends of a group by a little more than half a step.
            let step = f64::from(2.0 * size(i)) / f64::from((1 << bits) - 1);
            assert!((found - f64::from(*given)).abs() <= step * 0.75, "{bits} bits at {i}: {given} became {found}");
        }
    }
}

#[test]
fn cached_tokens_answer_like_a_whole_prompt() {
    let dir = golden::dir("v3");
    let (reference, ids) = (Reference::load(&dir), Golden::read(&dir).input_ids);
    let whole = reference.forward(&ids);
    let mut cache = Cache::default();
    let parts: Vec<f64> = ids.chunks(7).flat_map(|part| reference.extend(&mut cache, part).logits).collect();
    assert_eq!(parts, whole.logits);
}

/// Every model of the zoo loads, is small, and decides by clear margins.
#[test]
fn zoo_choices_are_clear() {
    for (name, tiny) in zoo() {
        let dir = tempfile::tempdir().expect("a directory");
        tiny.write(dir.path());
        let size: u64 = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(size < 2 << 20, "{name}: {size} bytes");
        let reference = Reference::load(dir.path());
        let (router, greedy) = margins(&reference, &tiny.prompt(tiny.seed, PROMPT));
        assert!(router > ROUTER_MARGIN && greedy > GREEDY_GAP, "{name}: router {router:e}, greedy {greedy:e}");
    }
}

/// Prints the first seed with clear choices for every model of the zoo.
#[test]
#[ignore = "run by hand when the zoo grows: cargo test --release --test reference -- --ignored --nocapture"]
fn search_seeds() {
    for (name, tiny) in zoo() {
        let clear = |seed: &u64| {
            let (tiny, dir) = (Tiny { seed: *seed, ..tiny.clone() }, tempfile::tempdir().expect("a directory"));
            tiny.write(dir.path());
            let (router, greedy) = margins(&Reference::load(dir.path()), &tiny.prompt(*seed, PROMPT));
            router > 2.0 * ROUTER_MARGIN && greedy > 2.0 * GREEDY_GAP
        };
        let seed = (1..200).find(clear);
        println!("{name}: now {}, clear {seed:?}", tiny.seed);
    }
}
