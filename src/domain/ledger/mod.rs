//! The record's life as a pure state machine: [`apply`] takes a record, a command and `now`, and says what becomes of
//! the record and what the caller may do. Every store implements exactly this function; see LIFECYCLE.md beside it.
//!
//! The rule that makes the difference: the end of a lease never grants a second attempt. It only yields *in doubt*.

mod apply;
mod record;

#[cfg(test)]
mod tests;

pub use apply::{Change, Claim, Command, Outcome, Step, Verdict, apply, settle};
pub use record::{Doubt, Owner, Phase, PolicyVersion, Record, RecordId, TargetId, Token};
