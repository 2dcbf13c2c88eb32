use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::app::chat::{Attachment, Draft, MessageState};
use crate::app::settings::{ChatSettings, Thinking};
use crate::engine::Stats;
use crate::sampler::Sampling;
use crate::text::Role;

fn open(folder: &Path) -> SqliteStore {
    let (store, damage) = SqliteStore::open(&folder.join(FILE)).unwrap();
    assert_eq!(damage, None);
    store
}

fn head(id: i64, title: &str) -> ChatHead {
    ChatHead { title: title.into(), ..ChatHead::new(ChatId(id), ChatSettings::default(), id) }
}

fn message(id: i64, parent: Option<i64>, content: &str) -> Message {
    Message::new(MessageId(id), parent.map(MessageId), Role::User, content.into(), id)
}

fn put(store: &mut dyn Store, chat: i64, messages: &[(i64, &str)]) {
    let mut changes = vec![Change::Head(Box::new(head(chat, &format!("Chat {chat}"))))];
    changes.extend(messages.iter().map(|(id, content)| Change::Message(ChatId(chat), Box::new(message(*id, None, content)))));
    store.write(&changes).unwrap();
}

/// Both stores, so that neither drifts from the other.
fn both(folder: &Path) -> Vec<Box<dyn Store>> {
    vec![Box::new(open(folder)), Box::new(MemoryStore::default())]
}

#[test]
fn chats_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    for store in &mut both(folder.path()) {
        let mut head = head(1, "Über 深度 \u{0}");
        head.settings = ChatSettings { system: "s".into(), temperature: Some(0.7), thinking: Thinking::Off, ..ChatSettings::default() };
        head.draft = Draft { text: "half".into(), attachments: vec![Attachment { name: "a".into(), text: "b".into() }] };
        (head.pinned, head.titled_by_hand, head.shows_reasoning) = (true, true, true);
        (head.selected_root, head.context_start) = (Some(MessageId(2)), Some(MessageId(2)));
        let question = Message { selected_child: Some(MessageId(3)), attachments: head.draft.attachments.clone(), ..message(2, None, "?") };
        let answer = Message {
            role: Role::Assistant,
            reasoning: "hm".into(),
            reasoning_ms: Some(1200),
            state: MessageState::Failed("the device was lost".into()),
            model: Some("m".into()),
            sampling: Some(Sampling { seed: u64::MAX, temperature: 0.1, ..Sampling::default() }),
            stats: Some(Stats { prompt_tokens: 3, new_tokens: 4, first_token_secs: 0.1, ..Stats::default() }),
            ..message(3, Some(2), "!")
        };
        let changes = [&question, &answer].map(|message| Change::Message(ChatId(1), Box::new(message.clone())));
        store.write(&[Change::Head(Box::new(head.clone()))]).unwrap();
        store.write(&changes).unwrap();
        let chat = store.chat(ChatId(1)).unwrap().unwrap();
        assert_eq!(chat.head, head);
        assert_eq!(chat.messages(), [question, answer]);
        assert_eq!(store.chats().unwrap(), [chat.summary()]);
        store.write(&[Change::Setting("k", "1".into()), Change::Setting("k", "2".into())]).unwrap();
        assert_eq!((store.setting("k").unwrap().as_deref(), store.setting("none").unwrap()), (Some("2"), None));
        store.write(&[Change::DeleteMessages(ChatId(1), vec![MessageId(3)])]).unwrap();
        assert_eq!(store.chat(ChatId(1)).unwrap().unwrap().messages().len(), 1);
        store.write(&[Change::DeleteChat(ChatId(1))]).unwrap();
        assert_eq!(store.chat(ChatId(1)).unwrap(), None);
        assert!(store.search("!", 9).unwrap().is_empty() && store.chats().unwrap().is_empty());
    }
}

