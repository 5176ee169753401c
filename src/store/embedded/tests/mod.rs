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
mod opening;
mod reading;

#[test]
fn a_store_is_shared_by_all_workers() {
    fn shared<T: Send + Sync>() {}
    shared::<crate::store::Store>();
    shared::<crate::store::Waiter>();
}
