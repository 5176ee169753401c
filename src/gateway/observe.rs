//! `mode = "observe"`: everything is forwarded as it comes, and what enforcing would have done is noted beside it. Nobody
//! waits for a copy or a turn, nobody is refused for what is guarded, and no answer is held back.

use super::body::{Outgoing, RequestBody};
use super::clock;
use super::exchange::{Exchange, Outcome, Room};
use super::forward;
use super::guard::{self, Intent};
use super::lane::{InLane, lane_of};
use super::lease::Lease;
use super::overheard::Told;
use super::respond;
use super::slots;
use super::upload::ClientBody;
use super::upstream::{Permit, Reuse};
use super::whole::Read;
use crate::config::Idempotency;
use crate::domain::event::Decision;
use crate::domain::lane::Join;
use crate::domain::ledger::{Doubt, Token};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::says::Says;
use crate::store::{Claimed, Completion, JoinLane, Joined};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::oneshot;

/// Forwards one write of a guarded route.
pub async fn write(exchange: Exchange, parts: Parts, body: ClientBody) -> Result<Outcome, Refusal> {
    let Some(guard) = exchange.guard() else {
        return Err(Refusal::new(Reason::NoRoute, "This route guards nothing."));
    };
    // Enforcing would refuse a body for which there is no room, too; it is not read whole, so it takes none.
    let (Ok(key), Ok(room)) = (guard::named(&guard.rules, &parts), exchange.room_for(&body)) else {
        let permit = exchange.admit_in_turn(&parts.headers).await?;
        let (body, upload) = RequestBody::stream(body);
        let request = Box::new(Request::from_parts(parts, body));
        let would = Decision::WouldRefuse;
        return forward::carried(exchange, permit, (request, upload), Reuse::Recent, would, None).await;
    };
    let body = match guard::read_body(&exchange, body).await? {
        Read::Whole(body) => body,
        Read::TooLarge(body, upload) => {
            let permit = exchange.admit_in_turn(&parts.headers).await?;
            let request = Box::new(Request::from_parts(parts, body));
            let would = Decision::WouldRefuse;
            let request = (request, Some(upload));
            return forward::carried(exchange, permit, request, Reuse::Recent, would, Some(room)).await;
        }
    };
    exchange.look_for_disguise(&parts, &body);
    let Some(mut intent) = guard::intent(&exchange, guard, &parts, key, &body)? else {
        return guard::whole(exchange, parts, (body, room), Decision::Passed).await;
    };
    let lane = lane_of(&exchange, guard, &parts, &body);
    // What cannot be said is no reason to hold anything back here: then no slot is asked for.
    let named = intent.plan(&exchange, &parts).await.is_ok();
    let permit = exchange.admit_in_turn(&parts.headers).await?;
    let token = exchange.worker.new_token();
    let asked = clock::now();
    let claimed = guard::claim(&exchange, &guard.rules, &parts, &intent, token).await;
    let request = guard::request_of(parts, body);
    let decision = match claimed {
        Ok(Claimed::Granted) if named => {
            let whose = Whose::Own(Lease::new(&exchange, intent.id, token, asked), lane);
            return follow(exchange, permit, request, intent, whose, room).await;
        }
        // A copy of what is in doubt is sent all the same, and what comes of it settles that.
        Ok(Claimed::InDoubt { token, .. }) if named => {
            return follow(exchange, permit, request, intent, Whose::Doubted(token), room).await;
        }
        Ok(Claimed::Granted) => {
            let _ = exchange.shared().store.abandon(intent.id, token, None).await;
            Decision::WouldRefuse
        }
        Ok(Claimed::SlotTaken(taken)) => {
            slots::tell_taken(&exchange, request.headers(), &intent, &taken);
            Decision::WouldRefuse
        }
        Ok(_) => Decision::WouldRefuse,
        Err(_) => Decision::Unguarded,
    };
    forward::carried(exchange, permit, (request, None), Reuse::Recent, decision, Some(room)).await
}

/// Which attempt it is whose outcome is noted.
enum Whose {
    /// This one, and its place in a lane.
    Own(Lease, Option<Box<InLane>>),
    /// An earlier one of the same intent, of which nobody knows.
    Doubted(Token),
}

// === impl Whose ===

impl Whose {
    /// Waits for `work` of the attempt; meanwhile nobody takes it for dead.
    async fn at_work<T>(&self, exchange: &Exchange, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Whose::Own(lease, _) = self
            && let Some(done) = lease.hold(exchange, None, work.as_mut()).await
        {
            return done;
        }
        work.await
    }
}

/// Forwards a request, and notes how it ended, whether its client stays or not.
async fn follow(
    exchange: Exchange,
    permit: Permit,
    request: Outgoing,
    intent: Intent,
    whose: Whose,
    room: Room,
) -> Result<Outcome, Refusal> {
    let worker = exchange.worker.clone();
    forward::outlasting(&worker, |tell| async move {
        let decision = match &whose {
            Whose::Own(lease, lane) => join(&exchange, lane.as_deref(), lease.token()).await,
            Whose::Doubted(_) => Decision::WouldRefuse,
        };
        let passed = forward::pass(&exchange, permit, request, None, Reuse::Recent, decision);
        let mut outcome = whose.at_work(&exchange, passed).await;
        drop(room);
        if let Whose::Own(lease, Some(lane)) = &whose {
            let _ = exchange.shared().store.leave_lane(lane.id, lease.token()).await;
        }
        let seen = Seen::of(&exchange, &intent, &mut outcome);
        match seen {
            // What only the body says is there when the client has it, or would have had it.
            Seen::Answer(head, Some(told)) => {
                let _ = tell.send(outcome);
                let (seen, body) = match whose.at_work(&exchange, heard(&exchange, told)).await {
                    Ok(body) => (Seen::Answer(head, None), body),
                    Err(why) => (Seen::Nothing(why), None),
                };
                note(&exchange, &intent, &whose, seen, body).await;
            }
            seen => {
                note(&exchange, &intent, &whose, seen, None).await;
                let _ = tell.send(outcome);
            }
        }
    })
    .await
}

