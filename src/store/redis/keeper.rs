//! The keeper: a thread of its own that looks after the store every second, and at once when somebody doubts. It finds
//! the masters, makes sure that nothing was forgotten before claims are granted, says again what this gateway knows where
//! something was, counts, and says how the store is.

use super::health::Health;
use super::identity::Identity;
use super::node::Node;
use super::part::Part;
use super::place::{Address, Layout};
use super::recall::{End, Remembered};
use super::reply::{self, Reply};
use super::script::{Call, Script};
use super::settings::Settings;
use super::slots::HOLDS_A_SCRIPT;
use super::{Inner, stored};
use crate::domain::hex;
use crate::domain::time::Millis;
use crate::store::{OpenError, StoreError};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// How often the store is looked after where nothing happens.
const ROUND: Duration = Duration::from_secs(1);

/// The least time between two rounds that doubts bring about.
const ROUND_LEAST: Duration = Duration::from_millis(30);

/// How long gateways wait for each other, after the store forgot something, before they go on without the missing ones:
/// longer than a living one may need to find the server again.
const OTHERS: Duration = Duration::from_secs(10);

/// How often one round says again what this gateway knows of a part, before it leaves the rest to the next one.
const SAID_AT_MOST: u32 = 3;

/// So often, in milliseconds, a gateway tells that it is still saying what it knows; `enter.lua` believes it for 3 s.
const SPEAKS_EVERY: u64 = 1000;

/// Records that are said again at once.
const RESTORED_AT_ONCE: usize = 128;

/// What the keeper alone knows.
pub(super) struct Keeper {
    inner: Arc<Inner>,
    identity: Identity,
    /// By part, the latest instant that this gateway wrote there.
    latest: HashMap<u8, u64>,
    /// By part, the agreement for which this gateway has said again all that it knows.
    said: HashMap<Part, Vec<u8>>,
    /// The other gateways that were there in the last good round.
    others: BTreeSet<Vec<u8>>,
    /// Lives of servers whose settings were looked at.
    looked_at: BTreeSet<String>,
    /// Told once, when the store is open or must not be.
    opened: Option<SyncSender<Result<(), OpenError>>>,
}

/// What one round found.
enum Found {
    Good,
    /// Guarded writes are refused for now.
    Bad(String),
    /// The store must not be used at all.
    Unfit(String),
}

// === impl Keeper ===

impl Keeper {
    /// A keeper that tells `opened` how its first good round went.
    pub(super) fn new(
        inner: Arc<Inner>,
        identity: Identity,
        opened: SyncSender<Result<(), OpenError>>,
    ) -> Keeper {
        let (latest, said) = (HashMap::new(), HashMap::new());
        let (others, looked_at) = (BTreeSet::new(), BTreeSet::new());
        Keeper { inner, identity, latest, said, others, looked_at, opened: Some(opened) }
    }

    /// Runs until the store closes.
    pub(super) async fn keep(mut self) {
        loop {
            let found = self.round().await;
            let health: &Health = &self.inner.health;
            match found {
                Found::Good => {
                    health.good();
                    self.tell(Ok(()));
                }
                Found::Bad(why) => health.bad(&why),
                Found::Unfit(why) => {
                    health.bad(&why);
                    let store = self.inner.wire.place.to_string();
                    self.tell(Err(OpenError::Unfit { store, why }));
                }
            }
            tokio::time::sleep(ROUND_LEAST).await;
            // Whoever doubts meanwhile is heard: the notification is kept.
            let _ = tokio::time::timeout(ROUND, self.inner.wire.doubtful.notified()).await;
        }
    }

    fn tell(&mut self, opened: Result<(), OpenError>) {
        if let Some(tell) = self.opened.take() {
            // Who opened it may have gone on without.
            let _ = tell.try_send(opened);
        }
    }

    async fn round(&mut self) -> Found {
        let wire = &self.inner.wire;
        if wire.place.layout != Layout::Single
            && let Err(why) = wire.map.ask(&wire.place, &wire.parts).await
        {
            // Those who know are away; what is known may still hold.
            if wire.map.all().iter().any(Option::is_none) {
                return Found::Bad(why);
            }
            tracing::debug!(why, "who is the master could not be asked");
        }
        let masters: BTreeSet<Address> = wire.map.all().iter().flatten().cloned().collect();
        let (mut used, mut most) = (0, 0);
        for address in &masters {
            match self.look_at(address).await {
                Ok((used_here, most_here))
                    if most_here > 0 && used_here * most.max(1) >= used * most_here =>
                {
                    // The fullest server counts.
                    (used, most) = (used_here, most_here);
                }
                Ok((used_here, _)) if most == 0 => used = used.max(used_here),
                Ok(_) => {}
                Err(found) => return found,
            }
        }
        self.inner.health.memory(used, most);
        let parts: Vec<Part> = self.inner.wire.parts.all().collect();
        for part in parts {
            match self.enter(part).await {
                Ok(Found::Good) => {}
                Ok(found) => return found,
                Err(error) => return Found::Bad(said(error)),
            }
        }
        if let Err(error) = self.settle_earlier_lives().await {
            return Found::Bad(said(error));
        }
        if let Err(error) = self.inner.tell_doubts().await {
            tracing::debug!(%error, "what is in doubt could not be asked for; it is told later");
        }
        self.inner.aliases.expire(self.inner.clock.now());
        Found::Good
    }

