//! One integration binary: a module a subject.

mod simulation;
//! The one integration binary.

mod conformance;
