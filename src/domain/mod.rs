//! What oncegate decides, as pure functions: no async, no I/O, no clock, no randomness. `now` is a parameter.

pub mod answer;
pub mod canon;
pub mod client;
pub mod conflict;
pub mod event;
pub mod fingerprint;
pub mod framing;
pub mod hex;
pub mod lane;
pub mod ledger;
pub mod poll;
pub mod quoted;
pub mod read;
pub mod refusal;
pub mod route;
pub mod says;
pub mod selector;
pub mod slot;
pub mod target;
pub mod throttle;
pub mod time;
pub mod told;
