//! One subscription a gateway: every end of an attempt that copies wait for, every new alias and every
//! hold that is given back is told on it.

use super::ended::When;
use super::ends::AttemptId;
use super::reply::Reply;
use super::script::Script;
use super::{HOME, Inner};
use crate::domain::client::ScopeId;
use crate::domain::ledger::{RecordId, Token};
use crate::domain::time::Millis;
use crate::store::{AttemptEnd, StoreError};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;

/// How often it is made sure that the subscription's connection still lives.
const PING: Duration = Duration::from_secs(1);

/// The pause before a subscription is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Pings until every other gateway must know of this one, and waits for it before it forwards a write.
const KNOWN_AFTER: u64 = 4;

/// How often records are looked for that have to be looked at, and how many at once.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS_MOST: usize = 64;

/// Aliases that one script reads.
const ALIASES_A_SCRIPT: usize = 1_000;

impl Inner {
    /// Listens as long as the store is open.
    pub(super) async fn hear(self: Arc<Inner>) {
        loop {
            if let Err(why) = self.listen().await {
                tracing::debug!(why, "the subscription to the store ended; records are looked at instead");
            }
            self.ends.hearing(false, self.clock.elapsed());
            self.ears.hearing(false);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn listen(self: &Arc<Inner>) -> Result<(), String> {
        let master = self.wire.map.master(HOME).ok_or("the master is not known")?;
        let node = self.wire.link(&master).node(&self.wire.place).await.map_err(|why| why.to_string())?;
        let patience = self.wire.place.timeout;
        let failed = |error: redis::RedisError| super::link::reason(&error);
        let silent = |_| "it does not answer".to_owned();
        let subscription = tokio::time::timeout(patience, node.subscription()).await.map_err(silent)?;
        let (mut ask, mut messages) = subscription.map_err(failed)?.split();
        let subscribed = ask.subscribe(self.wire.parts.channel());
        tokio::time::timeout(patience, subscribed).await.map_err(silent)?.map_err(failed)?;
        // Read after the subscription has begun, so that none falls in between.
        self.read_aliases().await.map_err(|error| error.to_string())?;
        self.read_freed().await.map_err(|error| error.to_string())?;
        self.ends.hearing(true, self.clock.elapsed());
        let mut pings = tokio::time::interval(PING);
        let mut rounds = 0_u64;
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.heard(message.get_payload_bytes()),
                    None => return Err("the connection was closed".into()),
                },
                _ = pings.tick() => {
                    rounds += 1;
                    if rounds == KNOWN_AFTER {
                        self.ears.hearing(true);
                    }
                    let pinged = tokio::time::timeout(patience, ask.ping::<redis::Value>()).await;
                    pinged.map_err(silent)?.map_err(failed)?;
                    if self.wire.map.master(HOME).as_ref() != Some(&master) {
                        return Err("another server is the master now".into());
                    }
                }
            }
        }
    }

    /// A message: what `publish` and its like in the scripts send. One of another version is passed over.
    fn heard(self: &Arc<Inner>, message: &[u8]) {
        let Some((kind, rest)) = message.split_first() else { return };
        match kind {
            b'l' => return self.heard_alias(rest),
            b't' => return self.heard_turn(rest),
            b'r' => return self.heard_write(rest),
            b'k' => return self.heard_confirmation(rest),
            b'f' => return self.heard_freed(rest),
            _ => {}
        }
        // All others are about an attempt.
        let Some((id, rest)) = rest.split_first_chunk::<32>() else { return };
        let Some((token, rest)) = rest.split_first_chunk::<16>() else { return };
        let attempt = (RecordId(*id), Token(u128::from_be_bytes(*token)));
        let end = match kind {
            b'e' => return self.heard_ended(attempt, rest, When::Over),
            b'm' => return self.heard_ended(attempt, rest, When::InFlight),
            b'a' => super::stored::decode(rest.to_vec()).map(AttemptEnd::Answered),
            b'n' => Some(AttemptEnd::NotExecuted),
            b'x' => in_doubt(rest),
            _ => None,
        };
        if self.ends.ended(attempt, end) {
            tokio::spawn(self.clone().look_at(attempt));
        }
    }

    /// An attempt counts no longer, although it would have until the instant that `until` says.
    fn heard_ended(&self, attempt: AttemptId, until: &[u8], when: When) {
        if when == When::Over {
            self.recall.forget(attempt.0, attempt.1);
        }
        if let Some(until) = std::str::from_utf8(until).ok().and_then(|until| until.parse().ok()) {
            self.recall.ended.record(attempt, when, Millis(until), self.clock.now());
        }
    }

    fn heard_alias(&self, rest: &[u8]) {
        let Some((from, rest)) = rest.split_first_chunk::<16>() else { return };
        let Some((to, until)) = rest.split_first_chunk::<16>() else { return };
        if let Some(until) = std::str::from_utf8(until).ok().and_then(|until| until.parse().ok()) {
            self.aliases.add(ScopeId(*from), ScopeId(*to), Millis(until));
        }
    }

    async fn read_aliases(&self) -> Result<(), StoreError> {
        let mut at = 0;
        loop {
            let mut told = Reply::array(self.run(self.about(Script::Aliases, HOME).arg(at)).await?)?;
            self.clock.heard(Millis(told.number()?));
            let mut count = 0;
            while let Some(entry) = told.maybe_bytes()? {
                let until = Millis(told.number()?);
                count += 1;
                if let Ok(entry) = <[u8; 32]>::try_from(&entry[..]) {
                    let (mut from, mut to) = ([0; 16], [0; 16]);
                    from.copy_from_slice(&entry[..16]);
                    to.copy_from_slice(&entry[16..]);
                    self.aliases.add(ScopeId(from), ScopeId(to), until);
                }
            }
            if count < ALIASES_A_SCRIPT {
                return Ok(());
            }
            at += count;
        }
    }

    /// The safety net: looks at records whose lease has ended, or about which no message came.
    pub(super) async fn watch(self: Arc<Inner>) {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            self.watch_lanes(LOOKS_MOST).await;
            if self.ends.is_idle() {
                continue;
            }
            let due = self.ends.due(self.clock.elapsed(), LOOKS_MOST);
            futures_util::future::join_all(due.into_iter().map(|attempt| self.clone().look_at(attempt)))
                .await;
        }
    }

    async fn look_at(self: Arc<Inner>, attempt: AttemptId) {
        match self.look(attempt.0, attempt.1).await {
            Ok(Ok(end)) => self.ends.ended_here(attempt, end),
            Ok(Err(lease)) => self.ends.still(attempt, lease, self.clock.elapsed()),
            // It is looked at again.
            Err(_) => {}
        }
    }
}

/// `since until why`.
fn in_doubt(text: &[u8]) -> Option<AttemptEnd> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let mut instant = || Some(Millis(words.next()?.parse().ok()?));
    let (since, until) = (instant()?, instant()?);
    let why = super::commands::doubt(words.next()?.as_bytes());
    Some(AttemptEnd::InDoubt { since, until, why })
}
