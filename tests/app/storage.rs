//! What is stored when: refusing stores, damage, two windows, kill -9.

use std::path::Path;

use fathom::app::store::{FILE, MemoryStore, SqliteStore, Store, StoreError};
use fathom::app::worker::{Job, Report, ScriptedWorker};
use fathom::app::{App, Command, MessageState, Notice, Places, Settings, Theme};
use fathom::engine::{Stats, StopReason};

use crate::desk::{Desk, app_over, model};

#[test]
fn a_streaming_answer_is_stored_every_second() {
    let mut desk = Desk::open();
    desk.ask("q");
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "one ");
    desk.wait(400);
    assert_eq!(desk.stored().leaf().unwrap().content, "");
    desk.script.text(ticket, "two ");
    desk.wait(600);
    assert_eq!(desk.stored().leaf().unwrap().content, "one two ");
    assert_eq!(desk.stored().leaf().unwrap().state, MessageState::Streaming);
    let writes = desk.store.writes.get();
    desk.script.text(ticket, "three ");
    desk.wait(999);
    assert_eq!(desk.store.writes.get(), writes, "not oftener");
    assert_eq!(desk.app.next_wake_ms(), Some(desk.now.get() + 1));
    // The program dies here: what was stored is there, as an answer that was stopped and can go on.
    let mut desk = desk.restart();
    assert_eq!((desk.leaf().content.as_str(), &desk.leaf().state), ("one two ", &MessageState::Stopped));
    let id = desk.leaf().id;
    desk.app.apply(Command::Continue(id));
    assert_eq!(desk.request().1.begun.unwrap().text, "one two ");
    // Seen right after its window died, it is not known to be dead yet.
    desk.wait(1000);
    let mut quick = Desk::over(desk.store.clone());
    quick.now.set(desk.now.get() + 100);
    quick.app.poll();
    assert!(quick.leaf().is_streaming() && quick.app.next_wake_ms().is_some());
    quick.wait(6000);
    assert_eq!((&quick.leaf().state, quick.app.next_wake_ms()), (&MessageState::Stopped, None));
}

#[test]
fn an_idle_app_waits_for_nothing() {
    let mut desk = Desk::open();
    desk.talk("q", "a");
    desk.wait(1000);
    desk.wait(1000);
    assert_eq!(desk.app.next_wake_ms(), None);
    desk.app.apply(Command::SetDraft("x".into()));
    assert!(desk.app.next_wake_ms().is_some());
}

#[test]
fn a_store_that_refuses_is_told_and_asked_again() {
    for refusal in [
        StoreError::Full("database or disk is full".into()),
        StoreError::ReadOnly("attempt to write a readonly database".into()),
        StoreError::Other("disk I/O error".into()),
    ] {
        let mut desk = Desk::open();
        desk.talk("before", "1");
        *desk.store.refusal.borrow_mut() = Some(refusal.clone());
        desk.talk("during", "2");
        assert_eq!(desk.notices(), [Notice::StoreFailing { reason: refusal.to_string() }], "told once");
        assert_eq!(desk.shown(), ["before", "1", "during", "2"], "the chat goes on in memory");
        let chat = desk.app.chat().id();
        desk.app.apply(Command::NewChat);
        desk.talk("elsewhere", "3");
        desk.app.apply(Command::OpenChat(chat));
        assert_eq!(desk.shown().len(), 4, "also when another was in front");
        assert_eq!(desk.app.chats.len(), 2);
        *desk.store.refusal.borrow_mut() = None;
        desk.wait(5000);
        assert!(desk.app.notices.is_empty());
        let desk = desk.restart();
        assert_eq!((desk.shown().len(), desk.app.chats.len()), (4, 2), "nothing was lost");
    }
}

#[test]
fn a_busy_store_is_no_news() {
    let mut desk = Desk::open();
    *desk.store.refusal.borrow_mut() = Some(StoreError::Busy("database is locked".into()));
    desk.talk("q", "a");
    assert!(desk.app.notices.is_empty());
    *desk.store.refusal.borrow_mut() = None;
    desk.wait(5000);
    assert_eq!(&desk.stored(), desk.app.chat());
}

#[test]
fn after_damage_what_is_in_memory_is_stored_anew() {
    let mut desk = Desk::open();
    desk.talk("q", "a");
    let chat = desk.app.chat().clone();
    // A new, empty file stands where the old one was.
    *desk.store.inner.borrow_mut() = MemoryStore::default();
    *desk.store.refusal.borrow_mut() = Some(StoreError::Damaged { set_aside: "/tmp/aside.db".into(), reason: "malformed".into() });
    let refusal = desk.store.refusal.clone();
    desk.app.apply(Command::SetSettings(Box::new(Settings { theme: Theme::Dark, ..desk.app.settings.clone() })));
    *refusal.borrow_mut() = None;
    desk.wait(5000);
    assert!(matches!(&desk.notices()[..], [Notice::StoreDamaged { reason }] if reason.contains("/tmp/aside.db")), "{:?}", desk.notices());
    assert_eq!(desk.stored(), chat);
    assert_eq!(desk.restart().app.settings.theme, Theme::Dark);
}

