//! The way to the backend: which server, which connection, and above all whether a byte may have left.
//!
//! A transport never retries a write by itself. What it may do is what provably sends nothing twice: try the next
//! server after a refused connection, and a fresh connection where the client library hands the request back unsent.

mod body;
mod capacity;
mod connect;
mod h2;
mod health;
mod hearing;
mod link;
mod pool;
mod send;
mod sending;
mod stream;
pub mod tls;
mod traffic;
mod trunk;

pub use body::UpstreamBody;
pub use health::{Permit, Upstream};
pub use hearing::Hearing;
pub use link::Switched;
pub use pool::Pool;
pub use send::{Failure, Flight, OriginalTarget, Reply, Reuse, send};
