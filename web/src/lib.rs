//! Fathom in a tab. One wasm, loaded twice: the page draws the chat window, a worker beside it runs the engine; they speak in
//! jobs and reports, written as JSON.
#![cfg(target_arch = "wasm32")]

mod client;
mod dialogs;
mod engine;
mod hash;
mod page;
mod store;
mod window;