#[test]
fn two_windows_show_the_same_chats() {
    let folder = tempfile::tempdir().unwrap();
    let window = || {
        let (store, _) = SqliteStore::open(&folder.path().join(FILE)).unwrap();
        let (mut app, script, now) = app_over(Box::new(store));
        app.start();
        script.open(model());
        app.poll();
        (app, script, now)
    };
    let ((mut one, script, now_one), (mut two, _script_two, now_two)) = (window(), window());
    let tick = |one: &mut App, two: &mut App| {
        for now in [&now_one, &now_two] {
            now.set(now.get() + 1000);
        }
        one.poll();
        two.poll();
    };
    one.apply(Command::SetDraft("from one".into()));
    one.apply(Command::Send);
    let (ticket, _) = script.next_answer().unwrap();
    script.text(ticket, "half");
    tick(&mut one, &mut two);
    let chat = one.chat().id();
    assert_eq!(two.chats.len(), 1);
    two.apply(Command::OpenChat(chat));
    two.apply(Command::SetDraft("a draft of two".into()));
    let content = |app: &App| app.chat().leaf().unwrap().content.clone();
    assert_eq!((content(&two).as_str(), two.chat().leaf().unwrap().is_streaming()), ("half", true));
    script.text(ticket, " and half");
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert_eq!((content(&two).as_str(), two.chat().head.draft.text.as_str()), ("half and half", "a draft of two"));
    script.done(ticket, StopReason::Eos, Stats::default());
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert_eq!(two.chat().leaf().unwrap().state, MessageState::Finished);
    two.apply(Command::RenameChat(chat, "Renamed by two".into()));
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert_eq!((one.chat().head.title.as_str(), one.chats[0].title.as_str()), ("Renamed by two", "Renamed by two"));
    // What one deletes is gone in the other, whose answer for it ends.
    two.apply(Command::SetDraft("more".into()));
    two.apply(Command::Send);
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert_eq!(one.chat().path_len(), 4);
    one.apply(Command::DeleteChat(chat));
    tick(&mut one, &mut two);
    tick(&mut one, &mut two);
    assert!(two.chats.is_empty() && two.answers.is_empty() && two.chat().id() != chat);
}

#[test]
fn chats_move_to_another_folder_and_stay_there() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = SqliteStore::open(&folder.path().join(FILE)).unwrap();
    let (mut app, script, _) = app_over(Box::new(store));
    app.start();
    script.open(model());
    app.poll();
    app.apply(Command::SetDraft("q".into()));
    app.apply(Command::Send);
    let chat = app.chat().id();
    let to = elsewhere.path().join("fathom");
    app.apply(Command::MoveData(to.clone()));
    assert_eq!((app.chat().id(), app.chat().leaf().unwrap().state.clone()), (chat, MessageState::Stopped));
    let write = |job: &Job| if let Job::Write { ticket, path, bytes } = job { Some((*ticket, path.clone(), bytes.clone())) } else { None };
    let (ticket, path, bytes) = script.take(write).unwrap();
    assert_eq!((path.as_path(), bytes.as_slice()), (Path::new("/nowhere/pointer"), to.to_str().unwrap().as_bytes()));
    script.report(Report::Written { ticket, path, result: Ok(()) });
    app.poll();
    assert!(app.notices.is_empty() && app.places.data == Some(to.clone()));
    app.apply(Command::RenameChat(chat, "moved".into()));
    let title = |folder: &Path| SqliteStore::open(&folder.join(FILE)).unwrap().0.chats().unwrap()[0].title.clone();
    assert_eq!((title(&to), title(folder.path())), ("moved".to_string(), "q".to_string()));
    // Memory has nowhere to move to.
    let mut desk = Desk::open();
    desk.app.apply(Command::MoveData(to));
    assert!(matches!(&desk.notices()[..], [Notice::FileFailed { .. }]));
}

/// The program that is killed: it streams for ever and prints what it has shown, and when.
#[test]
fn streams_until_it_is_killed() {
    let Some(data) = std::env::var_os("FATHOM_TEST_DATA") else { return };
    let (store, _) = SqliteStore::open(&Path::new(&data).join(FILE)).unwrap();
    let (worker, script) = ScriptedWorker::new();
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut app = App::new(Box::new(store), Box::new(worker), Box::new(clock), Places::default());
    app.start();
    script.open(model());
    app.poll();
    app.apply(Command::SetDraft("finished question".into()));
    app.apply(Command::Send);
    assert!(script.answer("finished answer"));
    app.poll();
    app.apply(Command::SetDraft("endless question".into()));
    app.apply(Command::Send);
    let (ticket, _) = script.next_answer().unwrap();
    loop {
        script.text(ticket, "word ");
        app.poll();
        println!("shown {} {}", clock(), app.chat().leaf().unwrap().content.len());
        std::thread::sleep(std::time::Duration::from_millis(7));
    }
}

#[test]
fn a_kill_loses_nothing_but_the_last_second() {
    use std::io::{BufRead, BufReader};
    let data = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::streams_until_it_is_killed", "--nocapture"])
        .env("FATHOM_TEST_DATA", data.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut shown: Vec<(i64, usize)> = vec![];
    for line in lines {
        let line = line.unwrap();
        let Some(rest) = line.split("shown ").nth(1) else { continue };
        let (ms, len) = rest.split_once(' ').unwrap();
        shown.push((ms.parse().unwrap(), len.parse().unwrap()));
        if shown.last().unwrap().0 - shown[0].0 > 3500 {
            child.kill().unwrap();
            break;
        }
    }
    child.wait().unwrap();
    let (last, _) = *shown.last().unwrap();
    let owed = shown.iter().rev().find(|(ms, _)| *ms <= last - 1000).unwrap().1;
    assert!(owed > 0);
    let (store, damage) = SqliteStore::open(&data.path().join(FILE)).unwrap();
    assert_eq!(damage, None);
    let (mut app, _script, now) = app_over(Box::new(store));
    now.set(last + 10_000);
    app.poll();
    let chat = app.chats[0].id;
    app.apply(Command::NewChat);
    app.apply(Command::OpenChat(chat));
    let contents: Vec<&str> = app.chat().path().map(|message| message.content.as_str()).collect();
    assert_eq!(contents[..3], ["finished question", "finished answer", "endless question"]);
    assert!(contents[3].len() >= owed, "{} of at least {owed} bytes", contents[3].len());
}
