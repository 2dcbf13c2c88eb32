//! The native worker over a real engine.

use fathom::app::store::{FILE, SqliteStore, Store};
use fathom::app::worker::EngineWorker;
use fathom::app::{App, ChatSettings, Command, MessageState, ModelRef, Notice, Places};

use crate::talking;

/// Polls until something holds.
fn until(app: &mut App, what: &str, holds: impl Fn(&App) -> bool) {
    for _ in 0..60_000 {
        app.poll();
        if holds(app) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("{what}: {:?} {:?}", app.notices, app.chat().leaf());
}

#[test]
fn a_real_engine_answers_goes_on_and_outlives_broken_files() {
    let folder = talking::checkpoint();
    let data = tempfile::tempdir().unwrap();
    let (store, _) = SqliteStore::open(&data.path().join(FILE)).unwrap();
    let worker = EngineWorker::new(std::sync::Arc::new(|| ()), None);
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut app = App::new(Box::new(store), Box::new(worker), Box::new(clock), Places::default());
    app.settings.model = Some(ModelRef::Path(folder.path().to_path_buf()));
    app.apply(Command::SetChatSettings(ChatSettings { max_tokens: Some(8), context: Some(192), ..ChatSettings::default() }));
    app.start();
    app.apply(Command::SetDraft("Hi".into()));
    app.apply(Command::Send);
    until(&mut app, "an answer", |app| app.answers.is_empty());
    let leaf = app.chat().leaf().unwrap().clone();
    assert_eq!((&leaf.state, leaf.stats.unwrap().new_tokens, leaf.stats.unwrap().prompt_tokens), (&MessageState::Cut, 8, 5));
    assert_eq!(app.model.as_ref().unwrap().context, 192, "the chat's own context");
    app.apply(Command::Continue(leaf.id));
    until(&mut app, "more of it", |app| app.answers.is_empty());
    let longer = app.chat().leaf().unwrap().clone();
    assert!(longer.id == leaf.id && longer.content.starts_with(&leaf.content) && longer.content.len() > leaf.content.len(), "{longer:?}");
    assert!(longer.stats.unwrap().prompt_tokens > 5, "its beginning was fed");
    app.apply(Command::SetDraft("more".into()));
    until(&mut app, "a count", |app| app.context.is_some_and(|used| used.tokens > 12 && used.context == 192));

    // A broken file leaves the running model, which answers on.
    let broken = data.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF and then nothing of the sort").unwrap();
    app.apply(Command::OpenModel(ModelRef::Path(broken)));
    until(&mut app, "a failure", |app| app.opening.is_none());
    let notices: Vec<&Notice> = app.notices.iter().map(|(_, notice)| notice).collect();
    assert!(matches!(notices[..], [Notice::ModelFailed { kept: true, reason, .. }] if reason.contains("broken.gguf")), "{notices:?}");
    app.apply(Command::Send);
    until(&mut app, "an answer all the same", |app| app.answers.is_empty());
    assert_eq!(app.chat().leaf().unwrap().state, MessageState::Cut);

    // Too long: what would be dropped is told, and then it fits.
    app.apply(Command::SetDraft("x".repeat(150)));
    app.apply(Command::Send);
    until(&mut app, "too long", |app| app.too_long.is_some());
    assert_eq!(app.too_long.as_ref().unwrap().drop.len(), 4);
    app.apply(Command::DropOldest);
    until(&mut app, "an answer to the rest", |app| app.answers.is_empty());
    assert_eq!(app.chat().leaf().unwrap().state, MessageState::Cut);
    assert_eq!(app.chat().path_len(), 6);

    // A stop; the worker's end while an answer runs.
    app.apply(Command::SetChatSettings(ChatSettings { context: Some(4096), ..ChatSettings::default() }));
    app.apply(Command::NewChat);
    app.apply(Command::SetDraft("On and on.".into()));
    app.apply(Command::Send);
    until(&mut app, "words", |app| app.chat().leaf().is_some_and(|leaf| !leaf.content.is_empty()) || app.answers.is_empty());
    app.close();
    let chat = app.chat().clone();
    drop(app);
    let (mut store, _) = SqliteStore::open(&data.path().join(FILE)).unwrap();
    let stored = store.chat(chat.id()).unwrap().unwrap();
    assert_eq!((stored.messages(), stored.leaf().unwrap().is_streaming()), (chat.messages(), false));
}
