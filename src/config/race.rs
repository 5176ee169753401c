//! What a route does about writes that race inside the backend: one at a time, once more, what is there already, and
//! duplicates in the backend's own answers.

use crate::domain::conflict::{Backoff, Signs, Sought};
use crate::domain::selector::{Selector, Template};
use std::sync::Arc;
use std::time::Duration;

/// `[route.lane]`: writes that share a key run one at a time, in order.
#[derive(Clone, Debug)]
pub struct Lane {
    /// `name`: routes that name the same one share it; the route's own name where it is not said.
    pub name: Arc<str>,
    /// `by`: what writes share. Nothing found is a value like any other.
    pub by: Vec<Selector>,
    /// `queue`: how many may wait.
    pub queue: u32,
    /// `wait`: for how long.
    pub wait: Duration,
}

/// `[route.retry]`: an answer by which the backend says that it did nothing, and that the same may succeed soon.
#[derive(Clone, Debug)]
pub struct Retry {
    /// `status` and `body`
    pub signs: Signs,
    /// `backoff`: its length is the number of retries.
    pub backoff: Backoff,
}

/// `[route.recover]`: how to ask the backend whether what a write wanted is there.
#[derive(Clone, Debug)]
pub struct Recover {
    /// `get`: the target of the question.
    pub get: Template,
    /// `found`: where in its answer the record is.
    pub found: Sought,
    /// `attempts`: how often it is asked until something is found.
    pub attempts: u32,
    /// `apart`: the pause between two of them.
    pub apart: Duration,
    /// `status` and `body`: the answers that say "exists already".
    pub signs: Signs,
    /// `absent`
    pub absent: Absent,
}

/// What follows where an outcome is in doubt and the backend has no such record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// `keep`: it stays in doubt.
    Keep,
    /// `free`: the next copy executes, once nobody can send the first one any more and the backend has had its time.
    Free,
}

/// `[route.detect]`: what must not come twice in the backend's own answers.
#[derive(Clone, Debug)]
pub struct Detect {
    /// `name`: routes that name the same one are compared with each other; the route's own name where it is not said.
    pub name: Arc<str>,
    /// `unique`
    pub unique: Pointer,
    /// `within`: among what it must not.
    pub within: Vec<Pointer>,
    /// `window`: for how long an answer is remembered.
    pub window: Duration,
}

/// A selector, and whether it looks into the request or the answer.
#[derive(Clone, Debug)]
pub struct Pointer {
    /// `answer:` stands before it.
    pub answer: bool,
    /// The rest.
    pub selector: Selector,
}
