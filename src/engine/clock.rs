//! The engine's only use of clocks, so that a page can bring its own.

/// A moment to measure from.
#[derive(Clone, Copy)]
pub(super) struct Moment(std::time::Instant);

impl Moment {
    pub fn now() -> Self {
        Self(std::time::Instant::now())
    }

    pub fn secs(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Seconds since 1970, UTC.
pub(crate) fn unix_secs() -> Option<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}
