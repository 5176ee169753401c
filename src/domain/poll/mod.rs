//! Polls: the same read again and again. A polling loop is closed, it asks as fast as it is answered; so what ends it is not
//! a quick refusal but an answer at its pace.
//!
//! Owns when a client's reads are a storm ([`storm`]), in bounded memory, and the line in which held reads wait for their
//! turn ([`turns`]). Waiting itself, and the one call for equal reads, are the gateway's.

pub mod storm;
pub mod turns;

pub use storm::{Alarm, Read, Storm, Watch};
pub use turns::{Place, Role, Turns};
