//! `wait_replicas`: what fewer replicas have than configured is not granted, leaves nothing behind, and stays given up where
//! a failover brings it back.

use super::support::{Limits, claim, id, shared};
use crate::harness::eventually;
use crate::harness::redis::{DURABLE, Server};
use oncegate::domain::client::ScopeId;
use oncegate::domain::lane::{Join, LaneId};
use oncegate::domain::ledger::Token;
use oncegate::domain::slot::{Keep, SlotId, Wanted};
use oncegate::store::{
    Address, ClaimRequest, Claimed, Held, JoinLane, Joined, LaneAbout, Layout, Options, Place, Shared, Store,
    StoreError,
};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A master with one replica, and a store that waits for it.
struct Pair {
    store: Store,
    master: Server,
    replica: Server,
    _state: TempDir,
}

/// How long a command may take; `WAIT` has half of it.
const TIMEOUT: Duration = Duration::from_secs(2);

// === impl Pair ===

impl Pair {
    async fn start() -> Pair {
        let master = Server::start(&DURABLE);
        let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", master.address.port())]);
        eventually("the replica is in step", || {
            master.cli(&["info", "replication"]).contains("state=online").then_some(())
        });
        let state = tempfile::tempdir().expect("a directory");
        let node = Address::new("127.0.0.1", master.address.port());
        let place = shared(Layout::Single, vec![node], state.path());
        let place = Place::Shared(Shared { wait_replicas: 1, timeout: TIMEOUT, ..place });
        let options = Options { secret: Some(vec![7; 32]), ..Limits::default().options(place) };
        let store = Store::open(options).expect("an empty server opens");
        let pair = Pair { store, master, replica, _state: state };
        // A replica that is online may still take a second until it confirms for the first time.
        pair.granted(claim(&pair.store, 1, 1)).await;
        pair
    }

    async fn granted(&self, request: ClaimRequest) {
        let until = Instant::now() + 10 * TIMEOUT;
        while !matches!(self.store.claim(request.clone()).await, Ok(Claimed::Granted)) {
            assert!(Instant::now() < until, "it is granted with its replica");
        }
    }

    /// The replica stands still.
    fn stop(&self) {
        let pid = Pid::from_raw(self.replica.pid().cast_signed()).expect("it runs");
        kill_process(pid, Signal::STOP).expect("a process of ours");
    }

    /// Waits until nothing is known of intent `n`.
    async fn is_forgotten(&self, n: u8, what: &str) {
        let until = Instant::now() + 10 * TIMEOUT;
        while !matches!(self.store.show(id(n)).await, Ok(None)) {
            assert!(Instant::now() < until, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[track_caller]
fn assert_short<T: std::fmt::Debug>(said: &Result<T, StoreError>) {
    let short = |error: &StoreError| error.to_string().contains("replicas");
    assert!(said.as_ref().is_err_and(short), "without its replica: {said:?}");
}

#[tokio::test]
async fn a_claim_short_of_its_replicas_leaves_no_record_and_no_place_behind() {
    let pair = Pair::start().await;
    pair.stop();
    let slot = SlotId([2; 16]);
    let place = Wanted {
        slot,
        capacity: 1,
        keep: Keep::For(TIMEOUT),
        witness: ScopeId([1; 16]),
        asleep: false,
        booking: None,
        instead_of: None,
        was_released: false,
        looks: false,
        name: "room".into(),
        label: "".into(),
        parts: [].into(),
    };
    assert_short(&pair.store.claim(ClaimRequest { slots: vec![place], ..claim(&pair.store, 2, 2) }).await);
    pair.is_forgotten(2, "what was refused is no claim").await;
    assert_eq!(pair.store.holders(slot, 9).await, Ok(Vec::new()));
    assert!(pair.store.show(id(1)).await.expect("it answers").is_some(), "nothing else is given up");
}

#[tokio::test]
async fn nothing_is_sent_before_replicas_know_that_it_is() {
    let pair = Pair::start().await;
    let store = &pair.store;
    let queued = |n: u8| {
        let mut request = claim(store, n, u128::from(n));
        request.claim.sent = false;
        request
    };
    pair.granted(queued(2)).await;
    pair.granted(queued(3)).await;
    let lane = LaneId([9; 16]);
    let join = Join { token: Token(3), owner: store.owner(), lease: 10 * TIMEOUT, queue_max: 9 };
    let about = LaneAbout { name: "lane".into(), key: "key".into() };
    let joined = store.join_lane(JoinLane { lane, join, about }).await;
    assert!(matches!(joined, Ok(Joined::Yours)), "nobody else is there");
    pair.stop();
    assert_short(&store.mark_sent(id(2), Token(2)).await);
    assert_short(&store.send_in_turn(id(3), Token(3), lane, TIMEOUT).await);
    assert_eq!(
        store.mark_sent(id(4), Token(4)).await,
        Ok(Held::No),
        "of what is not there nobody waits for anything"
    );
}

#[tokio::test]
async fn a_claim_that_was_given_up_is_given_up_again_where_a_failover_brings_it_back() {
    let mut pair = Pair::start().await;
    pair.stop();
    // What a replica would have that heard of the claim, and not of its end.
    let keep = "for _, key in ipairs(redis.call('keys', '*')) do redis.call('copy', key, 'kept:' .. key) end";
    let bring_back = "for _, key in ipairs(redis.call('keys', 'kept:*')) do redis.call('copy', key, string.sub(key, 6)) end";
    let (claimed, ()) = tokio::join!(pair.store.claim(claim(&pair.store, 2, 2)), async {
        tokio::time::sleep(TIMEOUT / 8).await;
        pair.master.cli(&["eval", keep, "0"]);
    });
    assert_short(&claimed);
    pair.is_forgotten(2, "it is given up").await;
    pair.master.cli(&["eval", bring_back, "0"]);
    assert!(pair.store.show(id(2)).await.expect("it answers").is_some(), "it is back");
    pair.master.kill();
    pair.master.run();
    pair.is_forgotten(2, "another life of the server hears again that it was given up").await;
    assert!(pair.store.show(id(1)).await.expect("it answers").is_some(), "nothing else is given up");
}