    /// Looks at one server: its memory, and the first time in each of its lives at its settings.
    async fn look_at(&mut self, address: &Address) -> Result<(u64, u64), Found> {
        let (node, settings) = match self.settings_of(address).await {
            Ok(read) => read,
            Err(why) => return Err(Found::Bad(format!("{address}: {why}"))),
        };
        if self.looked_at.insert(format!("{address} {}", node.life)) {
            for finding in settings.findings(&self.inner.wire.place, address) {
                if finding.fatal {
                    self.looked_at.clear();
                    return Err(Found::Unfit(finding.text));
                }
                tracing::warn!("the store: {}", finding.text);
            }
        }
        Ok(settings.memory())
    }

    async fn settings_of(&self, address: &Address) -> Result<(Arc<Node>, Settings), String> {
        let wire = &self.inner.wire;
        let link = wire.link(address);
        let patience = wire.place.timeout * 2;
        let node = tokio::time::timeout(patience, link.node(&wire.place)).await;
        let node = node.map_err(|_| "it does not answer")?.map_err(|why| why.to_string())?;
        match tokio::time::timeout(wire.place.timeout, Settings::read(&node)).await {
            Ok(Ok(settings)) => Ok((node, settings)),
            Ok(Err(error)) => {
                if error.code().is_none() {
                    link.broken(&node, &wire.place);
                }
                Err(super::link::reason(&error))
            }
            Err(_) => {
                link.broken(&node, &wire.place);
                Err("it does not answer".into())
            }
        }
    }

    /// Says that this gateway is there, and where the store has forgotten something, says again what it knows.
    async fn enter(&mut self, part: Part) -> Result<Found, StoreError> {
        for _ in 0..SAID_AT_MOST {
            let (life, call) = self.entering(part)?;
            let mut told = Reply::array(self.inner.run(call).await?)?;
            let (what, now, agreement) = (told.bytes()?, told.number()?, told.bytes()?);
            self.inner.clock.heard(Millis(now));
            match &what[..] {
                b"go" => {
                    self.inner.wire.agreements.enter(part, &life, &agreement);
                    self.latest.insert(part.0, now);
                    if part == super::HOME {
                        self.others = told.filter_map(|other| reply::bytes(other).ok()).collect();
                        self.inner.limits.counted(1 + self.others.len());
                        self.inner
                            .confirmations
                            .set_others(self.others.iter().filter_map(|other| owner_of(other)).collect());
                    }
                    return Ok(Found::Good);
                }
                b"again" => {
                    self.say_again(part, Millis(now)).await?;
                    self.said.insert(part, agreement);
                }
                b"secret" => {
                    return Ok(Found::Unfit(
                        "its records were made with another `store.secret`, so none of them would be found; configure the \
                         secret of the other gateways, or another `store.prefix`"
                            .into(),
                    ));
                }
                _ => break,
            }
        }
        // Others are still at it; looked at again at once.
        self.inner.wire.doubtful.notify_one();
        Ok(Found::Bad("it began another life; waiting for the other gateways to say what they know".into()))
    }

    /// The life of the part's master, and the call that enters there.
    fn entering(&self, part: Part) -> Result<(Arc<str>, Call), StoreError> {
        let wire = &self.inner.wire;
        let node = wire.map.master(part).and_then(|address| wire.link(&address).up());
        let node = node.ok_or_else(|| StoreError::Unavailable("its master is not connected".into()))?;
        let mut call = self
            .inner
            .about(Script::Enter, part)
            .arg(&self.inner.secret_id[..])
            .arg(&hex::digits(self.inner.owner)[..])
            .arg(&*node.life)
            .arg(self.said.get(&part).map_or(&[][..], Vec::as_slice))
            .arg(self.latest.get(&part.0).copied().unwrap_or(0))
            .millis(OTHERS);
        for other in &self.others {
            call = call.arg(&other[..]);
        }
        Ok((node.life.clone(), call))
    }

