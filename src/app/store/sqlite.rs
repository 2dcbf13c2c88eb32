//! Chats in SQLite: a write-ahead log, so that what was written survives the program's end at any moment and several windows
//! may have the file open; a schema version with steps; a damaged file is set aside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::schema::{APPLICATION_ID, STEPS};
use super::{Change, Hit, Store, StoreError, excerpt};
use crate::app::chat::{Chat, ChatHead, ChatSummary, Message, MessageState};
use crate::app::ids::{ChatId, MessageId};
use crate::text::Role;

/// The chats' file in the data folder.
pub const FILE: &str = "fathom.db";

/// How long a write waits for another window's; longer would be felt as a stutter, and a refused write is tried again later.
const BUSY: Duration = Duration::from_millis(100);
/// Files up to this size are checked whole at start; larger ones when something in them turns out wrong.
const CHECKED_BYTES: u64 = 32 << 20;
/// How a database begins.
const HEADER: &[u8] = b"SQLite format 3\0";
/// Words of at least so many characters are found by the index; shorter ones by reading.
const INDEXED_CHARS: usize = 3;

pub struct SqliteStore {
    path: PathBuf,
    pub(super) connection: Connection,
    /// The last `data_version` seen.
    version: i64,
}

impl SqliteStore {
    /// Opens the file, or makes it. A damaged one is set aside; where it went comes back as an error beside the new store.
    ///
    /// # Errors
    /// A file of a newer version or of another program, which is left alone; a folder or file that cannot be opened.
    pub fn open(path: &Path) -> Result<(Self, Option<StoreError>), StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| StoreError::Other(format!("{}: {error}", folder.display())))?;
        }
        match connect(path) {
            Ok(connection) => Ok((Self::over(path, connection), None)),
            Err(Trouble::Damaged(reason)) => {
                let (connection, damage) = begin_anew(path, reason)?;
                Ok((Self::over(path, connection), Some(damage)))
            }
            Err(Trouble::Refused(error)) => Err(error),
        }
    }

    fn over(path: &Path, connection: Connection) -> Self {
        let version = data_version(&connection).unwrap_or_default();
        Self { path: path.to_path_buf(), connection, version }
    }

    /// Where the chats are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.to_str().ok_or_else(|| StoreError::Other(format!("{}: expected a name in UTF-8", path.display())))?;
        self.connection.execute("VACUUM INTO ?1", [name]).map(drop).map_err(|error| told(&error))
    }

    /// Runs something on the connection. A damaged file is set aside, a new one begun, and the damage told.
    fn run<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let error = match work(&mut self.connection) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if !is_damage(&error) {
            return Err(told(&error));
        }
        // The file must be closed before it can be moved.
        self.connection = Connection::open_in_memory().map_err(|error| told(&error))?;
        match connect(&self.path) {
            // Another window has begun a new file already.
            Ok(connection) => {
                *self = Self::over(&self.path, connection);
                Err(StoreError::Busy(error.to_string()))
            }
            Err(Trouble::Damaged(_)) => {
                let (connection, damage) = begin_anew(&self.path, error.to_string())?;
                *self = Self::over(&self.path, connection);
                Err(damage)
            }
            Err(Trouble::Refused(error)) => Err(error),
        }
    }
}

