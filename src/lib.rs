//! # oncegate
//!
//! A reverse proxy that lets every intended write through once, in front of a backend that guarantees nothing.
//!
//! ```text
//!              client                                            operator
//!                |                                                  |
//!   +------------v-------------------------------+        +---------v---------+
//!   | gateway/   worker per core: accept, one     |        | admin/  health,   |
//!   |            exchange top to bottom, upstream |        |  API, /metrics    |
//!   +----+------------------+--------------+------+        +----+---------+----+
//!        | asks             | commands     | events             |         |
//!   +----v-----+       +----v-----+   +----v-----+              |         |
//!   | domain/  |<------| store/   |   | journal/ |<-------------+         |
//!   | decides  |       | remembers|   | tells    |                        |
//!   +----^-----+       +----^-----+   +----------+                        |
//!        |                  +---------------------------------------------+
//!   +----+-----+
//!   | config/  |  config.toml -> Config (validated, all problems at once) -> Policy (compiled, immutable snapshot)
//!   +----------+                                                    cli/: run check demo claims slots
//! ```
//!
//! Imports run one way: `domain` <- `config` <- `store`, `journal` <- `gateway` <- `admin` <- `cli`. A test holds that
//! table, and that `domain` has no clock, no randomness, no async and no I/O.
//!
//! # The rule that makes the difference
//!
//! The end of a lease never grants a second attempt; it only yields *in doubt*. A legacy backend checks no fencing token,
//! so no lease can be made safe by itself. What may have been executed is never sent again by this gateway.
//!
//! # Words
//!
//! One word, one meaning, in code, configuration, logs, metrics and documents.
//!
//! | word | meaning |
//! |---|---|
//! | **fingerprint** | keyed digest of what a request *means* ([`domain::fingerprint`], [`domain::canon`]) |
//! | **client** | whom limits count; need not be proven |
//! | **scope** | what the caller has shown; bounds every fingerprint and replay |
//! | **record** | what the store knows of one intent ([`domain::ledger`]) |
//! | **claim** | the right to execute it, held under a **lease** with a fencing **token** |
//! | **attempt** | one execution under a claim |
//! | **replay** | answering a copy with the recorded answer |
//! | **in doubt** | sent, and no answer known |
//! | **lane** | a queue in which writes that share a key run one at a time ([`domain::lane`]); whose **turn** it is may send |
//! | **retry** | another attempt under one claim, after an answer that proves that nothing was executed ([`domain::conflict`]) |
//! | **slot** | a thing that only so many may hold ([`domain::slot`]); a **hold** is one place of it |
//! | **refusal** | an answer that the gateway makes itself ([`domain::refusal`]) |
//! | **selector** | how the configuration points at a value of a request or an answer ([`domain::selector`]) |
//! | **limit** | so many requests per window, and how many of them at once ([`domain::throttle`]) |
//! | **turn** | when a client's next request is within its limits; until then it is **held** |
//! | **storm** | one client reading one path far too often ([`domain::poll`]) |
//! | **coalesce** | many equal reads, one call to the backend ([`domain::read`]) |
//! | **copy** | of a write: the same intent again. Of an answer: one that is kept for equal reads |
//! | **event** | a fact for the journal |
//! | **policy** | the compiled configuration that a request keeps from start to end |
//!
//! # Three walks
//!
//! **A write that nobody has sent before.** `gateway::exchange` brings the target into its one normal form, finds the
//! route and hands over to `gateway::guard`. That reads the whole body, digests what it means, and sends the store a
//! claim, which is durable when it is granted. `gateway::attempt` runs from there, whatever the client does
//! (`gateway::carried`): it sends, waits, classifies and completes the record, durably, and only then does the answer's
//! first byte go to the client.
//!
//! **Its copy.** The same way up to the claim. If the attempt is in flight the copy waits for it and gets its answer; if
//! it is done, the recorded one (`gateway::replay`); if nobody knows, a refusal that says so. Nothing is sent.
//!
//! **A read.** `gateway::exchange` finds a route that does not guard it. Where the route limits how often a client may ask,
//! `gateway::throttle` lets it pass, holds it until its turn, or refuses it. Where the route keeps or shares answers,
//! `gateway::reads` answers it from a copy or lets it wait for an equal read's call; then `gateway::forward` streams it both ways. A
//! PUT, PATCH or DELETE that succeeds this way ends what was remembered of its target, so that booking again after a
//! cancellation is a new intent.
#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod domain;
pub mod gateway;
pub mod journal;
pub mod store;