/// The body of an answer that its client takes, or has left; `None` where it is more than is kept.
async fn heard(exchange: &Exchange, told: oneshot::Receiver<Told>) -> Result<Option<Bytes>, Doubt> {
    let told = match told.await {
        Ok(Told::Left(heard)) => {
            let until = clock::now() + exchange.rules().timeout;
            let rest = exchange.worker.deadlines.within(until, pin!(heard.rest())).await;
            rest.ok_or(Doubt::TimedOut)?
        }
        told => told.unwrap_or(Told::Broken),
    };
    match told {
        Told::Whole(body) => Ok(Some(body)),
        Told::TooLarge => Ok(None),
        Told::Broken | Told::Left(_) => Err(Doubt::AnswerTruncated),
    }
}

/// Takes a place in the lane without waiting in it, so that its figures show what enforcing would do.
async fn join(exchange: &Exchange, lane: Option<&InLane>, token: Token) -> Decision {
    let shared = exchange.shared();
    let rules = exchange.guard().and_then(|guard| guard.lane.as_ref());
    let (Some(lane), Some(rules)) = (lane, rules) else { return Decision::Executed };
    let lease = shared.policy.config().store.lease;
    let join = Join { token, owner: shared.store.owner(), lease, queue_max: rules.queue };
    match shared.store.join_lane(JoinLane { lane: lane.id, join, about: lane.about.clone() }).await {
        Ok(Joined::Full { .. }) => Decision::WouldRefuse,
        Ok(Joined::Yours | Joined::Waiting { .. }) | Err(_) => Decision::Executed,
    }
}

/// What is seen of an outcome.
enum Seen {
    /// Nothing was sent.
    NotSent,
    /// Nobody knows whether it was executed.
    Nothing(Doubt),
    /// The head of an answer, and where its body will be told if it matters.
    Answer((StatusCode, HeaderMap), Option<oneshot::Receiver<Told>>),
}

// === impl Seen ===

impl Seen {
    fn of(exchange: &Exchange, intent: &Intent, outcome: &mut Result<Outcome, Refusal>) -> Seen {
        match outcome {
            Ok(Outcome { response, .. }) => {
                let head = (response.status(), response.headers().clone());
                let matters = Says::of(head.0).is_success() && intent.slots.reads_answer(exchange);
                // As large as what enforcing reads; the places at the backend say how many there are at a time.
                let limit = exchange.shared().policy.config().store.answer_limit;
                let body = if matters { response.body_mut().overhear(limit) } else { None };
                Seen::Answer(head, body)
            }
            Err(refusal) => match refusal.reason {
                Reason::UpstreamUnreachable => Seen::NotSent,
                Reason::UpstreamTimeout => Seen::Nothing(Doubt::TimedOut),
                _ => Seen::Nothing(Doubt::ConnectionLost),
            },
        }
    }
}

/// Notes what is known of the attempt `whose`. Of an answer its body is read and not kept: nobody will be shown it.
async fn note(exchange: &Exchange, intent: &Intent, whose: &Whose, seen: Seen, body: Option<Bytes>) {
    let (store, Some(guard)) = (&exchange.shared().store, exchange.guard()) else { return };
    let not_executed =
        |status| Says::of(status) == Says::Nothing || guard.rules.not_executed.contains(status);
    let noted = match (whose, seen) {
        (Whose::Own(lease, _), Seen::NotSent) => store.abandon(intent.id, lease.token(), None).await,
        (Whose::Own(lease, _), Seen::Answer((status, _), _)) if not_executed(status) => {
            store.abandon(intent.id, lease.token(), None).await
        }
        (Whose::Own(lease, _), Seen::Nothing(why)) => {
            exchange.tell_in_doubt(intent.id, why);
            store.doubt(intent.id, lease.token(), why).await
        }
        (Whose::Own(lease, _), Seen::Answer(head, _)) => {
            store.complete(completion(exchange, intent, lease.token(), &head, body)).await
        }
        // Only that it is done now says something of what was sent before.
        (Whose::Doubted(token), Seen::Answer(head, _)) if Says::of(head.0) == Says::Done => {
            store.recovered(completion(exchange, intent, *token, &head, body)).await
        }
        (Whose::Doubted(_), _) => return,
    };
    if let Err(error) = noted {
        tracing::warn!(request_id = ?exchange.request_id, %error, "what was observed could not be noted");
    }
}

fn completion(
    exchange: &Exchange,
    intent: &Intent,
    token: Token,
    (status, headers): &(StatusCode, HeaderMap),
    body: Option<Bytes>,
) -> Completion {
    let rules = exchange.guard().map(|guard| &guard.rules);
    let kept = |rules: &Idempotency| if intent.keyed { rules.remember } else { rules.remember_fingerprint };
    let keep = rules.map_or(Duration::ZERO, kept);
    let read = slots::Answered { status: *status, headers, body: body.as_deref() };
    let (slots, frees) = (intent.slots.settlement(exchange, read), intent.slots.frees(exchange, read));
    let answer = respond::record(*status, headers, None);
    let (ends, names, alias) = (None, None, None);
    Completion { id: intent.id, token, answer, keep, ends, names, alias, slots, frees }
}
