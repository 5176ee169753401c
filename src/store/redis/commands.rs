//! The store's commands, each as the one script that carries it out.

use super::held::{ending, read_taken};
use super::packed::Packed;
use super::reply::{self, Reply};
use super::script::{Call, Script, millis};
use super::usual::Usual;
use super::{Inner, stored};
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::hex;
use crate::domain::lane::LaneId;
use crate::domain::ledger::{Doubt, RecordId, Token};
use crate::domain::says::Says;
use crate::domain::slot::End;
use crate::domain::time::Millis;
use crate::store::{
    AttemptEnd, ClaimRequest, Claimed, EndIntents, Held, Settle, Settled, Sighting, StoreError,
};
use redis::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// From this size on an answer goes over the connection for bodies.
pub(super) const LARGE: usize = 8 << 10;

/// What the operator sees of a record takes at most so many bytes.
const ABOUT_MAX: usize = 256;

impl Inner {
    /// See [`Store::remembered`](crate::store::Store::remembered).
    pub(in crate::store) fn remembered(&self, copy: &ClaimRequest) -> Option<Answer> {
        self.recall.answer_of(copy, || self.clock.both())
    }

    /// See [`Store::claim`](crate::store::Store::claim).
    pub(in crate::store) async fn claim(
        self: &Arc<Inner>,
        mut request: ClaimRequest,
    ) -> Result<Claimed, StoreError> {
        if let Some(answer) = self.remembered(&request) {
            return Ok(Claimed::Done(answer));
        }
        self.health.admits_claims()?;
        // Of any length as it came, and remembered for as long as the record.
        request.about.shorten_request(ABOUT_MAX / 2);
        let ClaimRequest { id, claim, quota, about, slots, above } = &request;
        let room = |text: &str, most: usize| text.floor_char_boundary(most.min(text.len()));
        let request_id = &about.request_id[..room(&about.request_id, ABOUT_MAX / 4)];
        let route = &about.route[..room(&about.route, ABOUT_MAX / 4)];
        let packed = Packed::new()
            .number(millis(claim.lease))
            .number(millis(claim.in_doubt_for))
            .fixed(&quota.to_be_bytes())
            .number(self.records_max as u64)
            .byte(u8::from(claim.sent))
            .text(&claim.token.0.to_be_bytes())
            .text(&hex::digits(claim.owner.0))
            .text(&claim.fingerprint.0)
            .truth(claim.keyed)
            .text(&claim.policy.0.to_be_bytes())
            .text(&claim.scope.0)
            .text(&claim.target.0)
            .text(route.as_bytes())
            .text(about.request.as_bytes())
            .text(request_id.as_bytes());
        let above: Vec<&[u8]> =
            above.iter().flat_map(|above| above.iter()).map(|target| &target.0[..]).collect();
        let told = match slots.is_empty() {
            true => self.run_usual(id, Usual::claim(&self.wire.parts, id, packed.bytes(), &above)).await?,
            false => Value::Nil,
        };
        let call = || {
            let call = self.on(Script::Claim, id).joined(&[packed.bytes()]).joined(&above);
            slots.iter().fold(call, Call::wanted).under_agreement()
        };
        let told = if told == Value::Nil { Box::pin(self.run(call())).await? } else { told };
        let mut told = match told {
            Value::Int(now) => {
                let now = Millis(u64::try_from(now).unwrap_or(0));
                self.clock.heard(now);
                let (id, token) = (*id, claim.token);
                self.recall.claimed(request, now);
                self.replicated(id, token).await?;
                return Ok(Claimed::Granted);
            }
            Value::BulkString(kept) => {
                return match stored::decode(kept) {
                    Some(answer) => Ok(self.said(&request, answer)),
                    None => self.damaged(*id).await.map(Claimed::Done),
                };
            }
            told => Reply::array(told)?,
        };
        match &told.bytes()?[..] {
            b"flight" => {
                let token = Token(u128::from_be_bytes(told.exactly()?));
                let (lease, ended) = (told.number()?, told.number()? == 1);
                Ok(Claimed::InFlight(self.ends.wait((*id, token), lease, ended, self.clock.elapsed())))
            }
            b"done" => Ok(Claimed::Done(kept_or_tombstone(told.number()?, None))),
            b"large" => {
                let status = told.number()?;
                let answer = kept_or_tombstone(status, self.fetch(id).await?);
                Ok(self.said(&request, answer))
            }
            b"other" => Ok(Claimed::OtherMeaning),
            b"doubt" => {
                let token = Token(u128::from_be_bytes(told.exactly()?));
                let (since, until) = (Millis(told.number()?), Millis(told.number()?));
                Ok(Claimed::InDoubt { token, since, until, why: doubt(&told.bytes()?) })
            }
            b"quota" => Ok(Claimed::OverQuota),
            b"changed" => Ok(Claimed::SlotChanged),
            b"taken" => {
                let at = usize::try_from(told.number()?).unwrap_or(usize::MAX);
                let wanted = slots.get(at).ok_or_else(other_version)?;
                read_taken(&mut told, wanted).map(Claimed::SlotTaken)
            }
            b"places" => Err(StoreError::Full(format!("it holds {} places, its limit", self.records_max))),
            b"full" => Err(StoreError::Full(format!("it holds {} records, its limit", self.records_max))),
            b"amnesia" => {
                self.wire.doubtful.notify_one();
                Err(amnesia())
            }
            _ => Err(other_version()),
        }
    }

