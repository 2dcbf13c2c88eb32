//! The tables, and the steps from older versions to this one.

/// Each step brings a file from its number to the next; `user_version` counts them.
pub const STEPS: &[&str] = &["
CREATE TABLE chat (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    titled_by_hand INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    pinned INTEGER NOT NULL,
    shows_reasoning INTEGER NOT NULL,
    selected_root INTEGER,
    context_start INTEGER,
    settings TEXT NOT NULL,
    draft TEXT
) STRICT;
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    chat INTEGER NOT NULL REFERENCES chat (id) ON DELETE CASCADE,
    parent INTEGER,
    selected_child INTEGER,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    reasoning TEXT NOT NULL,
    reasoning_ms INTEGER,
    state TEXT NOT NULL,
    error TEXT,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    model TEXT,
    sampling TEXT,
    stats TEXT,
    attachments TEXT
) STRICT;
CREATE INDEX message_of_chat ON message (chat, id);
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE message_text USING fts5 (content, content = '', contentless_delete = 1, tokenize = 'trigram');
"];

/// Tells our files from other programs': `Fthm`.
pub const APPLICATION_ID: i32 = 0x4674_686d;
