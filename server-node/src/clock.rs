//! The one place that reads the clock.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the driver that hands time to the machines"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    now() / 1000
}

/// A stopwatch.
pub fn start() -> Instant {
    Instant::now()
}
