//! What front ends and the engine say to each other: requests in, events out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::TokenInside;
use crate::gpu::Caps;
use crate::kernels::TurnedOff;
use crate::model::LoadProgress;
use crate::sampler::Sampling;
use crate::text::Message;

/// What to continue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// A conversation, written as the checkpoint's chat template says.
    Chat(Vec<Message>),
    /// Plain text, after one BOS where the model has one. Special tokens written in it count as such.
    Text(String),
    /// Token ids, fed as they are.
    Ids(Vec<u32>),
}

/// One answer wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub input: Input,
    #[serde(default)]
    pub sampling: Sampling,
    /// The most new tokens; without it the context is the limit.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// The answer ends before the first of these strings. They are not looked for in reasoning.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Goes on after tokens that end an answer.
    #[serde(default)]
    pub ignore_eos: bool,
    /// Asks the template for reasoning or for none; without it the template decides.
    #[serde(default)]
    pub thinking: Option<bool>,
    /// What the answer to a chat has written already and goes on after; events and summary tell only what is new.
    #[serde(default)]
    pub begun: Option<Begun>,
    /// Tells of every new token how it came about, as [`Event::Inside`].
    #[serde(default)]
    pub watch: bool,
}

/// The beginning of an answer, as [`Summary`] parts it.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begun {
    pub reasoning: String,
    pub text: String,
}

impl Request {
    /// A greedy request without limits.
    pub fn new(input: Input) -> Self {
        Self {
            input,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: vec![],
            ignore_eos: false,
            thinking: None,
            begun: None,
            watch: false,
        }
    }
}

/// What happens while an engine opens.
#[derive(Clone, Debug)]
pub enum OpenEvent {
    /// An ability that the start-up self-test turned off.
    TurnedOff(TurnedOff),
    /// On first use of a device: so many of the ways in which kernels can work were measured.
    Tune {
        done: usize,
        total: usize,
    },
    /// The device was chosen; loading begins.
    Device(Caps),
    Load(LoadProgress),
}

/// What happens while a request runs. The last one is `Done` or `Failed`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// Prompt tokens processed so far, reused ones included.
    Prefill {
        done: usize,
        total: usize,
    },
    /// The device was lost or broke, for this reason: the model is loaded again, and the answer then goes on.
    Rebuild(String),
    /// Every new id, the one that ends the answer included.
    Token(u32),
    /// A piece of the answer, never with half a character.
    Text(String),
    /// A piece of the reasoning before the answer.
    Reasoning(String),
    /// How the last new token came about, after the text that it completed; only with [`Request::watch`].
    Inside(TokenInside),
    /// The numbers so far: once after the prompt, then about once a second.
    Stats(Stats),
    Done(Summary),
    Failed(String),
}

/// Why an answer ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StopReason {
    /// The model ended it.
    Eos,
    /// This stop string came.
    Stop(String),
    /// `max_tokens`, or the end of the context.
    Length,
    Cancelled,
}

/// The numbers of one request.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stats {
    pub prompt_tokens: usize,
    /// Of the prompt, those found in the cache from the request before.
    pub reused_tokens: usize,
    pub new_tokens: usize,
    /// From the request to the first new id.
    pub first_token_secs: f64,
    /// From the first new id to the last.
    pub decode_secs: f64,
}

impl Stats {
    /// Prompt tokens a second, of those not reused.
    pub fn prefill_tokens_per_sec(&self) -> f64 {
        rate(self.prompt_tokens - self.reused_tokens, self.first_token_secs)
    }

    /// New tokens a second after the first.
    pub fn decode_tokens_per_sec(&self) -> f64 {
        rate(self.new_tokens.saturating_sub(1), self.decode_secs)
    }
}

fn rate(count: usize, secs: f64) -> f64 {
    if secs > 0.0 { count as f64 / secs } else { 0.0 }
}

/// A finished request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    pub stop: StopReason,
    /// All new ids, the one that ended the answer included.
    pub ids: Vec<u32>,
    /// The answer without its reasoning.
    pub text: String,
    pub reasoning: String,
    pub stats: Stats,
}

/// Ends a running request within one step; shared between whoever waits and whoever may stop it.
#[derive(Clone, Default, Debug)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Makes it ready for the next request.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_leave_out_what_was_reused_and_the_first_token() {
        let stats = Stats { prompt_tokens: 30, reused_tokens: 10, new_tokens: 9, first_token_secs: 2.0, decode_secs: 4.0 };
        assert_eq!(stats.prefill_tokens_per_sec(), 10.0);
        assert_eq!(stats.decode_tokens_per_sec(), 2.0);
        assert_eq!(Stats::default().decode_tokens_per_sec(), 0.0);
    }

    #[test]
    fn a_cancel_is_shared() {
        let cancel = Cancel::default();
        let other = cancel.clone();
        other.cancel();
        assert!(cancel.is_cancelled());
        cancel.reset();
        assert!(!other.is_cancelled());
    }
}
