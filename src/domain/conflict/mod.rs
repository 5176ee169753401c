//! What the backend's answer says about a write that met another one: that it did nothing and may be sent again, or that
//! what was wanted is there already.
//!
//! Owns how such answers are recognised ([`Signs`]), how long to wait before the next attempt ([`Backoff`]) and what is
//! found in the answer of a question ([`Sought`]). Leaves to others when an answer is looked at, and what follows.

mod backoff;
mod signs;
mod sought;

pub use backoff::{Backoff, Spread};
pub use signs::{LOOKED_AT_MAX, Signs, Text};
pub use sought::{Evidence, Sought};
