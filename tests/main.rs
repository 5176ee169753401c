//! One integration binary: a module a subject.

mod conformance;
mod simulation;