    /// Says again what this gateway knows of a part's records, and what has ended of them.
    async fn say_again(&self, part: Part, now: Millis) -> Result<(), StoreError> {
        let mut known = self.inner.recall.all(now);
        known.retain(|record| self.inner.wire.parts.of(&record.request.id) == part);
        let mut told_at = self.inner.clock.elapsed();
        // First, so that nothing of it comes back.
        let (calls, ended) = self.inner.saying_ended(part, now);
        for call in calls {
            self.tell_still_saying(part, &mut told_at).await?;
            self.inner.run(call).await?;
        }
        for some in known.chunks(RESTORED_AT_ONCE) {
            self.tell_still_saying(part, &mut told_at).await?;
            let calls = some.iter().map(|record| self.inner.run(self.restoring(record)));
            for told in futures_util::future::join_all(calls).await {
                if reply::bytes(told?)? == b"other" {
                    tracing::error!(
                        "the store granted a claim a second time while it had forgotten the first"
                    );
                }
            }
        }
        // After the records by which they live.
        let mut holds = 0;
        if part == self.inner.wire.parts.of_bearing() {
            for some in self.inner.recall.turns.all(now).chunks(RESTORED_AT_ONCE) {
                self.tell_still_saying(part, &mut told_at).await?;
                self.inner.say_turns_again(some).await?;
            }
            for some in self.inner.recall.holds.all(now).chunks(HOLDS_A_SCRIPT) {
                self.tell_still_saying(part, &mut told_at).await?;
                holds += self.inner.say_holds_again(some).await?;
            }
        }
        if !known.is_empty() || holds > 0 || ended > 0 {
            tracing::warn!(
                part = part.0,
                records = known.len(),
                holds,
                ended,
                "the store began another life or forgot something; what this gateway knows was said again"
            );
        }
        Ok(())
    }

    /// The others wait for this gateway as long as they hear that it is still saying what it knows.
    async fn tell_still_saying(&self, part: Part, told_at: &mut u64) -> Result<(), StoreError> {
        let at = self.inner.clock.elapsed();
        if at.saturating_sub(*told_at) > SPEAKS_EVERY {
            *told_at = at;
            self.inner.run(self.entering(part)?.1).await?;
        }
        Ok(())
    }

    fn restoring(&self, record: &Remembered) -> Call {
        let Remembered { request, claimed_at, end, .. } = record;
        let claim = &request.claim;
        let how = match end {
            End::Sent => "sent",
            End::Done(_) => "done",
            End::Abandoned => "abandoned",
        };
        let call = self
            .inner
            .on(Script::Restore, &request.id)
            .arg(how)
            .arg(&claim.token.0.to_be_bytes())
            .arg(&hex::digits(claim.owner.0)[..])
            .arg(&claim.fingerprint.0)
            .arg(u8::from(claim.keyed))
            .arg(&claim.policy.0.to_be_bytes())
            .arg(&claim.scope.0)
            .arg(&claim.target.0)
            .millis(claim.lease)
            .millis(claim.in_doubt_for)
            .arg(&*request.about.route)
            .arg(&request.about.request)
            .arg(&request.about.request_id)
            .arg(claimed_at.0);
        match end {
            End::Done(kept) => call
                .on_bodies(true)
                .arg(kept.done_at.0)
                .arg(kept.until.0)
                .arg(kept.answer.status().as_u16())
                .arg(stored::encode(&kept.answer))
                .arg(kept.names.as_ref().map_or(&[][..], |names| &names.0)),
            End::Sent | End::Abandoned => call.arg(0).arg(0).arg(0).arg("").arg(""),
        }
        .arg(request.slots.iter().flat_map(|wanted| wanted.slot.0).collect::<Vec<u8>>())
    }

    /// What earlier lives of this gateway had in flight is in doubt: their process is gone, or this one would not have
    /// its directory.
    async fn settle_earlier_lives(&mut self) -> Result<(), StoreError> {
        if self.identity.before.is_empty() {
            return Ok(());
        }
        let mut gone = 0;
        for life in self.identity.before.clone() {
            for part in self.inner.wire.parts.all() {
                gone += reply::number(
                    &self.inner.run(self.inner.about(Script::Dead, part).arg(&hex::digits(life)[..])).await?,
                )?;
            }
        }
        if gone > 0 {
            tracing::warn!(
                records = gone,
                "writes that an earlier life of this gateway had in flight are in doubt"
            );
        }
        self.identity.settled().map_err(|error| StoreError::Unavailable(error.to_string()))
    }
}

/// The other way round: [`owner`].
fn owner_of(name: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(name).ok()?, 16).ok()
}

fn said(error: StoreError) -> String {
    match error {
        StoreError::Full(why) | StoreError::Unavailable(why) => why,
    }
}
