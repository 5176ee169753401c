//! # oncegate
//!
//! A reverse proxy that lets every intended write through once, in front of a backend that guarantees nothing.
//!
//! ```text
//!              client                                            operator
//!                |                                                  |
//!   +------------v-------------------------------+        +---------v---------+
//!   | gateway/   worker per core: accept, one     |        | admin/  API,      |
//!   |            exchange top to bottom, upstream |        |         /metrics  |
//!   +----+------------------+--------------+------+        +----+---------+----+
//!        | asks             | commands     | events             |         |
//!   +----v-----+       +----v-----+   +----v-----+              |         |
//!   | domain/  |<------| store/   |   | journal/ |<-------------+         |
//!   | decides  |       | remembers|   | tells    |                        |
//!   +----^-----+       +----^-----+   +----------+                        |
//!        |                  +---------------------------------------------+
//!   +----+-----+
//!   | config/  |  config.toml -> Config (validated, all problems at once) -> Policy (compiled, immutable snapshot)
//!   +----------+                                              cli/: run check demo claims
//! ```
#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod domain;
pub mod gateway;
pub mod journal;
pub mod store;
