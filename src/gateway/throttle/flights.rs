//! `[route.concurrency]`: how many requests of one client are in flight at once. More wait in the order in which they came,
//! each client behind itself; a client that is not busy takes no memory.

use crate::config::Concurrency;
use crate::gateway::clock;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Clients are spread over so many locks.
const SHARDS: usize = 16;

/// Every busy client, shared by all workers.
#[derive(Clone)]
pub struct Flights(Arc<[Mutex<Shard>]>);

#[derive(Default)]
struct Shard {
    clients: BTreeMap<u64, Client>,
    tickets: u64,
}

/// A client with something in flight.
#[derive(Default)]
struct Client {
    flying: usize,
    waiting: VecDeque<(u64, oneshot::Sender<Flight>)>,
}

/// One request in flight; the next one goes when it is dropped.
pub struct Flight {
    flights: Flights,
    client: u64,
    /// The same among those of its address.
    _address: Option<Box<Flight>>,
}

/// Whose requests in flight are as many as they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The client's own.
    Client,
    /// Those of all clients of its address that prove nothing.
    Address,
}

/// A request in line; leaves it when dropped.
struct InLine {
    flights: Flights,
    client: u64,
    ticket: u64,
}

// === impl Flights ===

impl Default for Flights {
    fn default() -> Flights {
        Flights((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Flights {
    /// Lets a request of `client` fly under these rules. Where its `address` answers for it, `times` as many of that fly,
    /// and wait, at once. Both waits together are no longer than one may be.
    pub async fn fly_under(
        &self,
        client: u64,
        address: Option<u64>,
        times: usize,
        rules: Concurrency,
    ) -> Result<Flight, Full> {
        let Concurrency { per_client, queue, wait } = rules;
        let until = clock::now() + wait;
        let mut flight = self.fly(client, per_client, queue, wait).await.ok_or(Full::Client)?;
        if let Some(address) = address {
            let (most, queue) = (per_client.saturating_mul(times), queue.saturating_mul(times));
            let left = until.saturating_duration_since(clock::now());
            let above = self.fly(address, most, queue, left).await.ok_or(Full::Address)?;
            flight._address = Some(Box::new(above));
        }
        Ok(flight)
    }

    /// Lets a request of `client` (a digest of client and route) fly when fewer than `most` do. Before that it waits behind
    /// at most `queue` others, at most so long; `None` where that was not enough.
    pub async fn fly(&self, client: u64, most: usize, queue: usize, wait: Duration) -> Option<Flight> {
        let (ticket, receiver) = {
            let mut shard = self.lock(client);
            let shard = &mut *shard;
            let state = shard.clients.entry(client).or_default();
            if state.flying < most && state.waiting.is_empty() {
                state.flying += 1;
                return Some(Flight::of(self.clone(), client));
            }
            if state.waiting.len() >= queue {
                return None;
            }
            let (sender, receiver) = oneshot::channel();
            shard.tickets += 1;
            state.waiting.push_back((shard.tickets, sender));
            (shard.tickets, receiver)
        };
        let in_line = InLine { flights: self.clone(), client, ticket };
        let flight = timeout(wait, receiver).await.ok().and_then(Result::ok);
        drop(in_line);
        flight
    }

    fn lock(&self, client: u64) -> MutexGuard<'_, Shard> {
        // Held for a step of a line, never while waiting; a panic in between leaves it whole.
        self.0[(client >> 32) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Flight ===

impl Flight {
    fn of(flights: Flights, client: u64) -> Flight {
        Flight { flights, client, _address: None }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let next = {
            let mut shard = self.flights.lock(self.client);
            let Some(state) = shard.clients.get_mut(&self.client) else { return };
            match state.waiting.pop_front() {
                // The place goes on to the next one.
                Some((_, sender)) => Some(sender),
                None => {
                    state.flying -= 1;
                    if state.flying == 0 {
                        shard.clients.remove(&self.client);
                    }
                    None
                }
            }
        };
        if let Some(sender) = next {
            // Where nobody waits any more, this one comes back, and is dropped here in turn.
            drop(sender.send(Flight::of(self.flights.clone(), self.client)));
        }
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut shard = self.flights.lock(self.client);
        if let Some(state) = shard.clients.get_mut(&self.client) {
            state.waiting.retain(|(ticket, _)| *ticket != self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_client_flies_as_often_as_it_may_and_others_are_not_behind_it() {
        let flights = Flights::default();
        let first = flights.fly(1, 1, 2, LONG).await.expect("a place");
        let mut second = Box::pin(flights.fly(1, 1, 2, LONG));
        let mut third = Box::pin(flights.fly(1, 1, 2, LONG));
        assert!(polled(&mut second).is_pending() && polled(&mut third).is_pending());
        assert!(flights.fly(1, 1, 2, LONG).await.is_none(), "the line is full");
        assert!(flights.fly(2, 1, 2, LONG).await.is_some(), "another client");
        drop(first);
        let second = second.await.expect("its turn");
        assert!(polled(&mut third).is_pending());
        drop(second);
        drop(third.await.expect("its turn"));
        assert!(
            flights.0.iter().all(|shard| shard.lock().expect("whole").clients.is_empty()),
            "nothing is left"
        );
    }

    #[tokio::test]
    async fn whoever_leaves_the_line_is_passed_over() {
        let flights = Flights::default();
        let first = flights.fly(1, 1, 5, LONG).await.expect("a place");
        let mut second = Box::pin(flights.fly(1, 1, 5, LONG));
        let mut third = Box::pin(flights.fly(1, 1, 5, LONG));
        assert!(polled(&mut second).is_pending() && polled(&mut third).is_pending());
        drop(second);
        drop(first);
        drop(third.await.expect("its turn"));
        // Handed over and left in the same moment: the place comes back.
        let first = flights.fly(1, 1, 5, LONG).await.expect("a place");
        let mut second = Box::pin(flights.fly(1, 1, 5, LONG));
        assert!(polled(&mut second).is_pending());
        drop(first);
        drop(second);
        assert!(
            flights.0.iter().all(|shard| shard.lock().expect("whole").clients.is_empty()),
            "nothing is left"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_in_time() {
        let flights = Flights::default();
        let _first = flights.fly(1, 1, 5, LONG).await.expect("a place");
        assert!(flights.fly(1, 1, 5, Duration::from_secs(1)).await.is_none());
    }

    #[tokio::test]
    async fn an_address_that_invents_clients_flies_its_umbrella_times_as_often_as_one_of_them() {
        let flights = Flights::default();
        let rules = Concurrency { per_client: 1, queue: 0, wait: LONG };
        let invented = |client| flights.fly_under(client, Some(100), 3, rules);
        let mut flying = Vec::new();
        for client in 0..3 {
            flying.push(invented(client).await.map_err(|_| "full").expect("a place"));
        }
        assert_eq!(invented(3).await.err(), Some(Full::Address));
        assert_eq!(invented(0).await.err(), Some(Full::Client));
        assert!(flights.fly_under(4, None, 3, rules).await.is_ok(), "whom no address answers for");
        assert!(flights.fly_under(5, Some(200), 3, rules).await.is_ok(), "another address");
        flying.pop();
        drop(invented(3).await.map_err(|_| "full").expect("the place that came back"));
        drop(flying);
        assert!(
            flights.0.iter().all(|shard| shard.lock().expect("whole").clients.is_empty()),
            "nothing is left"
        );
    }
}
