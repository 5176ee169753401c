//! The embedded store.
use super::*;
/// A store in this process.
pub struct Embedded {
    _options: Options,
}
/// A claim's place in the queue behind the attempt in flight. Dropping it gives the place up.
#[derive(Debug)]
pub struct Waiter {}
