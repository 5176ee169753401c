//! Reads that may share an answer, and which of them are one ([`key`]).

pub mod key;

pub use key::{Asked, ReadKey, Reader, is_noise, is_shareable};
