//! Reads that may share an answer: which requests are one ([`key`]), which answers may go to another request
//! ([`share`]), for how long ([`fresh`], [`directives`]), and what a client gets that has a copy ([`condition`]).

pub mod condition;
pub mod directives;
pub mod fresh;
pub mod key;
pub mod share;

pub use directives::Directives;
pub use fresh::{Keeping, Lifetime, Standing};
pub use key::{Asked, Counted, ReadKey, Reader, is_noise, is_shareable};
pub use share::{Bar, Keyed, bar};
