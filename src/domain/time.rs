//! Instants as the store counts them. Durations are `std::time::Duration` everywhere.

use std::time::Duration;

/// Milliseconds since the Unix epoch on the store's clock. Never negative, never read here: it is always passed in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This instant moved later by `by`; saturates at the end of time.
    pub fn after(self, by: Duration) -> Millis {
        Millis(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this instant is; zero where it is not after it.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