enum Trouble {
    Damaged(String),
    Refused(StoreError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) { Self::Damaged(error.to_string()) } else { Self::Refused(told(&error)) }
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// SQLite's error in the store's terms.
fn told(error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(text),
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => StoreError::ReadOnly(text),
        _ => StoreError::Other(format!("the chats' store: {text}")),
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// Opens a file of ours at this version: made, or brought there by the steps it lacks.
fn connect(path: &Path) -> Result<Connection, Trouble> {
    // SQLite takes a file too short for its header as an empty one, and would write over it.
    let begins_well = |file: std::fs::File| {
        let mut header = vec![];
        std::io::Read::read_to_end(&mut std::io::Read::take(file, HEADER.len() as u64), &mut header).is_ok()
            && (header.is_empty() || header == HEADER)
    };
    if std::fs::File::open(path).is_ok_and(|file| !begins_well(file)) {
        return Err(Trouble::Damaged("file is not a database".into()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    let refused = |text: String| Trouble::Refused(StoreError::Other(format!("{}: {text}", path.display())));
    let number = |connection: &Connection, name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application = number(&connection, "application_id")?;
    if tables > 0 && application != i64::from(APPLICATION_ID) {
        return Err(refused("expected a file of Fathom's chats, found another program's database".into()));
    }
    let version = number(&connection, "user_version")?;
    let newest = STEPS.len() as i64;
    if version > newest {
        let text = format!("expected chats of version {newest} or older, found version {version}; a newer Fathom wrote them");
        return Err(refused(text));
    }
    if std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED_BYTES) {
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Trouble::Damaged(verdict.replace('\n', " ")));
        }
    }
    if version < newest {
        migrate(&mut connection, STEPS)?;
    }
    // A file that cannot be written keeps the mode it has.
    let mode: rusqlite::Result<String> = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
    if let Err(error) = mode
        && is_damage(&error)
    {
        return Err(error.into());
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    // Another window may be doing the same: only who holds the lock looks which steps are left.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in steps.iter().skip(version as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", steps.len() as i64)?;
    transaction.commit()
}

/// Moves a damaged file out of the way, under a name that is free, and makes a new one.
fn begin_anew(path: &Path, reason: String) -> Result<(Connection, StoreError), StoreError> {
    let set_aside = free_name(path);
    for suffix in ["", "-wal", "-shm"] {
        let with = |path: &Path| {
            let mut name = path.as_os_str().to_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let moved = std::fs::rename(with(path), with(&set_aside));
        if let Err(error) = moved
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(StoreError::Other(format!("{}: damaged ({reason}), and it cannot be moved away: {error}", path.display())));
        }
    }
    match connect(path) {
        Ok(connection) => Ok((connection, StoreError::Damaged { set_aside, reason })),
        Err(Trouble::Damaged(reason)) => Err(StoreError::Other(format!("{}: a new file is damaged at once: {reason}", path.display()))),
        Err(Trouble::Refused(error)) => Err(error),
    }
}

/// `fathom-damaged-20261125-184501.db`, with a number behind it if that is taken.
fn free_name(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let now = crate::engine::unix_secs().unwrap_or_default();
    let stamp = crate::text::strftime(now, "%Y%m%d-%H%M%S").unwrap_or_else(|_| now.to_string());
    let name = |number: usize| match number {
        0 => path.with_file_name(format!("{stem}-damaged-{stamp}.db")),
        _ => path.with_file_name(format!("{stem}-damaged-{stamp}-{number}.db")),
    };
    (0..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(0))
}

impl Store for SqliteStore {
    fn chats(&mut self) -> Result<Vec<ChatSummary>, StoreError> {
        self.run(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT id, title, pinned, updated_ms FROM chat ORDER BY pinned DESC, updated_ms DESC")?;
            let summary = |row: &Row<'_>| {
                Ok(ChatSummary { id: ChatId(row.get(0)?), title: row.get(1)?, pinned: row.get(2)?, updated_ms: row.get(3)? })
            };
            statement.query_map([], summary)?.collect()
        })
    }

    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>, StoreError> {
        self.run(|connection| {
            // One transaction: head and messages of one moment, whatever other windows write.
            let transaction = connection.transaction()?;
            let head = transaction
                .prepare_cached(
                    "SELECT id, title, titled_by_hand, created_ms, updated_ms, pinned, shows_reasoning, selected_root, context_start, \
                     settings, draft FROM chat WHERE id = ?1",
                )?
                .query_row([id.0], read_head)
                .optional()?;
            let Some(head) = head else { return Ok(None) };
            let messages: Vec<Message> = transaction
                .prepare_cached(
                    "SELECT id, parent, selected_child, role, content, reasoning, reasoning_ms, state, error, created_ms, updated_ms, \
                     model, sampling, stats, attachments FROM message WHERE chat = ?1 ORDER BY id",
                )?
                .query_map([id.0], read_message)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Some(Chat::new(head, messages)))
        })
    }

    fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.run(|connection| {
            connection.prepare_cached("SELECT value FROM setting WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
        })
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.run(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for change in changes {
                write_change(&transaction, change)?;
            }
            transaction.commit()
        })
    }

    fn search(&mut self, query: &str, limit: usize) -> Result<Vec<Hit>, StoreError> {
        let long = |word: &&str| word.chars().count() >= INDEXED_CHARS;
        let terms: Vec<String> = query.split_whitespace().filter(long).map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
        self.run(|connection| {
            let hit = |row: &Row<'_>, message: Option<i64>| -> rusqlite::Result<Option<Hit>> {
                let text: String = row.get("text")?;
                Ok(excerpt(&text, query).map(|(excerpt, found)| Hit {
                    chat: ChatId(row.get("chat").unwrap_or_default()),
                    message: message.map(MessageId),
                    title: row.get("title").unwrap_or_default(),
                    excerpt,
                    found,
                    created_ms: row.get("at_ms").unwrap_or_default(),
                }))
            };
            let mut hits = vec![];
            let mut titles = connection.prepare_cached("SELECT id AS chat, title, title AS text, updated_ms AS at_ms FROM chat ORDER BY at_ms DESC")?;
            let mut rows = titles.query([])?;
            while let Some(row) = rows.next()? {
                hits.extend(hit(row, None)?);
            }
            let sql = "SELECT message.id AS id, message.chat AS chat, chat.title AS title, message.content AS text, message.created_ms AS at_ms \
                       FROM message JOIN chat ON chat.id = message.chat";
            let (sql, term) = if terms.is_empty() {
                (format!("{sql} WHERE ?1 <> '' ORDER BY message.id DESC"), "every".to_string())
            } else {
                (
                    format!("{sql} WHERE message.id IN (SELECT rowid FROM message_text WHERE message_text MATCH ?1) ORDER BY message.id DESC"),
                    terms.join(" AND "),
                )
            };
            let mut messages = connection.prepare_cached(&sql)?;
            let mut rows = messages.query([term])?;
            while let Some(row) = rows.next()?
                && hits.len() < limit
            {
                let id: i64 = row.get("id")?;
                hits.extend(hit(row, Some(id))?);
            }
            hits.truncate(limit);
            Ok(hits)
        })
    }

    fn move_to(&mut self, folder: &Path) -> Result<(), StoreError> {
        let refused = |error: std::io::Error| StoreError::Other(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(refused)?;
        let path = folder.join(FILE);
        if !path.exists() {
            // Under another name first: half a copy is never taken for the chats.
            let part = folder.join(format!("{FILE}.{}.part", std::process::id()));
            let copied = self.copy_to(&part).and_then(|()| std::fs::rename(&part, &path).map_err(refused));
            if copied.is_err() {
                // What could not be copied whole is of no use; that it is gone matters less than why.
                let _ = std::fs::remove_file(&part);
            }
            copied?;
        }
        let connection = connect(&path).map_err(|trouble| match trouble {
            Trouble::Damaged(reason) => StoreError::Other(format!("{}: damaged: {reason}", path.display())),
            Trouble::Refused(error) => error,
        })?;
        *self = Self::over(&path, connection);
        Ok(())
    }

    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        let version = self.run(|connection| data_version(connection))?;
        Ok(std::mem::replace(&mut self.version, version) != version)
    }
}

fn write_change(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Head(head) => write_head(transaction, head),
        Change::Message(chat, message) => write_message(transaction, *chat, message),
        Change::DeleteMessages(chat, ids) => {
            let mut message = transaction.prepare_cached("DELETE FROM message WHERE id = ?1 AND chat = ?2")?;
            let mut text = transaction.prepare_cached("DELETE FROM message_text WHERE rowid = ?1")?;
            for id in ids {
                if message.execute([id.0, chat.0])? > 0 {
                    text.execute([id.0])?;
                }
            }
            Ok(())
        }
        Change::DeleteChat(id) => {
            let texts = "DELETE FROM message_text WHERE rowid IN (SELECT id FROM message WHERE chat = ?1)";
            transaction.prepare_cached(texts)?.execute([id.0])?;
            transaction.prepare_cached("DELETE FROM chat WHERE id = ?1")?.execute([id.0]).map(drop)
        }
        Change::Setting(key, value) => transaction
            .prepare_cached("INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")?
            .execute(params![key, value])
            .map(drop),
    }
}

fn write_head(transaction: &Transaction<'_>, head: &ChatHead) -> rusqlite::Result<()> {
    let draft = (head.draft != Default::default()).then(|| to_json(&head.draft)).transpose()?;
    transaction
        .prepare_cached(
            "INSERT INTO chat (id, title, titled_by_hand, created_ms, updated_ms, pinned, shows_reasoning, selected_root, context_start, \
             settings, draft) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO UPDATE SET title = excluded.title, \
             titled_by_hand = excluded.titled_by_hand, updated_ms = excluded.updated_ms, pinned = excluded.pinned, \
             shows_reasoning = excluded.shows_reasoning, selected_root = excluded.selected_root, context_start = excluded.context_start, \
             settings = excluded.settings, draft = excluded.draft",
        )?
        .execute(params![
            head.id.0,
            head.title,
            head.titled_by_hand,
            head.created_ms,
            head.updated_ms,
            head.pinned,
            head.shows_reasoning,
            head.selected_root.map(|id| id.0),
            head.context_start.map(|id| id.0),
            to_json(&head.settings)?,
            draft,
        ])
        .map(drop)
}