#[test]
fn searches_find_words_of_any_length_in_any_script() {
    let folder = tempfile::tempdir().unwrap();
    for store in &mut both(folder.path()) {
        put(store.as_mut(), 1, &[(10, "The quick brown fox"), (11, "专家混合模型把每个词元交给少数专家"), (12, "Straße \"quoted\" * AND")]);
        put(store.as_mut(), 2, &[(20, "a QUICK answer")]);
        let mut found = |query: &str| -> Vec<Option<i64>> {
            store.search(query, 10).unwrap().iter().map(|hit| hit.message.map(|message| message.0)).collect()
        };
        assert_eq!(found("quick"), [Some(20), Some(10)], "newest first, whatever the case");
        assert_eq!(found("quick fox"), [Some(10)]);
        assert_eq!(found("专家"), [Some(11)]);
        assert_eq!(found("少数专家"), [Some(11)]);
        assert_eq!(found("fo qu"), [Some(10)]);
        assert_eq!(found("\"quoted\""), [Some(12)]);
        assert_eq!(found("* and"), [Some(12)]);
        assert_eq!(found("absent"), []);
        assert_eq!(found("chat 2"), [None], "a title");
        let hit = store.search("brown", 10).unwrap().remove(0);
        assert_eq!((&hit.excerpt[hit.found.clone()], hit.title.as_str(), hit.chat), ("brown", "Chat 1", ChatId(1)));
        // What changed is found as it is now.
        store.write(&[Change::Message(ChatId(1), Box::new(message(10, None, "The slow fox")))]).unwrap();
        assert!(store.search("brown", 10).unwrap().is_empty() && store.search("slow", 10).unwrap().len() == 1);
        assert_eq!(store.search("e", 2).unwrap().len(), 2, "no more than asked for");
    }
}

#[test]
fn a_list_of_changes_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    put(&mut store, 1, &[(10, "before")]);
    let pages: i64 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connection.pragma_update_and_check(None, "max_page_count", pages + 4, |_| Ok(())).unwrap();
    let long = "long ".repeat(20_000);
    let changes =
        [Change::Message(ChatId(1), Box::new(message(11, None, "fits"))), Change::Message(ChatId(1), Box::new(message(12, None, &long)))];
    let error = store.write(&changes).unwrap_err();
    assert!(matches!(&error, StoreError::Full(_)) && error.to_string().starts_with("the disk is full: "), "{error}");
    assert_eq!(store.chat(ChatId(1)).unwrap().unwrap().messages().len(), 1);
    store.connection.pragma_update_and_check(None, "max_page_count", pages + 4000, |_| Ok(())).unwrap();
    store.write(&changes).unwrap();
    assert_eq!(store.chat(ChatId(1)).unwrap().unwrap().messages().len(), 3);
}

#[test]
fn a_store_that_may_not_be_written_says_so_and_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    put(&mut store, 1, &[(10, "words")]);
    store.connection.pragma_update(None, "query_only", true).unwrap();
    let error = store.write(&[Change::Setting("k", "v".into())]).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error:?}");
    assert_eq!(store.chat(ChatId(1)).unwrap().unwrap().messages().len(), 1);
}

fn damaged_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.to_string_lossy().contains("-damaged-") && path.extension().is_some_and(|e| e == "db"));
    found
}

#[test]
fn a_damaged_file_is_set_aside_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    for (round, damage) in [b"no database at all, but long enough to have a header".repeat(40), b"x".to_vec()].into_iter().enumerate() {
        std::fs::write(&path, &damage).unwrap();
        let (mut store, told) = SqliteStore::open(&path).unwrap();
        let Some(StoreError::Damaged { set_aside, .. }) = &told else { panic!("{told:?}") };
        assert_eq!(std::fs::read(set_aside).unwrap(), damage);
        assert_eq!(damaged_files(folder.path()).len(), round + 1);
        put(&mut store, 1, &[(10, "new words")]);
        drop(store);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(folder.path().join(format!("{FILE}{suffix}")));
        }
    }
}

