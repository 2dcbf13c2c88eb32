//! Drives the window by keys and clicks, with a scripted worker: whatever can be asked for has a way to be asked for.

#[path = "support/scenes.rs"]
#[allow(dead_code, reason = "shared with tests/app_pictures.rs")]
mod scenes;
#[path = "support/stage.rs"]
#[allow(dead_code, reason = "shared with tests/app_pictures.rs")]
mod stage;

use eframe::egui;
use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use fathom::app::Theme::{Dark, Light};
use fathom::app::ui::Ask;
use fathom::app::worker::{Job, Report};
use fathom::app::{Attachment, Command, Format, MessageState, ModelRef, Notice, Theme, Thinking};
use fathom::engine::{Event, Input, StopReason};
use stage::{STATS, Stage};

type Window = Harness<'static, Stage>;

/// Drawn, but by no GPU.
fn window(stage: Stage) -> Window {
    let mut window = Harness::builder()
        .with_size([1100.0, 760.0])
        .with_max_steps(120)
        .allow_missing_glyphs()
        .build_ui_state(|ui, stage: &mut Stage| stage.frame(ui), stage);
    window.run();
    window.state_mut().commands.clear();
    window
}

fn commands(window: &mut Window) -> Vec<Command> {
    std::mem::take(&mut window.state_mut().commands)
}

fn click(window: &mut Window, name: &str) {
    window.get_by_role_and_label(Role::Button, name).click();
    window.run();
}

/// Whether this is written anywhere.
fn see(window: &Window, text: &str) -> bool {
    window.query_all_by_label_contains(text).next().is_some()
}

/// Puts the keyboard's focus there.
fn focus(window: &mut Window, role: Role, name: &str) {
    window.get_by_role_and_label(role, name).focus();
    window.run();
    assert!(window.get_by_role_and_label(role, name).is_focused(), "{name} has not the focus");
}

fn press(window: &mut Window, modifiers: Modifiers, key: Key) {
    window.key_press_modifiers(modifiers, key);
    window.run();
}

fn type_text(window: &mut Window, text: &str) {
    window.event(egui::Event::Text(text.to_owned()));
    window.run();
}

fn question_of(stage: &Stage) -> Option<String> {
    let (_, request) = stage.script.next_answer()?;
    match request.input {
        Input::Chat(messages) => messages.last().map(|message| message.content.clone()),
        _ => None,
    }
}

#[test]
fn a_question_is_typed_and_sent_by_key_and_by_click() {
    let mut window = window(Stage::with_model(Light));
    type_text(&mut window, "What is a tide?");
    press(&mut window, Modifiers::SHIFT, Key::Enter);
    type_text(&mut window, "In short.");
    assert_eq!(window.state().app.chat().head.draft.text, "What is a tide?\nIn short.");
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert_eq!(question_of(window.state()).as_deref(), Some("What is a tide?\nIn short."));
    assert!(commands(&mut window).contains(&Command::Send));
    // While it is answered, return does not send again.
    type_text(&mut window, "And");
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert!(!commands(&mut window).contains(&Command::Send));

    let mut window = self::window(Stage::with_model(Light));
    type_text(&mut window, "By click");
    click(&mut window, "Send");
    assert_eq!(question_of(window.state()).as_deref(), Some("By click"));
}

#[test]
fn an_answer_is_stopped_by_escape_and_by_click() {
    for by_key in [true, false] {
        let mut stage = Stage::with_model(Dark);
        stage.ask("Count to a million");
        let (ticket, _) = stage.script.next_answer().unwrap();
        stage.script.text(ticket, "1, 2, 3");
        let mut window = window(stage);
        if by_key {
            press(&mut window, Modifiers::NONE, Key::Escape);
        } else {
            click(&mut window, "Stop");
        }
        assert!(commands(&mut window).contains(&Command::Stop));
        let leaf = window.state().app.chat().leaf().unwrap();
        assert_eq!((&leaf.state, leaf.content.as_str()), (&MessageState::Stopped, "1, 2, 3"));
        click(&mut window, "Continue answer");
        assert!(matches!(commands(&mut window)[..], [Command::Continue(_)]));
    }
}

