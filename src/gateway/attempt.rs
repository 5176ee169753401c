//! One attempt to execute a claimed write, whether its client stays or not: send, wait, classify, record, then answer.
//!
//! Every way it can end: not sent (the record is absent again), answered with a status that says *not executed* (absent
//! again, waiting copies get the answer), answered (done), or nobody knows (in doubt, and a late answer still counts).

mod again;
mod record;
mod recover;
mod turn;

use super::body::{Outgoing, ResponseBody};
use super::carried::Carried;
use super::clock;
use super::completion::Asked;
use super::detect;
use super::exchange::{Exchange, Outcome};
use super::forward::unreachable_backend;
use super::guard::{Intent, outcome_unknown};
use super::headers::IDEMPOTENT_STORED;
use super::lane::InLane;
use super::lease::Lease;
use super::reads::Writing;
use super::replay::Copy;
use super::respond;
use super::upstream::{Failure, Flight, Permit, Reply, Reuse, UpstreamBody, send};
use super::whole::Gathered;
use super::worker::Running;
use crate::config::Idempotency;
use crate::domain::answer::Answer;
use crate::domain::event::Decision;
use crate::domain::ledger::{Doubt, Token};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::says::Says;
use crate::store::Held;
use bytes::Bytes;
use http::header::HeaderValue;
use http::{Response, request, response};
use http_body_util::BodyExt;
use recover::Settled;
use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// One attempt.
pub struct Attempt {
    exchange: Rc<Exchange>,
    intent: Intent,
    token: Token,
    lease: Lease,
    /// The client was told that nobody knows: from then on nothing may be sent any more, only waited for.
    told: Cell<bool>,
    /// Its lane, where its route has one.
    lane: Option<Box<InLane>>,
    /// When the first byte has to have left, so that the turn in the lane is long enough.
    send_by: Cell<Option<Instant>>,
    /// The request, where it may be needed once more.
    original: Option<Box<Original>>,
    /// What it does to kept answers, from before it is sent until after it was answered.
    writing: RefCell<Option<Box<Writing>>>,
}

/// A request as it came, kept for another attempt, or for a question about it.
pub struct Original {
    /// Its head.
    pub parts: request::Parts,
    /// Its body, read whole.
    pub body: Bytes,
}

/// The backend's answer, as far as it is kept.
struct Answered {
    head: response::Parts,
    body: Kept,
    upstream: Option<Duration>,
    /// It shows what was there before this write, which others have been shown.
    is_of_before: bool,
}

/// A body that was read to its end, or as far as it is worth keeping.
enum Kept {
    Whole(Bytes),
    TooLarge(Bytes, UpstreamBody),
}

/// How the exchange with the backend ended.
enum Ended {
    Answered(Box<Answered>),
    NotSent(String),
    Unknown(Doubt, String),
}

// === impl Attempt ===

impl Attempt {
    /// An attempt under a claim that was asked for at `claimed` and granted since.
    pub fn new(
        exchange: Rc<Exchange>,
        intent: Intent,
        token: Token,
        claimed: Instant,
        (lane, original): (Option<Box<InLane>>, Option<Box<Original>>),
    ) -> Attempt {
        let lease = Lease::new(&exchange, intent.id, token, claimed);
        let (told, send_by) = (Cell::new(false), Cell::new(None));
        let writing = RefCell::default();
        Attempt { exchange, intent, token, lease, told, lane, send_by, original, writing }
    }

    /// Runs the attempt, for a client that waits for it or not.
    pub fn start(self, permit: Permit, request: Outgoing) -> Carried<Outcome> {
        let (mut tell, told) = oneshot::channel();
        let running = Running::new(&self.exchange.worker);
        // What few attempts do is boxed where it is done: otherwise every attempt would hold room for it, and be copied with it.
        let work = Box::pin(async move {
            let method = self.exchange.counts_as(request.method());
            let asked = Asked::of(method, request.uri(), request.headers());
            let told = match &self.lane {
                None => self.execute(permit, request, &asked, &mut tell).await,
                // Whoever waits holds no place at the backend.
                Some(lane) => {
                    drop(permit);
                    Box::pin(self.execute_in_turn(lane, request, &asked, &mut tell)).await
                }
            };
            self.tell(told, tell);
            drop(running);
        });
        Carried::new(work, told)
    }

