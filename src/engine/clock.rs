//! The engine's only use of clocks.

use web_time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment to measure from.
#[derive(Clone, Copy)]
pub(super) struct Moment(Instant);

impl Moment {
    pub fn now() -> Self {
        Self(Instant::now())
    }

    pub fn secs(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Seconds since 1970, UTC.
pub(crate) fn unix_secs() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}