#[test]
fn progress_is_shown_while_the_prompt_is_read() {
    let mut stage = Stage::with_model(Dark);
    stage.ask("A long one");
    let (ticket, _) = stage.script.next_answer().unwrap();
    stage.script.event(ticket, Event::Prefill { done: 512, total: 2048 });
    let window = window(stage);
    assert!(see(&window, "Reading: 512 of 2,048 tokens"));
}

#[test]
fn messages_are_edited_branched_deleted_and_brought_back() {
    let mut stage = Stage::with_model(Light);
    stage.exchange("One", "First answer");
    let mut window = window(stage);
    press(&mut window, Modifiers::COMMAND, Key::R);
    assert!(matches!(commands(&mut window)[..], [Command::Regenerate(_)]));
    window.state_mut().answer("Second answer");
    window.run();
    window.get_by_label("2/2");
    click(&mut window, "Previous version");
    assert_eq!(window.state().app.chat().leaf().unwrap().content, "First answer");
    click(&mut window, "Next version");
    assert_eq!(window.state().app.chat().leaf().unwrap().content, "Second answer");
    click(&mut window, "Another answer");
    window.state_mut().answer("Third answer");
    window.run();
    commands(&mut window);

    // The question anew, by key.
    press(&mut window, Modifiers::COMMAND, Key::E);
    type_text(&mut window, " more");
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert!(matches!(&commands(&mut window)[..], [Command::Edit(_, text)] if text == "One more"));
    window.state_mut().answer("Fourth answer");
    window.run();

    // Given up, by key and by click.
    for by_key in [true, false] {
        press(&mut window, Modifiers::COMMAND, Key::E);
        if by_key {
            press(&mut window, Modifiers::NONE, Key::Escape);
        } else {
            click(&mut window, "Cancel");
        }
        assert!(window.query_by_role_and_label(Role::Button, "Cancel").is_none());
        assert!(commands(&mut window).is_empty());
    }

    let nodes: Vec<_> = window.get_all_by_role_and_label(Role::Button, "Delete message").collect();
    nodes[1].click();
    drop(nodes);
    window.run();
    assert!(matches!(commands(&mut window)[..], [Command::DeleteMessage(_)]));
    assert_eq!(window.state().app.chat().path_len(), 1);
    click(&mut window, "Undo");
    assert_eq!(window.state().app.chat().leaf().unwrap().content, "Fourth answer");
}

#[test]
fn answers_and_code_are_copied() {
    let mut stage = Stage::with_model(Light);
    stage.exchange("One", "Text\n\n```rust\nfn main() {}\n```");
    let mut window = window(stage);
    let mut copied = |name: &str| {
        window.get_by_role_and_label(Role::Button, name).click();
        // The click's events are spread over several frames.
        (0..6).find_map(|_| {
            window.step();
            window.output().platform_output.commands.iter().find_map(|command| match command {
                egui::OutputCommand::CopyText(text) => Some(text.clone()),
                _ => None,
            })
        })
    };
    assert_eq!(copied("Copy answer").as_deref(), Some("Text\n\n```rust\nfn main() {}\n```"));
    assert_eq!(copied("Copy code").as_deref(), Some("fn main() {}"));
    window.step();
    assert!(see(&window, "Copied"));
}

#[test]
fn an_idle_window_sleeps() {
    let mut stage = Stage::with_model(Light);
    stage.exchange("One", scenes::MIXED);
    let mut window = window(stage);
    window.run();
    let root = &window.output().viewport_output[&egui::ViewportId::ROOT];
    let slept = root.repaint_delay;
    assert!(slept >= std::time::Duration::from_secs(1), "it wakes after {slept:?}");
}

#[test]
fn thoughts_unfold_and_the_chat_remembers() {
    let mut window = window(scenes::thinking(Light));
    let name = "Thought for 6.4 s";
    assert!(window.state().app.chat().head.shows_reasoning);
    window.get_by_role_and_label(Role::DisclosureTriangle, name).click();
    window.run();
    assert_eq!(commands(&mut window), [Command::ShowReasoning(false)]);
    assert!(window.query_by_label_contains("The quick answer").is_none());
    window.get_by_role_and_label(Role::DisclosureTriangle, name).click();
    window.run();
    window.get_by_label_contains("The quick answer");
}

