//! Markdown as chat models write it: parsed to blocks, laid out once per block and width, drawn where it is visible.
//! Knows nothing of chats: text in, drawing out.

mod code;
mod formula;
mod layout;
mod parse;
mod view;

pub use view::{CodeTexts, MarkdownCache, show};