    /// See [`Store::mark_sent`](crate::store::Store::mark_sent).
    pub(in crate::store) async fn mark_sent(
        self: &Arc<Inner>,
        id: RecordId,
        token: Token,
    ) -> Result<Held, StoreError> {
        let held = held(&self.run(self.on(Script::MarkSent, &id).arg(&token.0.to_be_bytes())).await?)?;
        if held == Held::Yes {
            self.replicated(id, token).await?;
        }
        Ok(held)
    }

    /// See [`Store::renew`](crate::store::Store::renew).
    pub(in crate::store) async fn renew(
        &self,
        id: RecordId,
        token: Token,
        lease: Duration,
    ) -> Result<Held, StoreError> {
        let call = self.on(Script::Renew, &id).arg(&token.0.to_be_bytes()).millis(lease);
        self.held_if_known(&self.run(call.under_agreement()).await?)
    }

    /// See [`Store::abandon`](crate::store::Store::abandon).
    pub(in crate::store) async fn abandon(
        &self,
        id: RecordId,
        token: Token,
        answer: Option<Answer>,
    ) -> Result<Held, StoreError> {
        let whole = answer.as_ref().map(stored::encode).unwrap_or_default();
        let call = self.on(Script::Abandon, &id).on_bodies(whole.len() > LARGE);
        let told = self.run(call.arg(&token.0.to_be_bytes()).arg(&whole[..])).await;
        let held = match told {
            Ok(value) => held(&value)?,
            Err(error) => {
                // It may come back after a failover: then it is given up once more.
                self.recall.abandoned(id, token);
                return Err(error);
            }
        };
        self.recall.not_executed(id, token);
        if held == Held::Yes {
            self.ends.ended_here((id, token), answer.map_or(AttemptEnd::NotExecuted, AttemptEnd::Answered));
        }
        Ok(held)
    }

    /// See [`Store::doubt`](crate::store::Store::doubt).
    pub(in crate::store) async fn doubt(
        &self,
        id: RecordId,
        token: Token,
        why: Doubt,
    ) -> Result<Held, StoreError> {
        self.recall.holds.doubted(token, self.clock.now());
        held(&self.run(self.on(Script::Doubt, &id).arg(&token.0.to_be_bytes()).arg(word(why))).await?)
    }

    /// See [`Store::end_intents`](crate::store::Store::end_intents).
    pub(in crate::store) async fn end_intents(&self, ends: EndIntents) -> Result<usize, StoreError> {
        self.end_everywhere(&ends).await
    }

