//! Pictures of the window: its main states beside the ones in the repository, and, when asked for, those of the README.
//! `make screenshots` writes the README's; `UPDATE_SNAPSHOTS=1` accepts new ones for the test.

#[path = "support/scenes.rs"]
mod scenes;
#[path = "support/stage.rs"]
#[allow(dead_code, reason = "shared with tests/app_window.rs")]
mod stage;

use std::path::Path;
use std::time::Instant;

use eframe::egui;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use fathom::app::Theme::{Dark, Light};
use stage::{Fonts, Stage, harness};

const SMALL: [f32; 2] = [760.0, 500.0];
/// A phone's.
const NARROW: [f32; 2] = [360.0, 640.0];
const USUAL: [f32; 2] = [1180.0, 760.0];
/// For a whole answer with a formula, code and a table.
const TALL: [f32; 2] = [1180.0, 900.0];

/// Opens the dialog that this shortcut opens.
fn press(harness: &mut Harness<'_, Stage>, modifiers: egui::Modifiers, key: egui::Key) {
    harness.key_press_modifiers(modifiers, key);
    harness.run();
}

fn settings(harness: &mut Harness<'_, Stage>) {
    press(harness, egui::Modifiers::COMMAND, egui::Key::Comma);
}

fn models(harness: &mut Harness<'_, Stage>) {
    press(harness, egui::Modifiers::COMMAND, egui::Key::L);
    scenes::models(harness.state_mut());
    harness.run();
}

fn palette(harness: &mut Harness<'_, Stage>) {
    press(harness, egui::Modifiers::COMMAND, egui::Key::K);
}

#[test]
fn main_states_look_as_they_did() {
    let mut all = egui_kittest::SnapshotResults::new();
    let mut sized = |size, name: &str, stage: Stage, prepare: &dyn Fn(&mut Harness<'_, Stage>)| {
        let mut harness = harness(size, 1.0, Fonts::Bundled, stage);
        prepare(&mut harness);
        harness.snapshot(name);
        all.extend_harness(&mut harness);
    };
    let nothing = |_: &mut Harness<'_, Stage>| ();
    sized(NARROW, "phone", scenes::mixed(Light), &nothing);
    sized(NARROW, "phone-empty", scenes::empty(Dark), &nothing);
    sized(NARROW, "phone-chats", scenes::streaming(Light), &|harness| press(harness, egui::Modifiers::COMMAND, egui::Key::B));
    sized(NARROW, "phone-inside", scenes::inside(Dark), &|harness| press(harness, egui::Modifiers::COMMAND, egui::Key::I));
    sized(NARROW, "phone-models", scenes::empty(Light), &models);
    sized(NARROW, "phone-settings", scenes::thinking(Light), &settings);
    let mut add = |name: &str, stage: Stage, prepare: &dyn Fn(&mut Harness<'_, Stage>)| sized(SMALL, name, stage, prepare);
    add("empty", scenes::empty(Light), &nothing);
    add("streaming", scenes::streaming(Dark), &nothing);
    add("thinking", scenes::thinking(Light), &nothing);
    add("mixed", scenes::mixed(Dark), &nothing);
    add("branches", scenes::branches(Light), &nothing);
    add("inside", scenes::inside(Dark), &nothing);
    add("error", scenes::error(Light), &nothing);
    add("settings", scenes::empty(Dark), &settings);
    add("models", scenes::empty(Light), &models);
    add("palette", scenes::empty(Dark), &palette);
}

/// The README's pictures. They need the system's fonts, so that they are made only when asked for.
#[test]
#[ignore = "writes assets/screenshots: make screenshots"]
fn screenshots() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    let take = |name: &str, size, stage: fn(fathom::app::Theme) -> Stage, theme, prepare: &dyn Fn(&mut Harness<'_, Stage>)| {
        if !only.is_empty() && !only.split(',').any(|wanted| wanted == name) {
            return;
        }
        let mut harness = harness(size, 1.25, Fonts::System, stage(theme));
        prepare(&mut harness);
        harness.run();
        let image = harness.render().unwrap();
        write_quantised(&folder.join(format!("{name}.png")), &image);
    };
    let nothing = |_: &mut Harness<'_, Stage>| ();
    take("empty", USUAL, scenes::empty, Dark, &nothing);
    take("streaming", USUAL, scenes::streaming, Dark, &nothing);
    take("thinking", USUAL, scenes::thinking, Light, &nothing);
    take("mixed", TALL, scenes::mixed, Light, &nothing);
    take("mixed-dark", TALL, scenes::mixed, Dark, &nothing);
    take("branches", USUAL, scenes::branches, Light, &nothing);
    take("inside", TALL, scenes::inside, Dark, &hover_a_word);
    take("settings", USUAL, scenes::thinking, Light, &settings);
    take("models", USUAL, scenes::empty, Dark, &models);
    take("palette", USUAL, scenes::streaming, Light, &palette);
    take("error", USUAL, scenes::error, Dark, &nothing);
    take("chinese", USUAL, scenes::chinese, Light, &nothing);
}

