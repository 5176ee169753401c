//! The one place of the gateway that reads a clock.

use tokio::time::Instant;

/// Now, on the monotonic clock that the runtime's timers use.
#[allow(clippy::disallowed_methods, reason = "this is the file that reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}