#[test]
fn chats_are_opened_renamed_pinned_and_deleted_from_the_sidebar() {
    let mut window = window(scenes::empty(Light));
    let title = "Translate a letter into French";
    click(&mut window, title);
    assert_eq!(window.state().app.chat().head.title, title);
    let id = window.state().app.chat().id();
    commands(&mut window);

    focus(&mut window, Role::Button, title);
    press(&mut window, Modifiers::NONE, Key::F2);
    press(&mut window, Modifiers::COMMAND, Key::A);
    type_text(&mut window, "Lettre");
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert!(commands(&mut window).contains(&Command::RenameChat(id, "Lettre".to_owned())));

    let more = |window: &mut Window, item: &str| {
        click(window, "More for this chat");
        click(window, item);
    };
    more(&mut window, "Pin");
    more(&mut window, "Export as Markdown…");
    assert_eq!(window.state().dialogs.asked(), [Ask::Export { chat: id, format: Format::Markdown, name: "Lettre".to_owned() }]);
    more(&mut window, "Delete");
    assert_eq!(commands(&mut window), [Command::PinChat(id, true), Command::DeleteChat(id)]);
    press(&mut window, Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    assert!(window.state().app.chats.iter().any(|chat| chat.title == "Lettre" && chat.pinned));

    press(&mut window, Modifiers::ALT, Key::ArrowDown);
    press(&mut window, Modifiers::ALT, Key::ArrowUp);
    press(&mut window, Modifiers::COMMAND, Key::N);
    let seen = commands(&mut window);
    assert!(seen.ends_with(&[Command::NextChat, Command::PreviousChat, Command::NewChat]), "{seen:?}");
    assert_eq!(window.state().app.chat().path_len(), 0);
}

#[test]
fn a_search_finds_words_in_all_messages_and_ends() {
    let mut stage = Stage::with_model(Light);
    stage.exchange("About rivers", "They meander towards the sea.");
    stage.app.apply(Command::NewChat);
    stage.exchange("About hills", "They are old.");
    let mut window = window(stage);
    press(&mut window, Modifiers::COMMAND, Key::F);
    type_text(&mut window, "meander");
    window.get_by_label_contains("They meander towards").click();
    window.run();
    assert_eq!(window.state().app.chat().head.title, "About rivers");
    focus(&mut window, Role::SearchInput, "Search");
    press(&mut window, Modifiers::NONE, Key::Escape);
    assert_eq!(window.state().app.search.query, "");
    window.get_by_role_and_label(Role::Button, "About hills");
}

#[test]
fn the_palette_reaches_commands_models_and_chats() {
    let mut window = window(scenes::branches(Light));
    press(&mut window, Modifiers::COMMAND, Key::K);
    type_text(&mut window, "theme dark");
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert_eq!(window.state().app.settings.theme, Theme::Dark);
    press(&mut window, Modifiers::COMMAND, Key::K);
    type_text(&mut window, "birthday");
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert_eq!(window.state().app.chat().head.title, "A birthday poem for Grace");
    click(&mut window, "Commands");
    press(&mut window, Modifiers::NONE, Key::ArrowDown);
    press(&mut window, Modifiers::NONE, Key::ArrowUp);
    press(&mut window, Modifiers::NONE, Key::Escape);
    assert!(window.query_by_role_and_label(Role::SearchInput, "Commands").is_none());
    for (typed, expected) in [("import", Ask::Import), ("export all", Ask::ExportAll), ("attach", Ask::Attach)] {
        press(&mut window, Modifiers::COMMAND, Key::K);
        type_text(&mut window, typed);
        press(&mut window, Modifiers::NONE, Key::Enter);
        assert_eq!(window.state().dialogs.asked(), [expected]);
    }
}

#[test]
fn models_are_picked_opened_cancelled_and_unloaded() {
    let mut window = window(Stage::with_model(Light));
    press(&mut window, Modifiers::COMMAND, Key::L);
    scenes::models(window.state_mut());
    window.run();
    assert!(see(&window, "ends at byte 812,646,400"));
    click(&mut window, "Open Moonlight-16B-A3B-Instruct");
    let seen = commands(&mut window);
    assert_eq!(seen.last(), Some(&Command::OpenModel(ModelRef::Path("/home/ada/models/Moonlight-16B-A3B-Instruct".into()))), "{seen:?}");
    click(&mut window, "Cancel loading");
    let ticket = window
        .state()
        .script
        .take(|job| if let Job::Open { ticket, cancel, .. } = job { Some((*ticket, cancel.is_cancelled())) } else { None });
    let (ticket, cancelled) = ticket.expect("it is being opened");
    assert!(cancelled);
    window.state().script.report(Report::OpenCancelled { ticket, kept: true });
    window.run();
    press(&mut window, Modifiers::COMMAND, Key::L);
    click(&mut window, "Unload");
    assert_eq!(commands(&mut window).last(), Some(&Command::UnloadModel));
    click(&mut window, "Open a file…");
    click(&mut window, "Open a folder…");
    assert_eq!(window.state().dialogs.asked(), [Ask::ModelFile, Ask::ModelFolder]);
    window.state().dialogs.choose(Ask::ModelFile.answered("/models/a.gguf".into()));
    window.run();
    assert_eq!(commands(&mut window).last(), Some(&Command::OpenModel(ModelRef::Path("/models/a.gguf".into()))));
}

#[test]
fn settings_change_the_chat_the_program_and_the_device() {
    let mut window = window(Stage::with_model(Light));
    press(&mut window, Modifiers::COMMAND, Key::Comma);
    focus(&mut window, Role::MultilineTextInput, "Instructions");
    type_text(&mut window, "Be brief.");
    assert_eq!(window.state().app.chat().head.settings.system, "Be brief.");
    focus(&mut window, Role::TextInput, "Name of a preset");
    type_text(&mut window, "Brief");
    click(&mut window, "Save as preset");
    assert_eq!(window.state().app.presets.len(), 1);
    click(&mut window, "Use for new chats");
    assert_eq!(window.state().app.settings.new_chat.system, "Be brief.");
    click(&mut window, "All as recommended");
    click(&mut window, "Brief");
    assert_eq!(window.state().app.chat().head.settings.system, "Be brief.");
    click(&mut window, "Delete preset: Brief");
    assert!(window.state().app.presets.is_empty());
    window.get_by_role_and_label(Role::CheckBox, "Fixed seed").click();
    window.run();
    assert_eq!(window.state().app.chat().head.settings.seed, Some(0));

    window.get_by_role_and_label(Role::Tab, "General").click();
    window.run();
    window.get_by_label("简体中文").click();
    window.run();
    window.get_by_role_and_label(Role::Tab, "通用");
    window.get_by_label("English").click();
    window.run();
    window.get_by_label("Dark").click();
    window.run();
    assert_eq!(window.state().app.settings.theme, Theme::Dark);
    click(&mut window, "Add a folder…");
    click(&mut window, "Change…");
    assert_eq!(window.state().dialogs.asked(), [Ask::AddModelFolder, Ask::DataFolder]);

    window.get_by_role_and_label(Role::Tab, "Device").click();
    window.run();
    window.get_by_label("f16").click();
    window.run();
    assert!(window.state().app.settings.disabled.is_empty(), "nothing is loaded anew before it is applied");
    click(&mut window, "Apply and reload");
    assert_eq!(window.state().app.settings.disabled, ["f16"]);
    press(&mut window, Modifiers::NONE, Key::Escape);
    assert!(window.query_by_role_and_label(Role::Tab, "Device").is_none());
}

#[test]
fn thinking_is_switched_at_the_composer() {
    let mut window = window(Stage::with_model(Light));
    for (name, next) in [("Think: auto", Thinking::On), ("Think: on", Thinking::Off), ("Think: off", Thinking::Auto)] {
        click(&mut window, name);
        assert_eq!(window.state().app.chat().head.settings.thinking, next);
    }
}

#[test]
fn files_are_attached_shown_and_removed() {
    let mut window = window(Stage::with_model(Light));
    press(&mut window, Modifiers::COMMAND, Key::O);
    click(&mut window, "Attach text files");
    assert_eq!(window.state().dialogs.asked(), [Ask::Attach, Ask::Attach]);
    window.state().dialogs.choose(Ask::Attach.answered("/tmp/notes.txt".into()));
    window.run();
    let ticket = window.state().script.take(|job| if let Job::Attach { ticket, .. } = job { Some(*ticket) } else { None });
    let file = Attachment { name: "notes.txt".to_owned(), text: "words".to_owned() };
    window.state().script.report(Report::Attached { ticket: ticket.unwrap(), result: Ok(file) });
    window.run();
    window.get_by_label("notes.txt");
    commands(&mut window);
    click(&mut window, "Remove notes.txt");
    assert_eq!(commands(&mut window), [Command::RemoveAttachment(0)]);
}

/// A file that somebody let go over the window.
#[derive(Debug)]
struct Dropped(&'static str);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &std::path::Path {
        std::path::Path::new(self.0)
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("nobody should read it here".to_owned())
    }
}

