//! `mode = "observe"`: everything is forwarded as it comes, and what enforcing would have done is noted beside it. Nobody
//! waits for a copy or a turn, nobody is refused for what is guarded, and no answer is held back.

use super::body::{Outgoing, RequestBody};
use super::exchange::{Exchange, Outcome, Room};
use super::forward;
use super::guard::{self, Intent};
use super::lane::{InLane, lane_of};
use super::respond;
use super::slots;
use super::upload::ClientBody;
use super::upstream::{Permit, Reuse};
use super::whole::Read;
use super::worker::Running;
use crate::config::Idempotency;
use crate::domain::event::Decision;
use crate::domain::lane::Join;
use crate::domain::ledger::Token;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::says::Says;
use crate::store::{Claimed, Completion, JoinLane, Joined};
use http::Request;
use http::request::Parts;
use std::time::Duration;

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
        return forward::pass(&exchange, permit, request, upload, Reuse::Recent, Decision::WouldRefuse).await;
    };
    let body = match guard::read_body(&exchange, body).await? {
        Read::Whole(body) => body,
        Read::TooLarge(body, upload) => {
            let permit = exchange.admit_in_turn(&parts.headers).await?;
            let request = Box::new(Request::from_parts(parts, body));
            let would = Decision::WouldRefuse;
            return forward::pass(&exchange, permit, request, Some(upload), Reuse::Recent, would).await;
        }
    };
    let Some(mut intent) = guard::intent(&exchange, guard, &parts, key, &body)? else {
        return guard::whole(&exchange, parts, body, Decision::Passed).await;
    };
    let lane = lane_of(&exchange, guard, &parts, &body);
    // What cannot be said is no reason to hold anything back here: then no slot is asked for.
    let named = intent.plan(&exchange, &parts).await.is_ok();
    let permit = exchange.admit_in_turn(&parts.headers).await?;
    let token = exchange.worker.new_token();
    let claimed = guard::claim(&exchange, &guard.rules, &parts, &intent, token).await;
    let request = guard::request_of(parts, body);
    let decision = match claimed {
        Ok(Claimed::Granted) if named => {
            return follow(exchange, permit, request, (intent, lane), token, room).await;
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
    let outcome = forward::pass(&exchange, permit, request, None, Reuse::Recent, decision).await;
    drop(room);
    outcome
}

/// Forwards the first of an intent, and notes how it ended, in a task that outlives its client.
async fn follow(
    exchange: Exchange,
    permit: Permit,
    request: Outgoing,
    (intent, lane): (Intent, Option<Box<InLane>>),
    token: Token,
    room: Room,
) -> Result<Outcome, Refusal> {
    let running = Running::new(&exchange.worker);
    let followed = tokio::task::spawn_local(async move {
        let decision = join(&exchange, lane.as_deref(), token).await;
        let outcome = forward::pass(&exchange, permit, request, None, Reuse::Recent, decision).await;
        if let Some(lane) = &lane {
            let _ = exchange.shared().store.leave_lane(lane.id, token).await;
        }
        if let Some(guard) = exchange.guard() {
            note(&exchange, &guard.rules, &intent, token, outcome.as_ref().ok()).await;
        }
        drop((running, room));
        outcome
    });
    followed.await.map_err(|_| {
        Refusal::new(Reason::UpstreamFailed, "The gateway failed while it forwarded this request.")
    })?
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

/// Notes the outcome without its body: nobody will be shown it.
async fn note(
    exchange: &Exchange,
    rules: &Idempotency,
    intent: &Intent,
    token: Token,
    outcome: Option<&Outcome>,
) {
    let store = &exchange.shared().store;
    let not_executed = |status| Says::of(status) == Says::Nothing || rules.not_executed.contains(status);
    let executed = outcome.map(|outcome| &outcome.response).filter(|answer| !not_executed(answer.status()));
    let noted = match executed {
        None => store.abandon(intent.id, token, None).await,
        Some(answer) => {
            let keep: Duration = if intent.keyed { rules.remember } else { rules.remember_fingerprint };
            let read = slots::Answered { status: answer.status(), headers: answer.headers(), body: None };
            let (slots, frees) =
                (intent.slots.settlement(exchange, read), intent.slots.frees(exchange, read));
            let answer = respond::record(answer.status(), answer.headers(), None);
            let (ends, names, alias) = (None, None, None);
            store
                .complete(Completion { id: intent.id, token, answer, keep, ends, names, alias, slots, frees })
                .await
        }
    };
    if let Err(error) = noted {
        tracing::warn!(request_id = ?exchange.request_id, %error, "what was observed could not be noted");
    }
}
