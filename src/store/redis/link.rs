//! One thread's way to one server: a connection while there is one, and the reason while there is none.
//!
//! It is the circuit breaker too. While a first attempt to connect runs, commands wait for it within their own deadline;
//! once an attempt has failed, commands are refused at once, and attempts go on in the background with growing pauses
//! until one succeeds.

use super::node::Node;
use super::place::{Address, Shared};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// The first pause after an attempt to connect failed, and the longest one; each is shortened by up to half, at random,
/// so that a fleet does not come back in step.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Link {
    address: Address,
    state: Mutex<State>,
    changed: Notify,
}

enum State {
    /// Nobody has asked yet.
    Idle,
    /// The first attempt runs.
    Connecting,
    Up(Arc<Node>),
    /// An attempt failed, for this reason; others follow.
    Down(Arc<str>),
}

// === impl Link ===

impl Link {
    /// A way to `address` that nobody has gone yet.
    pub(super) fn new(address: Address) -> Arc<Link> {
        Arc::new(Link { address, state: Mutex::new(State::Idle), changed: Notify::new() })
    }

    /// Where it leads.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The connection; waits only while a first attempt runs.
    pub(super) async fn node(self: &Arc<Link>, place: &Arc<Shared>) -> Result<Arc<Node>, Arc<str>> {
        loop {
            // Asked for before the state is looked at, so that no change is missed.
            let changed = self.changed.notified();
            {
                let mut state = self.lock();
                match &*state {
                    State::Up(node) => return Ok(node.clone()),
                    State::Down(why) => return Err(why.clone()),
                    State::Connecting => {}
                    State::Idle => {
                        *state = State::Connecting;
                        self.start(place);
                    }
                }
            }
            changed.await;
        }
    }

    /// The connection, where there is one at this moment.
    pub(super) fn up(&self) -> Option<Arc<Node>> {
        match &*self.lock() {
            State::Up(node) => Some(node.clone()),
            _ => None,
        }
    }

    /// `node` is of no more use: a new connection is made at once.
    pub(super) fn broken(self: &Arc<Link>, node: &Arc<Node>, place: &Arc<Shared>) {
        let mut state = self.lock();
        if matches!(&*state, State::Up(current) if Arc::ptr_eq(current, node)) {
            *state = State::Connecting;
            self.start(place);
        }
    }

    /// The task that connects. It ends with the first success, or when nobody has the link any more.
    fn start(self: &Arc<Link>, place: &Arc<Shared>) {
        let (link, place, address) = (Arc::downgrade(self), place.clone(), self.address.clone());
        tokio::spawn(async move {
            let mut pause = PAUSE_FIRST;
            loop {
                let attempt = tokio::time::timeout(place.timeout * 2, Node::connect(&place, &address)).await;
                let state = match attempt {
                    Ok(Ok(node)) if node.is_master => State::Up(Arc::new(node)),
                    Ok(Ok(_)) => State::Down("it is a replica now".into()),
                    Ok(Err(error)) => State::Down(reason(&error).into()),
                    Err(_) => State::Down("it does not answer".into()),
                };
                let connected = matches!(state, State::Up(_));
                let Some(link) = Weak::upgrade(&link) else { return };
                *link.lock() = state;
                link.changed.notify_waiters();
                drop(link);
                if connected {
                    return;
                }
                tokio::time::sleep(shortened(pause)).await;
                pause = (pause * 2).min(PAUSE_LONGEST);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an error says to an operator. The library's texts name no credentials.
pub(super) fn reason(error: &redis::RedisError) -> String {
    match (error.kind(), error.detail()) {
        (redis::ErrorKind::AuthenticationFailed, _) => "it does not accept the user and password".into(),
        (_, Some(detail)) => format!("{}: {detail}", error.category()),
        _ => error.to_string(),
    }
}

/// Between half of `pause` and all of it.
fn shortened(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(byte[0]) / 512.0)
}