    /// Tells the client, where it was not told already.
    fn tell(&self, told: Option<Outcome>, tell: oneshot::Sender<Outcome>) {
        if let Some(told) = told
            && let Err(told) = tell.send(told)
        {
            // Nobody listens any more: the client has left, and the record has the answer.
            let (status, decision) = (told.response.status().as_u16(), told.decision.word());
            tracing::info!(request_id = ?self.exchange.request_id, status, decision, "a write ended after its client had left");
        }
    }

    /// Executes it when its turn in the lane has come.
    async fn execute_in_turn(
        &self,
        lane: &InLane,
        request: Outgoing,
        asked: &Asked,
        tell: &mut oneshot::Sender<Outcome>,
    ) -> Option<Outcome> {
        match self.take_turn(lane, request.headers(), tell).await {
            Ok(permit) => self.execute(permit, request, asked, tell).await,
            Err(told) => Some(told),
        }
    }

    /// Sends, once more where the backend says that it did nothing, until the outcome is known or is in doubt. `None`: the
    /// client was told already.
    async fn execute(
        &self,
        permit: Permit,
        request: Outgoing,
        asked: &Asked,
        tell: &mut oneshot::Sender<Outcome>,
    ) -> Option<Outcome> {
        // A guarded GET writes too: that is why it is guarded.
        self.writing.replace(self.exchange.writing(&request).await);
        let (mut permit, mut request) = (permit, request);
        for further in 0.. {
            let ended = match self.once(permit, request, asked, tell).await {
                Ok(ended) => ended,
                Err(told) => return told,
            };
            match ended {
                Ended::Answered(answered) if self.is_conflict(&answered) => {
                    match Box::pin(self.once_more(&answered, further)).await {
                        Some(again) => (permit, request) = again,
                        None => return Some(Box::pin(self.concluded(answered, true, asked)).await),
                    }
                }
                ended => return Some(self.settle(ended, asked).await),
            }
        }
        None
    }

    /// Sends, and waits for the end as long as the route lets it. `Err`: nothing came in time, and what the client is told of
    /// that, unless it was told already.
    async fn once(
        &self,
        permit: Permit,
        request: Outgoing,
        asked: &Asked,
        tell: &mut oneshot::Sender<Outcome>,
    ) -> Result<Ended, Option<Outcome>> {
        let (now, timeout) = (clock::recent(), self.exchange.rules().timeout);
        let ends = self.exchange.pool().upstream.ends(now);
        let flight = Flight::default().of_attempt().saying(self.exchange.own_lines.take()).until(ends);
        let mut exchanging = pin!(self.exchange_with_backend(permit, request, &flight));
        match self.holding_the_lease(flight.by(now + timeout), exchanging.as_mut()).await {
            Some(ended) => Ok(ended),
            None if flight.sent_at().is_none() => Ok(Ended::NotSent("no connection in time".into())),
            None => Err(Box::pin(self.no_answer_in_time(exchanging, asked, tell)).await),
        }
    }

    /// The deadline has passed after a byte may have left. Where the route says whom to ask, that may still tell; otherwise
    /// the client is told now, and a late answer under the same token settles the record.
    async fn no_answer_in_time(
        &self,
        mut exchanging: Pin<&mut impl Future<Output = Ended>>,
        asked: &Asked,
        tell: &mut oneshot::Sender<Outcome>,
    ) -> Option<Outcome> {
        self.told.set(true);
        self.outcome_is_unknown();
        let timeout = self.exchange.rules().timeout;
        let settled = self.settled_by_asking(Some(exchanging.as_mut())).await;
        let may_come = matches!(settled, Settled::Open);
        if let Some(told) = self.concluded_by(settled, asked).await {
            return Some(told);
        }
        let told = self.unknown(Doubt::TimedOut, &format!("no answer within {timeout:?}")).await;
        let nobody = oneshot::channel().0;
        let _ = std::mem::replace(tell, nobody).send(told);
        if may_come {
            let late = self.exchange.worker.deadlines.within(clock::now() + timeout, exchanging);
            if let Some(Ended::Answered(late)) = late.await {
                self.concluded_by(Settled::Late(late), asked).await;
            }
        }
        None
    }

