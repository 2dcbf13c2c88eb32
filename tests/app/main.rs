//! The chat window without its drawing: every command with a scripted worker, what is stored when, and the native worker over
//! a tiny model.

mod answers;
mod chats;
mod desk;
mod models;
mod native;
mod storage;
#[path = "../support/talking.rs"]
#[expect(dead_code, reason = "each integration test uses its own part of this module")]
mod talking;
