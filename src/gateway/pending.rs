//! A claim that nobody carries out. Where its client leaves, or the store's answer is lost, nothing was sent under it: it is
//! given up, so that a waiting copy takes its place and nothing that it reserved stays taken.

use super::clock;
use super::exchange::Exchange;
use super::worker::Shared;
use crate::domain::ledger::{RecordId, Token};
use crate::store::Held;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The first pause before a claim is given up again that the store did not answer, and the longest one.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MOST: Duration = Duration::from_secs(5);

/// How long that is tried. After it the claim's record is in doubt.
const AGAIN_FOR: Duration = Duration::from_secs(3600);

/// How many may be tried at once; the others are given up once.
const GIVING_UP_MOST: usize = 1024;

/// Gives its claim up when it is dropped, unless the claim was answered.
pub struct Pending<'a> {
    exchange: &'a Exchange,
    id: RecordId,
    token: Token,
    armed: bool,
}

// === impl Pending ===

impl<'a> Pending<'a> {
    /// A claim that is about to be sent.
    pub fn new(exchange: &'a Exchange, id: RecordId, token: Token) -> Pending<'a> {
        Pending { exchange, id, token, armed: true }
    }

    /// What became of it is known.
    pub fn answered(mut self) {
        self.armed = false;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.armed {
            let (shared, id, token) = (self.exchange.worker.shared.clone(), self.id, self.token);
            tokio::task::spawn_local(give_up(shared, id, token));
        }
    }
}

async fn give_up(shared: Arc<Shared>, id: RecordId, token: Token) {
    let until = match shared.giving_up.fetch_add(1, Relaxed) < GIVING_UP_MOST {
        true => clock::now() + AGAIN_FOR,
        false => clock::now(),
    };
    let (mut pause, mut looked) = (AGAIN, false);
    loop {
        match shared.store.abandon(id, token, None).await {
            // Not granted, or the claim has still to arrive, on a connection that was given up: looked at once more.
            Ok(Held::No) if !looked => looked = true,
            Ok(_) => break,
            Err(_) => {}
        }
        if clock::now() >= until {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MOST);
    }
    shared.giving_up.fetch_sub(1, Relaxed);
}