    /// Sends the request and reads the answer, as far as it is kept.
    async fn exchange_with_backend(&self, permit: Permit, request: Outgoing, flight: &Flight) -> Ended {
        let may_send = |now| {
            !self.told.get() && now < self.lease.until() && self.send_by.get().is_none_or(|by| now <= by)
        };
        let pool = self.exchange.pool();
        let Reply { mut head, mut body } =
            *match send(pool, permit, request, Reuse::Recent, flight, may_send).await {
                Ok(reply) => reply,
                Err(Failure::NotSent(why)) => return Ended::NotSent(why),
                Err(Failure::Lost(why)) => return Ended::Unknown(Doubt::ConnectionLost, why),
                Err(Failure::Ambiguous(problem)) => {
                    return Ended::Unknown(Doubt::AnswerAmbiguous, problem.to_string());
                }
            };
        let upstream = flight.sent_at().map(|sent| clock::now().saturating_duration_since(sent));
        self.exchange.strip_answer(&mut head.headers, false);
        let limit = self.exchange.shared().policy.config().store.answer_limit;
        let mut gathered = Gathered::default();
        let body = loop {
            match body.frame().await {
                None => break Kept::Whole(gathered.into_bytes()),
                Some(Err(error)) => return Ended::Unknown(Doubt::AnswerTruncated, error.to_string()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        gathered.push(data);
                    }
                    if gathered.len() as u64 > limit {
                        break Kept::TooLarge(gathered.into_bytes(), body);
                    }
                }
            }
        };
        Ended::Answered(Box::new(Answered { head, body, upstream, is_of_before: false }))
    }

    /// Waits for `ended` until `deadline`, renewing the lease while the backend works. `None`: time ran out.
    async fn holding_the_lease<T>(
        &self,
        deadline: Instant,
        ended: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        self.lease.hold(&self.exchange, Some(deadline), ended).await
    }

    async fn settle(&self, ended: Ended, asked: &Asked) -> Outcome {
        match ended {
            Ended::Answered(answered) => self.concluded(answered, false, asked).await,
            Ended::NotSent(why) => {
                self.leave_lane().await;
                self.not_sent(&why).await
            }
            // The lane stays closed: what was sent may still be executed.
            Ended::Unknown(why, detail) => {
                self.outcome_is_unknown();
                let settled = Box::pin(self.settled_by_asking(no_exchange())).await;
                match Box::pin(self.concluded_by(settled, asked)).await {
                    Some(told) => told,
                    None => self.unknown(why, &detail).await,
                }
            }
        }
    }

    /// From now on the effect may come at any moment, and nobody says so: before anybody is asked or told of it, its caller
    /// gets no kept answer any more.
    fn outcome_is_unknown(&self) {
        if let Some(writing) = &mut *self.writing.borrow_mut() {
            writing.unknown();
        }
    }

    /// Concludes what asking settled; `None` where it settled nothing. An answer of the exchange itself may say that nothing
    /// was executed, however late it comes.
    async fn concluded_by(&self, settled: Settled, asked: &Asked) -> Option<Outcome> {
        let (answered, conflict) = match settled {
            Settled::Late(late) => {
                let conflict = self.is_conflict(&late);
                (late, conflict)
            }
            Settled::Found(found) => (found, false),
            Settled::Open | Settled::Ended => return None,
        };
        Some(self.concluded(answered, conflict, asked).await)
    }

    /// The backend has answered, and the attempt is over: the lane goes on, and what exists already is shown in place of the
    /// error. `conflict`: by this answer the backend says that it did nothing.
    async fn concluded(&self, answered: Box<Answered>, conflict: bool, asked: &Asked) -> Outcome {
        if self.lane.is_some() {
            Box::pin(self.leave_lane()).await;
        }
        if self.exists_already(&answered, conflict)
            && let Some(existing) = Box::pin(self.existing()).await
        {
            return self.answered(Box::new(existing), false, asked).await;
        }
        self.answered(answered, conflict, asked).await
    }

    /// Records the outcome, durably, before the answer's first byte goes to anybody.
    async fn answered(&self, answered: Box<Answered>, conflict: bool, asked: &Asked) -> Outcome {
        let (head, upstream) = (&answered.head, answered.upstream);
        if let Some(writing) = &mut *self.writing.borrow_mut() {
            writing.answered(&self.exchange, head.status, &head.headers);
        }
        let kept = match &answered.body {
            Kept::Whole(bytes) => Some(&bytes[..]),
            Kept::TooLarge(..) => None,
        };
        let answer = respond::record(head.status, &head.headers, kept);
        let nothing_done = conflict || Says::of(head.status) == Says::Nothing;
        let not_executed = |rules: &Idempotency| nothing_done || rules.not_executed.contains(head.status);
        let (decision, stored) = if self.idempotency().is_some_and(not_executed) {
            (Decision::NotExecuted, self.abandon(Some(answer)).await)
        } else {
            match self.complete(answer, head, asked).await {
                Ok(stored) => (Decision::Executed, stored),
                // Settled meanwhile, by an operator: every copy gets that answer, and so does the first client.
                Err(Some(settled)) => {
                    let (response, lines) = self.exchange.replay(&settled, Copy::Waited);
                    let decision = Decision::Executed;
                    return Outcome { lines, upstream, ..Outcome::new(response, decision) };
                }
                // Settled as not executed: this answer may contradict the next attempt's, so nobody gets it.
                Err(None) => return self.overtaken(),
            }
        };
        if decision == Decision::Executed && head.status.is_success() && !answered.is_of_before {
            self.look_for_duplicates(head, &answered.body);
        }
        let Answered { head, body, .. } = *answered;
        let body = match body {
            Kept::Whole(bytes) => ResponseBody::whole(bytes),
            Kept::TooLarge(prefix, rest) => ResponseBody::prefixed(prefix, rest),
        };
        let mut response = Response::from_parts(head, body);
        if !stored {
            response.headers_mut().insert(IDEMPOTENT_STORED, HeaderValue::from_static("false"));
        }
        Outcome { upstream, ..Outcome::new(response, decision) }
    }

    /// Tells where this answer has what another one has, and only one may have.
    fn look_for_duplicates(&self, head: &response::Parts, body: &Kept) {
        let detect = self.exchange.guard().and_then(|guard| guard.detect.as_ref());
        let (Some(detect), Some(original), Kept::Whole(body)) = (detect, &self.original, body) else {
            return;
        };
        if let Some(seen) = detect::seen(&self.exchange, detect, original, (head, body)) {
            detect::tell_of_duplicates(&self.exchange, self.intent.id, seen, detect);
        }
    }

    /// Known not executed: the record is absent again; waiting copies get the answer, later ones execute.
    async fn not_sent(&self, why: &str) -> Outcome {
        if let Some(writing) = &mut *self.writing.borrow_mut() {
            writing.not_sent();
        }
        let refusal = unreachable_backend(why);
        let policy = Some(&*self.exchange.rules().name);
        let answer = respond::refusal_answer(&refusal, policy, &self.exchange.request_id);
        self.abandon(Some(answer)).await;
        self.refused(&refusal, Decision::Refused(refusal.reason))
    }

    async fn abandon(&self, answer: Option<Answer>) -> bool {
        match self.exchange.shared().store.abandon(self.intent.id, self.token, answer).await {
            Ok(held) => held == Held::Yes,
            Err(error) => {
                tracing::error!(request_id = ?self.exchange.request_id, %error, "a claim could not be given up; it will be in doubt");
                false
            }
        }
    }

    /// Nobody knows whether it was executed; it is never sent again until that is settled.
    async fn unknown(&self, why: Doubt, detail: &str) -> Outcome {
        let shared = self.exchange.shared();
        let since = shared.store.now();
        if let Err(error) = shared.store.doubt(self.intent.id, self.token, why).await {
            tracing::error!(request_id = ?self.exchange.request_id, %error, "a doubt could not be recorded; the lease's end will");
        }
        self.exchange.tell_in_doubt(self.intent.id, why);
        tracing::debug!(request_id = ?self.exchange.request_id, detail, "in doubt");
        let until = since.after(self.idempotency().map_or(Duration::ZERO, |rules| rules.in_doubt_for));
        let status = if why == Doubt::TimedOut { 504 } else { 502 };
        self.refused(&outcome_unknown(since, until, why).with_status(status), Decision::InDoubt)
    }

    /// The record was settled without this answer.
    fn overtaken(&self) -> Outcome {
        let detail = "The backend answered after this request had been settled as not executed. Look whether its effect exists.";
        self.refused(&Refusal::new(Reason::OutcomeUnknown, detail).with_status(502), Decision::InDoubt)
    }

    fn refused(&self, refusal: &Refusal, decision: Decision) -> Outcome {
        let policy = Some(&*self.exchange.rules().name);
        let response = respond::refusal(refusal, policy, &self.exchange.request_id);
        Outcome::new(response, decision)
    }

    fn idempotency(&self) -> Option<&Idempotency> {
        self.exchange.guard().map(|guard| &guard.rules)
    }
}

/// There is no exchange any more whose answer might still come.
fn no_exchange() -> Option<Pin<&'static mut std::future::Pending<Ended>>> {
    None
}
