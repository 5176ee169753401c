//! The one place of the gateway that reads a clock.

use std::cell::Cell;
use tokio::time::Instant;

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Now, on the monotonic clock that the runtime's timers use.
#[allow(clippy::disallowed_methods, reason = "this is the file that reads the clock")]
pub fn now() -> Instant {
    let now = Instant::now();
    LAST.set(Some(now));
    now
}

/// When this thread last read the clock: on a worker at most a sweep ago, mostly at the start of the present poll. For
/// times of rest and figures, where a reading of their own would cost more than it tells.
pub fn recent() -> Instant {
    LAST.get().unwrap_or_else(now)
}
