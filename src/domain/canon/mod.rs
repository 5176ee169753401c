//! A body's meaning as bytes. Two bodies that mean the same give the same canonical bytes; two that mean different
//! things never do. In doubt a body is taken raw: a false difference costs a duplicate check, a false equality swallows
//! somebody's booking.

mod path;

pub use path::JsonPath;
