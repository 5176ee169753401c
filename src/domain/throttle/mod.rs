//! Throttle: how often a client may ask. Limits are GCRA buckets, several of them stacked into one decision that takes
//! from all or from none; a denied request takes nothing, so asking again never makes the wait longer.
//!
//! Owns the limits' language ([`limit`]), the arithmetic (`decide`), what is counted together ([`key`]), and the bounded
//! memory for it ([`table`], [`sketch`]), the order in which requests wait for a place ([`queue`]) and a limit that follows
//! the backend's latency ([`adaptive`]). Locks, clocks, waiting and answers are the gateway's.

pub mod adaptive;
pub mod decide;
pub mod key;
pub mod limit;
pub mod policy;
pub mod queue;
pub mod retry;
pub mod sketch;
pub mod table;
#[cfg(test)]
mod tests;

pub use decide::{Denied, Standing, decide};
pub use key::{Key, Per};
pub use limit::{Limit, Nanos};
pub use policy::{LIMITS_MAX, Over, Throttle};
pub use table::{Seen, Shard};