fn hover_a_word(harness: &mut Harness<'_, Stage>) {
    let place = harness.get_by_label_contains("The Moon pulls").rect();
    harness.hover_at(place.left_top() + egui::vec2(150.0, 12.0));
    harness.run_steps(3);
}

/// A PNG of 256 colours.
fn write_quantised(path: &Path, image: &image::RgbaImage) {
    let colours = color_quant::NeuQuant::new(3, 256, image.as_raw());
    let indices: Vec<u8> = image.pixels().map(|pixel| colours.index_of(&pixel.0) as u8).collect();
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut encoder = png::Encoder::new(file, image.width(), image.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(colours.color_map_rgb());
    encoder.set_compression(png::Compression::High);
    encoder.write_header().unwrap().write_image_data(&indices).unwrap();
}

/// Prints the CPU time of a frame, drawing without a GPU: in a long chat while it streams, and while a longer one scrolls.
#[test]
#[ignore = "a measure for tests/bench/LOG.md"]
fn frame_times() {
    let measure = |name: &str, harness: &mut Harness<'_, Stage>, step: &mut dyn FnMut(&mut Harness<'_, Stage>, usize)| {
        let mut times: Vec<f64> = (0..300)
            .map(|at| {
                step(harness, at);
                let begun = Instant::now();
                harness.step();
                let output = harness.output();
                let meshes = harness.ctx.tessellate(output.shapes.clone(), 1.0);
                assert!(!meshes.is_empty());
                begun.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{name}: median {:.2} ms, 95th of 100 {:.2} ms, most {:.2} ms", times[150], times[285], times[299]);
    };
    let unseen = |stage: Stage| {
        let builder = Harness::builder().with_size([1180.0, 760.0]).allow_missing_glyphs();
        let mut harness = builder.build_ui_state(|ui, stage: &mut Stage| stage.frame(ui), stage);
        harness.run_steps(4);
        harness
    };
    let long = |messages: usize| {
        let mut stage = Stage::with_model(Dark);
        for at in 0..messages / 2 {
            stage.exchange(&format!("Question {at}: how do tides work?"), if at % 3 == 0 { scenes::MIXED } else { scenes::TIDES });
        }
        stage
    };

    let mut stage = long(500);
    stage.ask("Once more, please.");
    let (ticket, _) = stage.script.next_answer().unwrap();
    let mut harness = unseen(stage);
    let words: Vec<&str> = scenes::MIXED.split_inclusive(' ').collect();
    measure("500 messages, streaming", &mut harness, &mut |harness, at| harness.state().script.text(ticket, words[at % words.len()]));
    harness.state_mut().set(|settings| settings.inside = true);
    let shape = stage::model().inside;
    let mut dice = stage::Dice(3);
    measure("500 messages, streaming, inside view", &mut harness, &mut |harness, at| {
        let word = words[at % words.len()];
        harness.state().script.text(ticket, word);
        let end = harness.state().app.chat().leaf().unwrap().content.len() + word.len();
        harness.state().script.event(ticket, stage::token(&mut dice, &shape, word, end));
    });

    let mut harness = unseen(long(5000));
    harness.hover_at(egui::pos2(700.0, 400.0));
    measure("5,000 messages, scrolling", &mut harness, &mut |harness, _| {
        harness.event(stage::wheel(900.0));
    });
}
