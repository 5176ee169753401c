//! Places of connections: so many in all, so many of one address. Behind a place that is not free the kernel's queue
//! waits; an address that has all of its own is turned away at once, so that it takes nobody else's.

use super::identity::is_within;
use crate::config::Config;
use crate::domain::client::counted_address;
use crate::journal::Journal;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places of a gateway.
#[derive(Clone)]
pub struct Places {
    all: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    journal: Arc<Journal>,
}

/// Who has how many. No larger than the number of places in all.
struct Addresses {
    /// 0: as many as they like.
    most: usize,
    /// They ask for others, so they are not counted.
    trusted: Vec<IpNet>,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place of some connection; given up when dropped.
pub struct Place {
    _all: OwnedSemaphorePermit,
    address: Option<(Arc<Addresses>, IpAddr)>,
}

// === impl Places ===

impl Places {
    /// As many as the configuration has.
    pub fn new(config: &Config, journal: Arc<Journal>) -> Places {
        let server = &config.server;
        let addresses = Addresses {
            most: server.connections_per_address,
            trusted: config.clients.trusted_proxies.clone(),
            taken: Mutex::default(),
        };
        Places {
            all: Arc::new(Semaphore::new(server.connections_max)),
            addresses: Arc::new(addresses),
            journal,
        }
    }

    /// Waits for a place among all of them. `None`: there will be none any more.
    pub async fn any(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    /// That place for a connection of `peer`; `None` where its address has as many as it may.
    pub fn of(&self, all: OwnedSemaphorePermit, peer: IpAddr) -> Option<Place> {
        let addresses = &self.addresses;
        if addresses.most == 0 || is_within(&addresses.trusted, peer.to_canonical()) {
            return Some(Place { _all: all, address: None });
        }
        let address = counted_address(peer);
        if !addresses.take(address) {
            self.journal.metrics().connections_refused.fetch_add(1, Relaxed);
            return None;
        }
        Some(Place { _all: all, address: Some((addresses.clone(), address)) })
    }
}

// === impl Addresses ===

impl Addresses {
    fn take(&self, address: IpAddr) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_insert(0);
        let free = *count < self.most;
        *count += usize::from(free);
        free
    }

    fn give_up(&self, address: IpAddr) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((addresses, address)) = self.address.take() {
            addresses.give_up(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_gives_them_back() {
        let addresses = Arc::new(Addresses { most: 2, trusted: Vec::new(), taken: Mutex::default() });
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert!(addresses.take(one) && addresses.take(one) && !addresses.take(one));
        assert!(addresses.take(other), "nobody else's are taken");
        addresses.give_up(one);
        assert!(addresses.take(one));
        for _ in 0..2 {
            addresses.give_up(one);
        }
        addresses.give_up(other);
        assert!(addresses.taken.lock().expect("nobody panicked").is_empty());
    }
}
