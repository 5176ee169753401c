//! The order in which requests wait for a place: each client has a line of its own, and places go round among the lines.
//! So a client with a hundred requests waits behind itself, not in front of everybody.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

/// Requests that wait for a place, fair among clients and bounded.
#[derive(Debug)]
pub struct FairQueue<T> {
    lines: HashMap<u64, VecDeque<(u64, T)>, BuildHasherDefault<Identity>>,
    /// Clients with somebody in line, in the order of their turns.
    turns: VecDeque<u64>,
    waiting: usize,
    most: usize,
    tickets: u64,
}

/// Names a request in the queue, so that one that stops waiting can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    client: u64,
    number: u64,
}

/// Clients are digests already.
#[derive(Debug, Default)]
struct Identity(u64);

// === impl FairQueue ===

impl<T> FairQueue<T> {
    /// An empty queue with room for so many.
    pub fn new(most: usize) -> FairQueue<T> {
        FairQueue { lines: HashMap::default(), turns: VecDeque::new(), waiting: 0, most, tickets: 0 }
    }

    /// Puts a request behind the others of its client.
    ///
    /// # Errors
    /// The request itself, where the queue is full.
    pub fn push(&mut self, client: u64, request: T) -> Result<Ticket, T> {
        if self.waiting >= self.most {
            return Err(request);
        }
        self.waiting += 1;
        self.tickets += 1;
        let line = self.lines.entry(client).or_default();
        if line.is_empty() {
            self.turns.push_back(client);
        }
        line.push_back((self.tickets, request));
        Ok(Ticket { client, number: self.tickets })
    }

    /// The next request: the first of the client whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let client = self.turns.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let (_, request) = line.pop_front()?;
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        Some(request)
    }

    /// Takes out a request that waits no longer; whether it was there.
    pub fn remove(&mut self, ticket: Ticket) -> bool {
        let Some(line) = self.lines.get_mut(&ticket.client) else { return false };
        let Some(at) = line.iter().position(|(number, _)| *number == ticket.number) else { return false };
        line.remove(at);
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&ticket.client);
            self.turns.retain(|client| *client != ticket.client);
        }
        true
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

// === impl Identity ===

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_go_round_among_clients() {
        let mut queue = FairQueue::new(100);
        for request in ["a1", "a2", "a3", "a4"] {
            queue.push(1, request).expect("room");
        }
        queue.push(2, "b1").expect("room");
        queue.push(3, "c1").expect("room");
        queue.push(2, "b2").expect("room");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    }

    #[test]
    fn a_full_queue_takes_nobody_in() {
        let mut queue = FairQueue::new(2);
        assert!(queue.push(1, 1).is_ok() && queue.push(2, 2).is_ok());
        assert_eq!(queue.push(3, 3), Err(3));
        queue.pop();
        assert!(queue.push(3, 3).is_ok());
    }

    proptest! {
        #[test]
        fn whoever_leaves_is_gone_and_nobody_else_is(steps in prop::collection::vec((0..4u8, 0..5u64), 1..200)) {
            let (mut queue, mut inside) = (FairQueue::new(16), Vec::new());
            for (number, (step, client)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        let popped = queue.pop();
                        prop_assert_eq!(popped.is_some(), !inside.is_empty());
                        inside.retain(|(_, known)| Some(*known) != popped);
                    }
                    1 if !inside.is_empty() => {
                        let (ticket, _) = inside.remove(client as usize % inside.len());
                        prop_assert!(queue.remove(ticket));
                        prop_assert!(!queue.remove(ticket), "only once");
                    }
                    _ => match queue.push(client, number) {
                        Ok(ticket) => inside.push((ticket, number)),
                        Err(_) => prop_assert_eq!(inside.len(), 16),
                    },
                }
                prop_assert_eq!(queue.len(), inside.len());
                prop_assert!(queue.lines.len() <= queue.waiting, "no line without anybody in it");
            }
        }
    }
}