/// Words for a chat that another window deleted are let go.
fn write_message(transaction: &Transaction<'_>, chat: ChatId, message: &Message) -> rusqlite::Result<()> {
    let (state, error) = match &message.state {
        MessageState::Streaming => ("streaming", None),
        MessageState::Finished => ("finished", None),
        MessageState::Stopped => ("stopped", None),
        MessageState::Cut => ("cut", None),
        MessageState::Failed(error) => ("failed", Some(error)),
    };
    let written = transaction
        .prepare_cached(
            "INSERT INTO message (id, chat, parent, selected_child, role, content, reasoning, reasoning_ms, state, error, created_ms, \
             updated_ms, model, sampling, stats, attachments) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16 \
             WHERE EXISTS (SELECT 1 FROM chat WHERE id = ?2) ON CONFLICT (id) DO UPDATE SET selected_child = excluded.selected_child, \
             content = excluded.content, reasoning = excluded.reasoning, reasoning_ms = excluded.reasoning_ms, state = excluded.state, \
             error = excluded.error, updated_ms = excluded.updated_ms, model = excluded.model, sampling = excluded.sampling, \
             stats = excluded.stats, attachments = excluded.attachments",
        )?
        .execute(params![
            message.id.0,
            chat.0,
            message.parent.map(|id| id.0),
            message.selected_child.map(|id| id.0),
            message.role.as_str(),
            message.content,
            message.reasoning,
            message.reasoning_ms,
            state,
            error,
            message.created_ms,
            message.updated_ms,
            message.model,
            message.sampling.as_ref().map(to_json).transpose()?,
            message.stats.as_ref().map(to_json).transpose()?,
            (!message.attachments.is_empty()).then(|| to_json(&message.attachments)).transpose()?,
        ])?;
    if written > 0 {
        transaction.prepare_cached("DELETE FROM message_text WHERE rowid = ?1")?.execute([message.id.0])?;
        let text = "INSERT INTO message_text (rowid, content) VALUES (?1, ?2)";
        transaction.prepare_cached(text)?.execute(params![message.id.0, message.content])?;
    }
    Ok(())
}

fn read_head(row: &Row<'_>) -> rusqlite::Result<ChatHead> {
    Ok(ChatHead {
        id: ChatId(row.get(0)?),
        title: row.get(1)?,
        titled_by_hand: row.get(2)?,
        created_ms: row.get(3)?,
        updated_ms: row.get(4)?,
        pinned: row.get(5)?,
        shows_reasoning: row.get(6)?,
        selected_root: row.get::<_, Option<i64>>(7)?.map(MessageId),
        context_start: row.get::<_, Option<i64>>(8)?.map(MessageId),
        settings: from_json(row.get(9)?).unwrap_or_default(),
        draft: from_json(row.get(10)?).unwrap_or_default(),
    })
}

fn read_message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let role: String = row.get(3)?;
    let state: String = row.get(7)?;
    let error: Option<String> = row.get(8)?;
    Ok(Message {
        id: MessageId(row.get(0)?),
        parent: row.get::<_, Option<i64>>(1)?.map(MessageId),
        selected_child: row.get::<_, Option<i64>>(2)?.map(MessageId),
        role: match role.as_str() {
            "system" => Role::System,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => Role::User,
        },
        content: row.get(4)?,
        reasoning: row.get(5)?,
        reasoning_ms: row.get(6)?,
        state: match state.as_str() {
            "streaming" => MessageState::Streaming,
            "finished" => MessageState::Finished,
            "cut" => MessageState::Cut,
            "failed" => MessageState::Failed(error.unwrap_or_default()),
            _ => MessageState::Stopped,
        },
        created_ms: row.get(9)?,
        updated_ms: row.get(10)?,
        model: row.get(11)?,
        sampling: from_json(row.get(12)?),
        stats: from_json(row.get(13)?),
        attachments: from_json(row.get(14)?).unwrap_or_default(),
    })
}

fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// What an unknown version wrote is as if it were not set.
fn from_json<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}
