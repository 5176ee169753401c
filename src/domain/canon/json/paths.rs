//! The `ignore` and `unordered` of a route in the shape in which a document is compared with them.

use super::spelling::push_string;
use crate::domain::canon::path::{JsonPath, Step};

/// The compiled `ignore` and `unordered` of a route.
#[derive(Clone, Debug, Default)]
pub(in crate::domain::canon) struct Paths {
    pub(super) paths: Vec<Path>,
}

#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) steps: Vec<Match>,
    pub(super) effect: Effect,
}

/// A step in the shape in which it is compared.
#[derive(Clone, Debug)]
pub(super) enum Match {
    /// A member's name, spelled as the canonical text spells it, with its quotes.
    Name(Vec<u8>),
    Index(usize),
    Every,
}

/// What is to be done with a value; both at once is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) ignored: bool,
    pub(super) unordered: bool,
}

// === impl Paths ===

impl Paths {
    pub(in crate::domain::canon) fn new(ignore: &[JsonPath], unordered: &[JsonPath]) -> Paths {
        let compile = |path: &JsonPath, effect| {
            let step = |step: &Step| match step {
                Step::Name(name) => {
                    let mut spelled = Vec::with_capacity(name.len() + 2);
                    push_string(&mut spelled, name);
                    Match::Name(spelled)
                }
                Step::Index(index) => Match::Index(*index),
                Step::Every => Match::Every,
            };
            Path { steps: path.steps().iter().map(step).collect(), effect }
        };
        let ignored = Effect { ignored: true, unordered: false };
        let ignore = ignore.iter().map(|path| compile(path, ignored));
        let sorted = Effect { ignored: false, unordered: true };
        Paths { paths: ignore.chain(unordered.iter().map(|path| compile(path, sorted))).collect() }
    }
}
