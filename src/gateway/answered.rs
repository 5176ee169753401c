//! How many of a connection's requests were answered, for its stream, which must not read behind one that asks for another
//! protocol before its answer is known; and whether hyper has asked for the answer of the last one.

use std::cell::Cell;

/// Counts answers, and remembers that somebody waits for one.
#[derive(Default)]
pub struct Answered {
    count: Cell<u64>,
    awaited: Cell<bool>,
    unasked: Cell<bool>,
}

// === impl Answered ===

impl Answered {
    /// One more request has its answer. Whether somebody waits for that, and has to be woken.
    pub fn add(&self) -> bool {
        self.count.set(self.count.get() + 1);
        self.awaited.take()
    }

    /// An exchange begins.
    pub fn begins(&self) {
        self.unasked.set(true);
    }

    /// hyper asks for the answer of the exchange that began last.
    pub fn asks(&self) {
        self.unasked.set(false);
    }

    /// Whether an exchange has begun whose answer hyper has not asked for.
    pub fn is_unasked(&self) -> bool {
        self.unasked.get()
    }

    /// Whether so many requests have their answers; whoever asks waits for it otherwise.
    pub fn has_come_to(&self, requests: u64) -> bool {
        let has = self.count.get() >= requests;
        self.awaited.set(!has);
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_an_answer_is_woken_by_the_next_one_and_looks_again() {
        let answered = Answered::default();
        assert!(answered.has_come_to(0) && !answered.add(), "nobody waits");
        assert!(!answered.has_come_to(3));
        assert!(answered.add() && !answered.has_come_to(3));
        assert!(answered.add() && answered.has_come_to(3) && !answered.add());
    }
}