/// Overwrites everything behind the first page.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    assert!(bytes.len() > 16_384, "enough pages to spoil");
    bytes[4096..].fill(0xA5);
    std::fs::write(path, bytes).unwrap();
}

fn filled(folder: &Path) -> SqliteStore {
    let mut store = open(folder);
    let texts: Vec<(i64, String)> = (10..60).map(|id| (id, format!("words {id} ").repeat(100))).collect();
    put(&mut store, 1, &texts.iter().map(|(id, text)| (*id, text.as_str())).collect::<Vec<_>>());
    store.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    store
}

#[test]
fn damage_within_is_found_at_start() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    spoil(&folder.path().join(FILE));
    let (mut store, told) = SqliteStore::open(&folder.path().join(FILE)).unwrap();
    let text = told.unwrap().to_string();
    assert!(text.contains("was damaged") && text.contains("fathom-damaged-") && !text.contains('\n'), "{text}");
    assert!(store.chats().unwrap().is_empty());
}

#[test]
fn damage_found_while_running_is_set_aside_too() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let mut store = open(folder.path());
    store.connection.pragma_update(None, "cache_size", 0).unwrap();
    spoil(&folder.path().join(FILE));
    let error = store.chat(ChatId(1)).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { set_aside, .. } if set_aside.exists()), "{error:?}");
    put(&mut store, 2, &[(100, "goes on")]);
    drop(store);
    assert_eq!(open(folder.path()).chats().unwrap().len(), 1);
    assert_eq!(damaged_files(folder.path()).len(), 1);
}

#[test]
fn another_windows_new_file_is_not_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let (mut one, mut two) = (open(folder.path()), open(folder.path()));
    for store in [&one, &two] {
        store.connection.pragma_update(None, "cache_size", 0).unwrap();
    }
    spoil(&folder.path().join(FILE));
    assert!(matches!(one.chat(ChatId(1)), Err(StoreError::Damaged { .. })));
    put(&mut one, 7, &[(70, "in the new file")]);
    assert!(two.chat(ChatId(1)).is_err());
    assert_eq!(two.chat(ChatId(7)).unwrap().unwrap().messages().len(), 1);
    assert_eq!(damaged_files(folder.path()).len(), 1);
}

#[test]
fn newer_and_foreign_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    put(&mut open(folder.path()), 1, &[(10, "words")]);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(&path).err().unwrap().to_string();
    assert!(error.contains("expected chats of version 1 or older, found version 99; a newer Fathom wrote them"), "{error}");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
    assert_eq!(open(folder.path()).chats().unwrap().len(), 1);

    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE recipe (name TEXT)").unwrap();
    let error = SqliteStore::open(&other).err().unwrap().to_string();
    assert!(error.ends_with("expected a file of Fathom's chats, found another program's database"), "{error}");
    assert!(damaged_files(folder.path()).is_empty());
}