#[test]
fn dropped_files_are_attached_and_dropped_models_opened() {
    let mut window = window(Stage::with_model(Light));
    window.input_mut().dropped_files = vec![std::sync::Arc::new(Dropped("/tmp/a.txt")), std::sync::Arc::new(Dropped("/models/b.GGUF"))];
    window.step();
    window.input_mut().dropped_files.clear();
    window.run();
    let seen = commands(&mut window);
    assert_eq!(seen, [Command::Attach("/tmp/a.txt".into()), Command::OpenModel(ModelRef::Path("/models/b.GGUF".into()))]);
}

#[test]
fn banners_tell_and_are_dismissed() {
    let mut window = window(scenes::error(Light));
    assert!(see(&window, "The device was lost. The model is loaded again"));
    assert!(matches!(window.state().app.notices[..], [(_, Notice::Rebuilding { .. })]));
    click(&mut window, "Dismiss");
    assert!(window.state().app.notices.is_empty());
}

#[test]
fn a_chat_that_is_too_long_asks_what_to_do() {
    for (button, expected) in [
        ("Leave out the oldest", Command::DropOldest),
        ("Raise the context to 9,216", Command::RaiseContext),
        ("Leave it", Command::DismissTooLong),
    ] {
        let mut stage = Stage::with_model(Light);
        stage.exchange("One", "First");
        stage.ask("Two");
        let (ticket, _) = stage.script.next_answer().unwrap();
        stage.script.report(Report::TooLong { ticket, tokens: 8400, context: 8192, drop: 2 });
        let mut window = window(stage);
        assert!(see(&window, "This chat has 8,400 tokens; the context holds 8,192."));
        commands(&mut window);
        click(&mut window, button);
        assert_eq!(commands(&mut window), [expected]);
    }
}

