//! The integration tests: one binary, so that what they share is built once. Black box all of them but
//! `architecture`, `conformance` and `simulation`: they start `oncegate` processes and look at what comes out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests measure from outside, with a clock of their own")]

mod answers;
mod architecture;
mod bookings;
mod bypass;
mod caching;
mod clients;
mod command_line;
mod conformance;
mod crash;
mod doubt;
mod early;
mod faults;
mod fleet;
mod fleet_slots;
mod framing;
mod guarantees;
mod harness;
mod http2;
mod incident_1;
mod incident_2;
mod incident_3;
mod incident_4;
mod incident_5;
mod lanes;
mod life;
mod limits;
mod numbering;
mod observed;
mod probe;
mod proxy;
mod proxy_protocol;
mod quirks;
mod races;
mod redirects;
mod same_meaning;
mod sessions;
mod settled;
mod simulation;
mod slots;
mod slow;
mod sync;
mod tls;
mod upgrades;
mod upstream;
