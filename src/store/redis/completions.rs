//! Completions: the answer of an attempt is recorded, with what ends, goes on or is given back by it in the same step.

use super::commands::LARGE;
use super::packed::Packed;
use super::recall::Kept;
use super::reply::Reply;
use super::script::{Call, Script, millis};
use super::usual::Usual;
use super::{Inner, stored};
use crate::domain::client::ScopeId;
use crate::domain::time::Millis;
use crate::store::{AttemptEnd, Completion, Held, StoreError};
use redis::Value;
use std::time::Duration;

/// Who knows the outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The attempt itself.
    Attempt,
    /// Whoever asked the backend about a doubt.
    Asking,
}

/// What a completion was told.
struct Told {
    /// Whether it changed the record; a repeated one does not.
    newly: bool,
    /// Whether the answer is kept: a later success may have ended the intent already.
    kept: bool,
    /// Whose record it is, where that was asked for.
    scope: Option<ScopeId>,
    /// Since when it is done, and until when that is kept.
    at: Millis,
    until: Millis,
    /// The lane of its attempt; empty where it has none, or does not wait for anybody.
    lane: Vec<u8>,
    /// Until when the renewed scope stands for the record's, where it does.
    alias_until: Option<Millis>,
}

impl Inner {
    /// See [`Store::complete`](crate::store::Store::complete).
    pub(in crate::store) async fn complete(&self, completion: Completion) -> Result<Held, StoreError> {
        let (id, token) = (completion.id, completion.token);
        let told = self.finish(completion, By::Attempt).await;
        if told.is_err() {
            self.recall.offered(id, token);
        }
        told
    }

    /// See [`Store::recovered`](crate::store::Store::recovered).
    pub(in crate::store) async fn recovered(&self, completion: Completion) -> Result<Held, StoreError> {
        self.finish(completion, By::Asking).await
    }

    async fn finish(&self, completion: Completion, by: By) -> Result<Held, StoreError> {
        let told = match self.completed(&completion, by).await? {
            Value::Int(now) => Some(Told::usual(now, completion.keep)),
            told => Told::read(self.known(Reply::array(told)?)?)?,
        };
        let Some(told) = told else { return Ok(Held::No) };
        let Completion { id, token, answer, ends, names, alias, slots, .. } = completion;
        self.recall.holds.settled(token, &slots, self.clock.now());
        let Told { newly, kept, scope, at, until, lane, alias_until } = told;
        let here = !self.wire.parts.are_several();
        if newly {
            self.clock.heard(at);
            if let (Some(ends), true) = (&ends, here) {
                self.recall.ended.intents(super::HOME, ends, at);
            }
        }
        // The client of an answer that is offered once more has long gone on, and may have made anew what would end by it.
        let is_late = !newly && self.recall.was_offered(&id, token);
        if by == By::Asking {
            self.give_turn_on(&lane, token).await;
        }
        if kept {
            let said_at = self.clock.elapsed();
            let stays = Kept { answer: answer.clone(), names, done_at: at, until, said_at };
            self.recall.done(id, token, stays);
        } else {
            self.recall.forget(id, token);
        }
        let ended = match &ends {
            Some(ends) if !here && !is_late => self.end_everywhere(ends).await.map(drop),
            _ => Ok(()),
        };
        if let (Some((from, keep)), Some(scope), true) = (alias, scope, kept) {
            match alias_until {
                Some(until) => self.aliases.add(from, scope, until),
                None if here && newly => {}
                None => self.alias(from, scope, keep).await?,
            }
        }
        ended?;
        self.ends.ended_here((id, token), AttemptEnd::Answered(answer));
        Ok(Held::Yes)
    }

    /// Says it, and what the server says to that.
    async fn completed(&self, completion: &Completion, by: By) -> Result<Value, StoreError> {
        let Completion { id, token, answer, keep, ends, names, alias, slots, frees } = completion;
        let whole = stored::encode(answer);
        let is_kept = whole.len() as u64 <= self.answer_most() && !self.health.is_tight();
        // Empty: what is kept is the answer itself.
        let kept = if is_kept { Vec::new() } else { stored::encode(&answer.to_tombstone()) };
        // A cluster is told apart what may be in other parts.
        let here = !self.wire.parts.are_several();
        let packed = Packed::new()
            .fixed(&token.0.to_be_bytes())
            .number(millis(*keep))
            .fixed(&answer.status().as_u16().to_be_bytes())
            .byte(u8::from(by == By::Attempt) + 2 * u8::from(alias.is_some()))
            .short(names.as_ref().map_or(&[][..], |names| &names.0))
            .short(alias.as_ref().filter(|_| here).map_or(&[][..], |(from, _)| &from.0))
            .number(alias.map_or(0, |(_, keep)| millis(keep)))
            .settlement(slots, frees);
        let ends = ends.as_ref().filter(|_| here);
        let ends_nothing = ends.is_none() && alias.is_none() && slots.bookings.is_empty() && frees.is_empty();
        if by == By::Attempt && ends_nothing && is_kept && whole.len() <= LARGE {
            let usual = Usual::completion(&self.wire.parts, id, packed.bytes(), &whole);
            let told = self.run_usual(id, usual).await?;
            if told != Value::Nil {
                return Ok(told);
            }
        }
        let call = self
            .on(Script::Complete, id)
            .on_bodies(whole.len() > LARGE)
            .joined(&[packed.bytes()])
            .joined(&[&whole])
            .joined(&[&kept])
            .settled(slots, frees);
        let call = ends.into_iter().fold(call, Call::ends);
        Box::pin(self.run(call.under_agreement())).await
    }
}

// === impl Told ===

impl Told {
    /// A usual one, carried out at `now`.
    fn usual(now: i64, keep: Duration) -> Told {
        let at = Millis(u64::try_from(now).unwrap_or(0));
        let (until, lane) = (at.after(keep), Vec::new());
        Told { newly: true, kept: true, scope: None, at, until, lane, alias_until: None }
    }

    /// `None`: the token did not hold.
    fn read(mut told: Reply) -> Result<Option<Told>, StoreError> {
        let (held, newly) = (told.number()? == 1, told.number()? == 1);
        if !held {
            return Ok(None);
        }
        let scope = Some(ScopeId(told.exactly()?));
        let (at, until) = (Millis(told.number()?), Millis(told.number()?));
        if !newly {
            return Ok(Some(Told {
                newly,
                kept: true,
                scope,
                at,
                until,
                lane: Vec::new(),
                alias_until: None,
            }));
        }
        let (kept, lane) = (told.number()? == 1, told.bytes()?);
        let alias_until = Some(told.number()?).filter(|until| *until > 0).map(Millis);
        Ok(Some(Told { newly, kept, scope, at, until, lane, alias_until }))
    }
}
