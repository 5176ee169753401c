//! Below which resources writes without a key are remembered. A DELETE or MOVE takes everything below its target with it
//! (RFC 4918, 9.6), so what was remembered of it ends too; but records know their resources by digests, which do not say what
//! lies below what. So the paths of late are kept beside them, as long as such a record may live.
//!
//! Only what this gateway carried out itself since it was started is known, and at most so much. Beyond that the store keeps
//! when which resource ended with all below it ([`EndIntents::subtree_for`](crate::store::EndIntents::subtree_for)); what is
//! found here ends without a clock, which does not tell apart what happens in one millisecond.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Paths of late, the oldest first.
#[derive(Default)]
pub struct Below(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    path: Box<str>,
    until: Instant,
}

/// So many paths are kept.
const ENTRIES_MAX: usize = 16_384;
/// So long they are together.
const BYTES_MAX: usize = 2 << 20;
/// So many of them are found below one resource.
const FOUND_MAX: usize = 2_000;

// === impl Below ===

impl Below {
    /// A write to the resource `path` is remembered from `now` on for as long as `keep`.
    pub fn note(&self, path: &str, now: Instant, keep: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(path, now, keep);
    }

    /// The resources below `path` that are remembered.
    pub fn of(&self, path: &str, now: Instant) -> Vec<Box<str>> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live = recent.entries.iter().filter(|entry| entry.until > now && is_below(&entry.path, path));
        let mut found: Vec<Box<str>> = live.map(|entry| entry.path.clone()).collect();
        drop(recent);
        found.sort_unstable();
        found.dedup();
        found.truncate(FOUND_MAX);
        found
    }
}

impl Recent {
    fn note(&mut self, path: &str, now: Instant, keep: Duration) {
        let too_much =
            |this: &Recent| this.entries.len() >= ENTRIES_MAX || this.bytes + path.len() > BYTES_MAX;
        while self.entries.front().is_some_and(|oldest| oldest.until <= now || too_much(self)) {
            self.bytes -= self.entries.pop_front().map_or(0, |oldest| oldest.path.len());
        }
        self.bytes += path.len();
        self.entries.push_back(Entry { path: path.into(), until: now + keep });
    }
}

fn is_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::clock;

    const KEEP: Duration = Duration::from_secs(10);

    fn found(below: &Below, path: &str, now: Instant) -> Vec<String> {
        below.of(path, now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_lies_below_is_found_once_and_as_long_as_it_is_remembered() {
        let (below, now) = (Below::default(), clock::now());
        for path in ["/cal/a", "/cal/b/c", "/cal", "/calendar/x", "/cal/a", "/other"] {
            below.note(path, now, KEEP);
        }
        assert_eq!(found(&below, "/cal", now), ["/cal/a", "/cal/b/c"]);
        assert_eq!(found(&below, "/cal/", now), ["/cal/a", "/cal/b/c"]);
        assert_eq!(found(&below, "/cal/a", now), [""; 0]);
        assert_eq!(found(&below, "/", now).len(), 5);
        assert_eq!(found(&below, "/cal", now + KEEP), [""; 0]);
    }

    #[test]
    fn the_oldest_give_way_and_nothing_grows_without_end() {
        let (below, now) = (Below::default(), clock::now());
        (0..ENTRIES_MAX + 100).for_each(|number| below.note(&format!("/a/{number}"), now, KEEP));
        assert_eq!(below.0.lock().unwrap().entries.len(), ENTRIES_MAX);
        assert_eq!(found(&below, "/a", now).len(), FOUND_MAX);
        assert!(found(&below, "/a/0", now).is_empty());
        let long = format!("/b/{}", "x".repeat(60_000));
        (0..100).for_each(|_| below.note(&long, now, KEEP));
        let recent = below.0.lock().unwrap();
        assert!(recent.bytes <= BYTES_MAX, "{}", recent.bytes);
        assert_eq!(recent.bytes, recent.entries.iter().map(|entry| entry.path.len()).sum::<usize>());
        drop(recent);
        below.note("/c", now + KEEP, KEEP);
        assert_eq!(below.0.lock().unwrap().entries.len(), 1, "what is over gives way at once");
    }
}
