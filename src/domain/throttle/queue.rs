//! The order in which requests wait for a place: each client has a line of its own, and places go round among the lines.
//! So a client with a hundred requests waits behind itself, not in front of everybody. Clients that nobody has proven stand
//! together behind their address: places go round among those first, so that a hundred invented clients are no hundred lines.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

/// Requests that wait for a place, fair among clients and bounded.
#[derive(Debug)]
pub struct FairQueue<T> {
    groups: Round<Round<VecDeque<(u64, T)>>>,
    waiting: usize,
    most: usize,
    tickets: u64,
}

/// Things that come in turn, those that have something left to give.
#[derive(Debug)]
struct Round<L> {
    lines: HashMap<u64, L, BuildHasherDefault<Identity>>,
    turns: VecDeque<u64>,
}

/// Where a request stands: whose it is, and with whom that one is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// The address of a client that nobody has proven; otherwise the client itself.
    pub group: u64,
    /// The client.
    pub client: u64,
}

/// Names a request in the queue, so that one that stops waiting can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    rank: Rank,
    number: u64,
}

/// Clients are digests already.
#[derive(Debug, Default)]
struct Identity(u64);

// === impl FairQueue ===

impl<T> FairQueue<T> {
    /// An empty queue with room for so many.
    pub fn new(most: usize) -> FairQueue<T> {
        FairQueue { groups: Round::default(), waiting: 0, most, tickets: 0 }
    }

    /// Puts a request behind the others of its client.
    ///
    /// # Errors
    /// The request itself, where the queue is full.
    pub fn push(&mut self, rank: Rank, request: T) -> Result<Ticket, T> {
        if self.waiting >= self.most {
            return Err(request);
        }
        self.waiting += 1;
        self.tickets += 1;
        self.groups.line(rank.group).line(rank.client).push_back((self.tickets, request));
        Ok(Ticket { rank, number: self.tickets })
    }

    /// The next request: the first of the client whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let (_, request) =
            self.groups.next(|group| group.next(VecDeque::pop_front, VecDeque::is_empty), Round::is_empty)?;
        self.waiting -= 1;
        Some(request)
    }

    /// Takes out a request that waits no longer; whether it was there.
    pub fn remove(&mut self, ticket: Ticket) -> bool {
        let Rank { group, client } = ticket.rank;
        let Some(clients) = self.groups.lines.get_mut(&group) else { return false };
        let Some(line) = clients.lines.get_mut(&client) else { return false };
        let Some(at) = line.iter().position(|(number, _)| *number == ticket.number) else { return false };
        line.remove(at);
        self.waiting -= 1;
        if line.is_empty() {
            clients.end(client);
        }
        if clients.is_empty() {
            self.groups.end(group);
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

// === impl Round ===

impl<L> Default for Round<L> {
    fn default() -> Round<L> {
        Round { lines: HashMap::default(), turns: VecDeque::new() }
    }
}

impl<L> Round<L> {
    /// The line of this name, which has its turn from now on behind all others where it is new.
    fn line(&mut self, name: u64) -> &mut L
    where
        L: Default,
    {
        let turns = &mut self.turns;
        self.lines.entry(name).or_insert_with(|| {
            turns.push_back(name);
            L::default()
        })
    }

    /// What the line whose turn it is gives; it comes again behind the others unless it is empty.
    fn next<T>(
        &mut self,
        take: impl FnOnce(&mut L) -> Option<T>,
        is_empty: impl FnOnce(&L) -> bool,
    ) -> Option<T> {
        let name = self.turns.pop_front()?;
        let line = self.lines.get_mut(&name)?;
        let taken = take(line);
        if is_empty(line) {
            self.lines.remove(&name);
        } else {
            self.turns.push_back(name);
        }
        taken
    }

    fn end(&mut self, name: u64) {
        self.lines.remove(&name);
        self.turns.retain(|other| *other != name);
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

// === impl Rank ===

impl Rank {
    /// Of a client that is counted alone.
    pub fn alone(client: u64) -> Rank {
        Rank { group: client, client }
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
            queue.push(Rank::alone(1), request).expect("room");
        }
        queue.push(Rank::alone(2), "b1").expect("room");
        queue.push(Rank::alone(3), "c1").expect("room");
        queue.push(Rank::alone(2), "b2").expect("room");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    }

    #[test]
    fn invented_clients_of_one_address_wait_behind_each_other() {
        let mut queue = FairQueue::new(100);
        for (client, request) in [(11, "a1"), (12, "b1"), (13, "c1"), (11, "a2")] {
            queue.push(Rank { group: 1, client }, request).expect("room");
        }
        queue.push(Rank { group: 2, client: 21 }, "d1").expect("room");
        queue.push(Rank::alone(3), "e1").expect("room");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a1", "d1", "e1", "b1", "c1", "a2"], "and fair among themselves");
    }

    #[test]
    fn a_full_queue_takes_nobody_in() {
        let mut queue = FairQueue::new(2);
        assert!(queue.push(Rank::alone(1), 1).is_ok() && queue.push(Rank::alone(2), 2).is_ok());
        assert_eq!(queue.push(Rank::alone(3), 3), Err(3));
        queue.pop();
        assert!(queue.push(Rank::alone(3), 3).is_ok());
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
                    _ => match queue.push(Rank { group: client % 2, client }, number) {
                        Ok(ticket) => inside.push((ticket, number)),
                        Err(_) => prop_assert_eq!(inside.len(), 16),
                    },
                }
                prop_assert_eq!(queue.len(), inside.len());
                let lines = queue.groups.lines.values().map(|group| group.lines.len()).sum::<usize>();
                prop_assert!(lines <= queue.waiting, "no line without anybody in it");
                prop_assert!(queue.groups.lines.values().all(|group| !group.is_empty()));
            }
        }
    }
}