#[test]
fn steps_bring_an_older_file_here_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    // Version 0, as a process that died before its first step leaves it.
    drop(Connection::open(&path).unwrap());
    put(&mut open(folder.path()), 1, &[(10, "words")]);
    let version =
        |path: &Path| -> i64 { Connection::open(path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap() };
    assert_eq!(version(&path), schema::STEPS.len() as i64);
    assert_eq!(open(folder.path()).search("words", 9).unwrap().len(), 1);
    // A step that fails leaves the file as it was.
    let mut connection = Connection::open(&path).unwrap();
    let failed = super::sqlite::migrate(&mut connection, &["SELECT 1", "CREATE TABLE half (x); CREATE TABLE chat (x)"]);
    assert!(failed.is_err());
    drop(connection);
    assert_eq!((version(&path), open(folder.path()).chats().unwrap().len()), (1, 1));
    let mut connection = Connection::open(&path).unwrap();
    super::sqlite::migrate(&mut connection, &["CREATE TABLE chat (x)", "ALTER TABLE chat ADD COLUMN folder TEXT"]).unwrap();
    assert_eq!(connection.query_row("SELECT count(*) FROM chat WHERE folder IS NULL", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop(connection);
    assert_eq!(version(&path), 2);
}

#[test]
fn two_windows_see_each_other_and_wait_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (open(folder.path()), open(folder.path()));
    assert!(!two.changed_elsewhere().unwrap());
    put(&mut one, 1, &[(10, "from one")]);
    assert!(two.changed_elsewhere().unwrap() && !two.changed_elsewhere().unwrap() && !one.changed_elsewhere().unwrap());
    assert_eq!(two.chats().unwrap().len(), 1);
    // While one is within a transaction, the other is asked to come again.
    let lock = one.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let change = Change::Message(ChatId(1), Box::new(message(11, Some(10), "from two")));
    assert!(matches!(two.write(std::slice::from_ref(&change)), Err(StoreError::Busy(_))));
    lock.commit().unwrap();
    two.write(&[change]).unwrap();
    assert_eq!(one.chat(ChatId(1)).unwrap().unwrap().path_len(), 2);
    // What one deletes, late words of the other do not bring back.
    one.write(&[Change::DeleteChat(ChatId(1))]).unwrap();
    two.write(&[Change::Message(ChatId(1), Box::new(message(12, Some(10), "late")))]).unwrap();
    assert!(two.search("late", 9).unwrap().is_empty());
    assert_eq!(one.chat(ChatId(1)).unwrap(), None);
}

#[test]
fn a_store_moves_with_everything_or_to_what_is_there() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = open(folder.path());
    put(&mut store, 1, &[(10, "words")]);
    let to = elsewhere.path().join("deep/er");
    store.move_to(&to).unwrap();
    assert_eq!((store.chats().unwrap().len(), store.search("words", 9).unwrap().len()), (1, 1));
    put(&mut store, 2, &[(20, "only here")]);
    assert_eq!((open(&to).chats().unwrap().len(), open(folder.path()).chats().unwrap().len()), (2, 1));
    // Back to what is there, which nothing is copied over.
    store.move_to(folder.path()).unwrap();
    assert_eq!(store.chats().unwrap().len(), 1);
    // A file is no folder: it stays where it is.
    std::fs::write(elsewhere.path().join("file"), b"x").unwrap();
    assert!(store.move_to(&elsewhere.path().join("file")).is_err());
    assert_eq!(store.chats().unwrap().len(), 1);
    assert!(MemoryStore::default().move_to(&to).is_err());
}

#[test]
fn hostile_rows_are_read_as_well_as_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    put(&mut store, 1, &[(10, "words")]);
    store
        .connection
        .execute_batch(
            "UPDATE chat SET settings = '{\"temperature\": \"hot\"}', draft = '[', selected_root = 77;
             UPDATE message SET role = 'villain', state = 'exploding', sampling = '7', stats = 'x', attachments = '{}', parent = 10",
        )
        .unwrap();
    let chat = store.chat(ChatId(1)).unwrap().unwrap();
    assert_eq!(chat.path().map(|message| message.content.as_str()).collect::<Vec<_>>(), ["words"]);
    assert_eq!((&chat.head.settings, chat.messages()[0].state.clone()), (&ChatSettings::default(), MessageState::Stopped));
}

#[test]
fn excerpts_show_the_find_on_one_line() {
    let text = format!("{}\nThe ÜBER-Find\nis here {}", "a ".repeat(60), "b".repeat(60));
    let (line, found) = excerpt(&text, "über-find HERE").unwrap();
    assert_eq!(&line[found], "ÜBER-Find");
    assert!(line.starts_with('…') && line.ends_with('…') && !line.contains('\n'), "{line}");
    assert!(excerpt(&text, "über absent").is_none());
    assert_eq!(excerpt("短文", "文").unwrap(), ("短文".to_string(), 3..6));
    // A capital whose small letter has more bytes.
    let (line, found) = excerpt("İx İstanbul", "stan").unwrap();
    assert_eq!(&line[found], "stan");
}
