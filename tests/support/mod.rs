//! What several integration tests share: a reference forward pass, tiny random checkpoints and the golden data.
//!
//! None of it knows the engine, so agreement between the two means something.
#![allow(dead_code, reason = "each integration test uses its own part of these modules")]

pub mod config;
pub mod golden;
pub mod reference;
pub mod stored;
pub mod tiny;
pub mod zoo;
