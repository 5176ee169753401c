//! The write-ahead log: what makes changes durable. `entry` is what it says, `block` its bytes, `disk` where they go (`direct`: past the
//! page cache),
//! `queue` and `writer` how many commands share one sync, `recover` how it is read back, `compact` how it stays small.

pub(super) mod block;
pub(super) mod compact;
mod direct;
pub(super) mod disk;
pub(super) mod entry;
mod gather;
pub(super) mod hold;
pub(super) mod queue;
pub(super) mod recover;
pub(super) mod room;
pub(super) mod segments;
pub(super) mod writer;