    /// A script has ended these where it ran, at `at`. A single server is all there is; a cluster's parts are told apart.
    pub(super) async fn ended_at(&self, ends: &EndIntents, at: Millis) -> Result<(), StoreError> {
        if self.wire.parts.are_several() {
            return self.end_everywhere(ends).await.map(drop);
        }
        self.recall.ended.intents(super::HOME, ends, at);
        Ok(())
    }

    /// One script for each part: which one holds the records of a target, nobody knows.
    pub(super) async fn end_everywhere(&self, ends: &EndIntents) -> Result<usize, StoreError> {
        let calls = self.wire.parts.all().map(|part| async move {
            let mut told = Reply::array(self.run(self.about(Script::End, part).once().ends(ends)).await?)?;
            let (changed, at) = (told.number()?, Millis(told.number()?));
            self.recall.ended.intents(part, ends, at);
            Ok(changed)
        });
        let mut changed = 0;
        for told in futures_util::future::join_all(calls).await {
            changed += told?;
        }
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// See [`Store::alias`](crate::store::Store::alias).
    pub(in crate::store) async fn alias(
        &self,
        from: ScopeId,
        to: ScopeId,
        keep: Duration,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let to = self.aliases.resolve(to, || now);
        let lasts = self.aliases.lasts(from, to, now.after(keep));
        if lasts || !self.has_live(&to).await? {
            return Ok(());
        }
        // The script sees what is in its own part, which on one server is everything.
        if self.wire.parts.are_several() && self.has_live(&from).await? {
            return Ok(());
        }
        let call = Call::of(&self.wire.parts, Script::Alias, super::HOME, self.wire.place.timeout);
        let mut told = Reply::array(self.run(call.arg(&from.0).arg(&to.0).millis(keep)).await?)?;
        let (to, until) = (ScopeId(told.exactly()?), told.number()?);
        if until > 0 {
            self.aliases.add(from, to, Millis(until));
        }
        Ok(())
    }

    /// Whether a scope has a record, wherever they may be: those of routes with a lane or with slots are beside the others.
    async fn has_live(&self, scope: &ScopeId) -> Result<bool, StoreError> {
        let parts = &self.wire.parts;
        for part in BTreeSet::from([parts.of_scope(scope), parts.of_bearing()]) {
            if reply::number(&self.run(self.about(Script::Live, part).arg(&scope.0)).await?)? == 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// See [`Store::settle`](crate::store::Store::settle).
    pub(in crate::store) async fn settle(&self, id: RecordId, how: Settle) -> Result<Settled, StoreError> {
        let call = self.on(Script::Settle, &id).once();
        // A cluster is told apart what may be in other parts.
        let here = !self.wire.parts.are_several();
        let call = match &how {
            Settle::Executed { answer, keep, follows } => {
                let whole = stored::encode(answer);
                let call = call.on_bodies(whole.len() > LARGE).arg("executed").arg(&whole[..]);
                let end = End::of(Says::of(answer.status()));
                let call =
                    call.arg(answer.status().as_u16()).millis(*keep).arg(ending(end, follows.as_ref()));
                follows.iter().fold(call, |call, follows| call.follows(follows, here))
            }
            Settle::NotExecuted => call.arg("not-executed"),
            Settle::Delete => call.arg("delete"),
        };
        let mut told = self.known(Reply::array(self.run(call.under_agreement()).await?)?)?;
        match &told.bytes()?[..] {
            b"yes" => {
                // What was executed is worth saying after a loss, if only that nobody knows its answer.
                if !matches!(how, Settle::Executed { .. }) {
                    self.recall.settled(id);
                }
                let (token, lane) = (told.bytes()?, told.bytes()?);
                if let Ok(token) = <[u8; 16]>::try_from(&token[..]) {
                    let token = Token(u128::from_be_bytes(token));
                    self.recall.holds.resolved(token, &how, self.clock.now());
                    self.give_turn_on(&lane, token).await;
                }
                if let Settle::Executed { follows: Some(follows), .. } = &how
                    && told.number()? == 1
                    && let Some((parents, subtree_for)) = &follows.ends
                {
                    let (scope, by) = (ScopeId(told.exactly()?), Some(Fingerprint(told.exactly()?)));
                    let (target, parents, subtree_for) = (follows.target, parents.clone(), *subtree_for);
                    let ends = EndIntents { target, parents, scope, by, subtree_for };
                    self.ended_at(&ends, Millis(told.number()?)).await?;
                }
                Ok(Settled::Yes)
            }
            b"no" => Ok(Settled::NotInDoubt),
            _ => {
                // Deleted elsewhere, and not heard of here.
                self.recall.settled(id);
                Ok(Settled::NotFound)
            }
        }
    }

    /// See [`Store::proven_absent`](crate::store::Store::proven_absent).
    pub(in crate::store) async fn proven_absent(
        &self,
        id: RecordId,
        token: Token,
    ) -> Result<Held, StoreError> {
        let call = self.on(Script::Settle, &id).arg("absent").arg(&token.0.to_be_bytes());
        let mut told = self.known(Reply::array(self.run(call.under_agreement()).await?)?)?;
        if told.bytes()? != b"yes" {
            return Ok(Held::No);
        }
        self.recall.settled(id);
        self.recall.holds.gone(token);
        told.next();
        self.give_turn_on(&told.bytes()?, token).await;
        Ok(Held::Yes)
    }

    /// See [`Store::sighted`](crate::store::Store::sighted).
    pub(in crate::store) async fn sighted(&self, sighting: Sighting) -> Result<Option<String>, StoreError> {
        let Sighting { key, mut request_id, window } = sighting;
        // It tells and never decides: where memory is scarce, it is what goes first.
        if self.health.is_tight() {
            return Ok(None);
        }
        request_id.truncate(request_id.floor_char_boundary(ABOUT_MAX / 2));
        let call = self.about(Script::Sighted, self.wire.parts.spread_by(key.0[0]));
        let call = call.arg(&key.0).arg(request_id).millis(window.max(Duration::from_millis(1)));
        let first = Reply::array(self.run(call).await?)?.maybe_bytes()?;
        Ok(first.map(|first| String::from_utf8_lossy(&first).into_owned()))
    }

    /// What a script says of a record, unless the store may have forgotten the record and not been told of it again.
    pub(super) fn known(&self, told: Reply) -> Result<Reply, StoreError> {
        if told.is_empty() {
            self.wire.doubtful.notify_one();
            return Err(amnesia());
        }
        Ok(told)
    }

    /// 1 or 0; nothing where the store may have forgotten what it is about, likewise.
    pub(super) fn held_if_known(&self, told: &Value) -> Result<Held, StoreError> {
        if *told == Value::Nil {
            self.wire.doubtful.notify_one();
            return Err(amnesia());
        }
        held(told)
    }

    /// An attempt was settled by somebody else: where it has the turn in a lane, the next one's begins.
    pub(super) async fn give_turn_on(&self, lane: &[u8], token: Token) {
        if let Ok(lane) = <[u8; 16]>::try_from(lane)
            && let Err(error) = self.leave_lane(LaneId(lane), token).await
        {
            tracing::debug!(%error, "a turn could not be given on; it ends by itself");
        }
    }

    /// The store has the answer of a copy, which under a client's key counts for a while.
    fn said(&self, copy: &ClaimRequest, answer: Answer) -> Claimed {
        if copy.claim.keyed {
            self.recall.said(&copy.id, &answer, self.clock.elapsed());
        }
        Claimed::Done(answer)
    }

    /// What is left of a recorded answer whose bytes cannot be read.
    async fn damaged(&self, id: RecordId) -> Result<Answer, StoreError> {
        Ok(Box::pin(self.answer(id)).await?.unwrap_or_else(|| kept_or_tombstone(200, None)))
    }

    /// A large answer's bytes, over the connection for bodies.
    pub(super) async fn fetch(&self, id: &RecordId) -> Result<Option<Vec<u8>>, StoreError> {
        let call = self.on(Script::Answer, id).on_bodies(true);
        let mut told = Reply::array(self.run(call).await?)?;
        told.maybe_bytes()
    }

    /// How an attempt stands that copies wait for. `Ok(Err)`: in flight, under a lease of so many milliseconds.
    pub(super) async fn look(
        &self,
        id: RecordId,
        token: Token,
    ) -> Result<Result<AttemptEnd, u64>, StoreError> {
        let call = self.on(Script::Look, &id).on_bodies(true).arg(&token.0.to_be_bytes());
        let mut told = self.known(Reply::array(self.run(call.under_agreement()).await?)?)?;
        Ok(match &told.bytes()?[..] {
            b"flight" => Err(told.number()?),
            b"doubt" => {
                let (since, until) = (Millis(told.number()?), Millis(told.number()?));
                Ok(AttemptEnd::InDoubt { since, until, why: doubt(&told.bytes()?) })
            }
            b"answered" => {
                let kept = told.maybe_bytes()?;
                let status =
                    told.maybe_bytes()?.and_then(|status| String::from_utf8(status).ok()?.parse().ok());
                Ok(AttemptEnd::Answered(kept_or_tombstone(status.unwrap_or(200), kept)))
            }
            _ => Ok(AttemptEnd::NotExecuted),
        })
    }

    /// A call about a record, under the usual deadline.
    pub(super) fn on(&self, script: Script, id: &RecordId) -> Call {
        Call::on(&self.wire.parts, script, id, self.wire.place.timeout)
    }

    /// Asks for a claim or a completion as nearly all are. `Nil`: it is another one, and nothing was done.
    pub(super) async fn run_usual(&self, id: &RecordId, usual: Usual) -> Result<Value, StoreError> {
        self.run(Call::usual(&self.wire.parts, id, usual, self.wire.place.timeout)).await
    }

    /// Sends a call, and takes note of how the store is.
    pub(super) async fn run(&self, call: Call) -> Result<Value, StoreError> {
        self.health.check_open()?;
        let told = self.wire.run(call).await;
        if let Err(StoreError::Unavailable(why)) = &told {
            self.health.failed(why);
        }
        told
    }
}

/// The store has forgotten something, and not everybody has said again what they know.
pub(super) fn amnesia() -> StoreError {
    StoreError::Unavailable(
        "it was restarted, replaced or emptied, and the gateways are telling it again what they know".into(),
    )
}

fn other_version() -> StoreError {
    StoreError::Unavailable("its scripts are of another version".into())
}

/// 1 or 0.
pub(super) fn held(told: &Value) -> Result<Held, StoreError> {
    Ok(if reply::number(told)? == 1 { Held::Yes } else { Held::No })
}

/// The answer, or what is certain of it: that the request was executed, and with which status.
pub(super) fn kept_or_tombstone(status: u64, kept: Option<Vec<u8>>) -> Answer {
    kept.filter(|kept| !kept.is_empty()).and_then(stored::decode).unwrap_or_else(|| {
        let status = u16::try_from(status).ok().and_then(|status| http::StatusCode::from_u16(status).ok());
        Answer::new(status.unwrap_or(http::StatusCode::OK), &http::HeaderMap::new(), None)
    })
}

/// How scripts name a reason of doubt: as the configuration's language does.
fn word(why: Doubt) -> String {
    match serde_json::to_value(why) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A reason that this version does not know is told as the vaguest one.
pub(super) fn doubt(word: &[u8]) -> Doubt {
    let word = String::from_utf8_lossy(word).into_owned();
    serde_json::from_value(serde_json::Value::String(word)).unwrap_or(Doubt::LeaseEnded)
}
