//! The embedded store against its specification, and against a disk that fails.
//!
//! A [`Machine`] is a store without threads: a test lets it write, tick, compact, crash and start again, one step at a
//! time. A [`Model`] is what the ledger alone says of the same commands.

mod compaction;
mod crash;
mod damage;
mod differential;
mod failing;
mod faulty;
mod machine;
mod model;