#[test]
fn the_inside_view_opens_and_tells_of_the_word_under_the_pointer() {
    let mut window = window(scenes::inside(Dark));
    assert!(see(&window, "Experts used"));
    let place = window.get_by_label_contains("The Moon pulls").rect();
    window.hover_at(place.left_top() + egui::vec2(14.0, 12.0));
    window.run_steps(4);
    window.get_by_label("Token under the pointer");
    // In the tooltip and in the panel.
    assert_eq!(window.get_all_by_label_contains("The·").count(), 2);
    // Below what is in view: screen readers reach it all the same.
    window.get_by_role_and_label(Role::Button, "Measure").click_accesskit();
    window.run();
    assert_eq!(commands(&mut window), [Command::MeasureKernels]);
    press(&mut window, Modifiers::COMMAND, Key::I);
    assert!(!window.state().app.settings.inside);
    assert!(!see(&window, "Experts used"));
    click(&mut window, "Inside the model");
    assert!(window.state().app.settings.inside);
}

#[test]
fn the_sidebar_hides_and_comes_back() {
    let mut window = window(Stage::with_model(Light));
    click(&mut window, "Hide the sidebar");
    assert!(window.query_by_role_and_label(Role::SearchInput, "Search").is_none());
    click(&mut window, "Show the sidebar");
    press(&mut window, Modifiers::COMMAND, Key::B);
    // A search needs it.
    press(&mut window, Modifiers::COMMAND, Key::F);
    window.get_by_role_and_label(Role::SearchInput, "Search");
}

