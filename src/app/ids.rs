//! Names of chats and messages: 63-bit numbers that grow with time, so that sorting by id is sorting by age, and with enough
//! chance in them that two windows never make the same one.

use serde::{Deserialize, Serialize};

/// A chat's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ChatId(pub i64);

/// A message's number, unique among all chats.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct MessageId(pub i64);

/// Bits of chance below the milliseconds.
const CHANCE_BITS: u32 = 20;

/// Makes ids, each larger than the one before.
#[derive(Default, Debug)]
pub struct Ids {
    last: i64,
}

impl Ids {
    fn next(&mut self, now_ms: i64) -> i64 {
        let chance = chance() & ((1 << CHANCE_BITS) - 1);
        let time = now_ms.clamp(1, i64::MAX >> CHANCE_BITS);
        self.last = ((time << CHANCE_BITS) | chance as i64).max(self.last.saturating_add(1));
        self.last
    }

    pub fn chat(&mut self, now_ms: i64) -> ChatId {
        ChatId(self.next(now_ms))
    }

    pub fn message(&mut self, now_ms: i64) -> MessageId {
        MessageId(self.next(now_ms))
    }
}

/// A number nobody can foretell: the standard library's hash keys are made of chance.
#[cfg(not(target_arch = "wasm32"))]
pub fn chance() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// A number nobody can foretell; a tab's hash keys are always the same.
#[cfg(target_arch = "wasm32")]
pub fn chance() -> u64 {
    // A browser without it has no WebGPU either.
    getrandom_04::u64().unwrap_or_default()
}

/// A seed that is short enough to be typed.
pub fn short_chance() -> u64 {
    chance() & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_when_the_clock_goes_back() {
        let mut ids = Ids::default();
        let made = [5000, 5000, 4000, 0, -7, i64::MAX].map(|now| ids.message(now).0);
        assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
        assert_ne!(Ids::default().chat(9), Ids::default().chat(9));
    }
}
