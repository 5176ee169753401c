//! A slot: a thing that only so many may hold at a time. A doctor's quarter of an hour, a room, a class series.
//!
//! Owns what a slot is called ([`SlotId`]), who holds it and in which state ([`Hold`]), whether somebody else may
//! ([`refusal`]), what an attempt's outcome makes of what it reserved ([`fate`]), and which slots a request is about
//! ([`SlotPolicy`], [`Change`]). Leaves to the store that all of it happens in the same atomic command as the record's
//! own change, and to the gateway what is answered. LIFECYCLE.md beside this file has the states.
//!
//! One rule above all: *not executed frees, a success holds, anything else occupies one of the places until somebody
//! settles it.* A place that is given away too early is two patients at one door; one that is kept too long is a message to
//! an operator.

mod change;
mod decide;
mod hold;
mod key;
mod policy;
mod probe;
mod release;
mod row;

#[cfg(test)]
mod tests;

pub use change::{Change, Known};
pub use decide::{Fate, Saw, fate, refusal};
pub use hold::{Booking, End, Hold, HoldKey, HoldState, Keep, Taken, Wanted};
pub use key::{BookingId, Part, SlotId};
pub use policy::{HoldFor, MissingRule, Problem, SlotPolicy};
pub use probe::{Hole, Probe};
pub use release::{Asks, ReleasePolicy, When};
pub use row::{Row, put_field};
