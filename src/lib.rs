//! Fathom: a portable GPU engine for the DeepSeek family of language models.
//!
//! Folders in dependency order, each using only those before it:
//! [`gpu`] the device · [`checkpoint`] model files · [`kernels`] WGSL programs and their launches · [`model`] the family's
//! layers · [`text`] tokenizers and templates · [`session`] sequences and steps · [`engine`] requests in, events out ·
//! [`app`] the chat window. [`files`] serves them all.

pub mod app;
pub mod checkpoint;
pub mod engine;
pub mod files;
pub mod gpu;
pub mod kernels;
pub mod model;
pub mod sampler;
pub mod session;
pub mod text;