#[test]
fn a_long_answer_keeps_its_newest_line_in_view_until_the_reader_scrolls() {
    let mut stage = Stage::with_model(Light);
    for at in 0..12 {
        stage.exchange(&format!("Question {at}"), scenes::TIDES);
    }
    stage.ask("And now");
    let (ticket, _) = stage.script.next_answer().unwrap();
    let mut window = window(stage);
    window.state().script.text(ticket, &"line after line\n\n".repeat(80));
    window.state().script.text(ticket, "the newest line");
    window.run();
    window.get_by_label("the newest line");
    window.hover_at(egui::pos2(700.0, 400.0));
    window.event(stage::wheel(2500.0));
    window.run_ok();
    assert!(window.query_by_label("the newest line").is_none(), "the reader went back");
    window.state().script.text(ticket, "\n\nnewer still");
    window.run_ok();
    assert!(window.query_by_label("newer still").is_none(), "what grows does not pull the reader along");
    click(&mut window, "To the newest line");
    window.get_by_label("newer still");
    window.state().script.done(ticket, StopReason::Eos, STATS);
    window.run();
}

#[test]
fn hostile_text_is_drawn_like_any_other() {
    let mut stage = Stage::with_model(Light);
    let deep = format!("{}x", "> ".repeat(3000));
    for text in [
        deep.as_str(),
        "$\\frac{\\frac{\\frac{1}{2}$ and \\[ \\left( \\]",
        "| a |\n|---|\n| `|` | $x$ | too many | cells |",
        "```\u{0}\n\u{202e}\u{200b}\u{301}\n",
        "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467} ก็ 한국어 العربية e\u{301}\u{301}\u{301}",
        &"a".repeat(20_000),
        &"[x](javascript:alert(1)) ![y](file:///etc/passwd) <script>".repeat(20),
    ] {
        stage.exchange(text, text);
    }
    let mut window = window(stage);
    window.hover_at(egui::pos2(700.0, 300.0));
    for _ in 0..30 {
        window.event(stage::wheel(1500.0));
        window.step();
    }
}

#[test]
fn in_a_narrow_window_panels_are_drawers() {
    let mut window = Harness::builder()
        .with_size([360.0, 640.0])
        .with_max_steps(120)
        .allow_missing_glyphs()
        .build_ui_state(|ui, stage: &mut Stage| stage.frame(ui), scenes::mixed(Light));
    window.run();
    let is_open = |window: &Window| window.query_by_role_and_label(Role::Button, "Hide the sidebar").is_some();
    let inside = |window: &Window| window.query_by_role_and_label(Role::Button, "Close the inside view").is_some();
    assert!(!is_open(&window) && window.state().app.settings.sidebar, "as wide windows have it, but shut");
    click(&mut window, "Show the sidebar");
    assert!(is_open(&window));
    // Escape shuts it, as a tap beside it does, and as a chat does that is chosen.
    press(&mut window, Modifiers::NONE, Key::Escape);
    assert!(!is_open(&window));
    press(&mut window, Modifiers::COMMAND, Key::F);
    assert!(is_open(&window) && window.get_by_role(Role::SearchInput).is_focused());
    window.hover_at(egui::pos2(350.0, 300.0));
    window.drag_at(egui::pos2(350.0, 300.0));
    window.drop_at(egui::pos2(350.0, 300.0));
    window.run();
    assert!(!is_open(&window));
    click(&mut window, "Show the sidebar");
    let before = window.state().app.chat().id();
    window.get_by_label_contains("Plan a week of simple dinners").click();
    window.run();
    assert!(!is_open(&window) && window.state().app.chat().id() != before);
    // What is asked for in it stays asked for in a wide window.
    press(&mut window, Modifiers::COMMAND, Key::I);
    assert!(inside(&window) && window.state().app.settings.inside);
    press(&mut window, Modifiers::NONE, Key::Escape);
    assert!(!inside(&window) && window.state().app.settings.inside);
    window.set_size(egui::vec2(1100.0, 760.0));
    window.run();
    assert!(is_open(&window) && inside(&window));
}
