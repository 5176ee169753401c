//! The call that others may wait for, in a task of its own: whatever its client does, it runs to its end.
//!
//! Every way it can end: an answer that may be shared (kept, and given to all who wait), an answer for its own request
//! alone (they go by themselves, and for a while nobody waits), a copy that stands in for a backend that failed, or
//! nothing (one of those who wait leads anew).

use super::Reads;
use super::cache::Slot;
use super::endings::Moment;
use super::flight::{Landing, Origin, Seat};
use super::gather::{Bounds, Read, gather};
use super::kept::{self, Kept, not_modified, own_tag};
use super::reading::Reading;
use super::second;
use super::status::{CacheStatus, Stored};
use crate::config::Reads as Rules;
use crate::domain::event::Decision;
use crate::domain::ledger::TargetId;
use crate::domain::read::condition::has_it;
use crate::domain::read::share::varied;
use crate::domain::read::{Bar, Lifetime, bar};
use crate::domain::refusal::{Reason, Refusal};
use crate::gateway::body::{RequestBody, ResponseBody};
use crate::gateway::clock;
use crate::gateway::connection::Connection;
use crate::gateway::exchange::{Exchange, Outcome};
use crate::gateway::forward::{self, Answered};
use crate::gateway::upstream::Reuse;
use crate::gateway::worker::Running;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, response};
use http_body::Body;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A call.
pub struct Lead {
    /// Where its answer is kept.
    pub reads: Arc<Reads>,
    /// Whose request it carries.
    pub exchange: Exchange,
    /// What it asks for.
    pub reading: Reading,
    /// The same, as writes name it.
    pub resource: TargetId,
    /// A copy that is not fresh any more.
    pub stale: Option<Arc<Kept>>,
    /// Others may wait for it.
    pub seat: Option<Seat>,
    /// When it set out.
    pub born: Moment,
}

/// Who is told first; nobody where a copy is only renewed, or where the client knows already.
struct Client {
    tell: Cell<Option<oneshot::Sender<Result<Outcome, Refusal>>>>,
    /// It has no answer yet, so it may hear of interim ones.
    waits: bool,
}

/// A call under way, without what was sent.
struct Under {
    lead: Lead,
    /// The request's head once more, where what the answer is kept under depends on it.
    asked: Option<Parts>,
    client: Client,
}

/// After an answer that cannot be shared nobody waits for so long.
const ALONE_FOR: Duration = Duration::from_secs(10);
/// The same after a status other than 200, which may pass.
const ALONE_FOR_A_STATUS: Duration = Duration::from_secs(1);

// === impl Lead ===

impl Lead {
    /// Runs it for a client that waits for the answer.
    pub async fn for_client(self, parts: Parts) -> Result<Outcome, Refusal> {
        let (tell, told) = oneshot::channel();
        self.start(parts, Client { tell: Cell::new(Some(tell)), waits: true });
        let died =
            |_| Refusal::new(Reason::UpstreamFailed, "The gateway failed while it forwarded this request.");
        told.await.map_err(died)?
    }

    /// Runs it to renew a copy.
    pub fn for_nobody(self, parts: Parts) {
        self.start(parts, Client { tell: Cell::new(None), waits: false });
    }

    fn start(self, parts: Parts, client: Client) {
        let running = Running::new(&self.exchange.worker);
        let asked = self.reading.base.map(|_| parts.clone());
        // Boxed: the runtime moves what it spawns several times.
        tokio::task::spawn_local(Box::pin(async move {
            Under { lead: self, asked, client }.run(parts).await;
            drop(running);
        }));
    }

    /// Asks the backend: whether the stale copy still holds, where it can be asked so. Says which copy it was asked about.
    async fn ask(&self, parts: Parts, client: &Client) -> Result<(Answered, Option<Arc<Kept>>), Refusal> {
        let hearing = client.waits.then(|| self.exchange.hears_interims()).flatten();
        let Some(stale) = self.stale.clone().filter(|stale| !stale.conditions().is_empty()) else {
            return Ok((self.send(parts, None, hearing).await?, None));
        };
        let answered = self.send(parts.clone(), Some(&stale), hearing.clone()).await?;
        let is_304 = answered.head.status == StatusCode::NOT_MODIFIED;
        if is_304 && !stale.is_meant_by(&answered.head.headers) {
            // It speaks of another answer, so nothing is known of ours.
            return Ok((self.send(parts, None, hearing).await?, None));
        }
        Ok((answered, Some(stale)))
    }

    /// Sends the request without its client's conditions: the answer has to be whole.
    async fn send(
        &self,
        mut parts: Parts,
        stale: Option<&Kept>,
        hearing: Option<Rc<Connection>>,
    ) -> Result<Answered, Refusal> {
        parts.headers.remove(header::IF_NONE_MATCH);
        parts.headers.remove(header::IF_MODIFIED_SINCE);
        if let Some(stale) = stale {
            parts.headers.extend(stale.conditions());
        }
        let permit = self.exchange.admit_in_turn(&parts.headers).await?;
        let request = Box::new(Request::from_parts(parts, RequestBody::empty()));
        forward::ask(&self.exchange, permit, request, None, Reuse::Any, hearing).await
    }

    /// The stale copy, where it stands in for a backend that fails and no write came after it.
    fn stand_in(&self) -> Option<Arc<Kept>> {
        let (now, reading) = (clock::now(), &self.reading);
        let ended =
            |kept: &Kept| self.reads.endings.ended(kept.born, now, || reading.ended_by(kept.resource));
        self.stale.clone().filter(|kept| kept.stands_in(now) && !ended(kept))
    }

    fn rules(&self) -> Option<&Rules> {
        self.exchange.rules().reads.as_ref()
    }

    fn caches(&self) -> bool {
        self.rules().is_some_and(|rules| rules.cache.is_some())
    }

    fn bar(&self, status: StatusCode, headers: &HeaderMap) -> Option<Bar> {
        bar(status, headers, &self.reading.keyed(&self.exchange, self.rules()?))
    }

    /// How long an answer may be used, and whether it may be kept for that.
    fn lifetime(&self, headers: &HeaderMap, delay: Duration) -> Option<(Lifetime, bool)> {
        let rules = self.rules()?;
        let lifetime = Lifetime::of(headers, &rules.keeping, self.exchange.shared().store.now(), delay);
        if rules.keeping.overrides {
            return Some((lifetime, true));
        }
        let keyed = self.reading.keyed(&self.exchange, rules);
        let second = second::agreed(lifetime, headers, &keyed, self.exchange.wall_clock());
        Some((second.unwrap_or(lifetime), second.is_some()))
    }

    /// Whether anybody but its own client has something of the answer.
    fn is_wanted(&self) -> bool {
        self.caches() || self.seat.as_ref().is_some_and(Seat::is_followed)
    }

    /// Whether an answer for its own request alone says nothing against what is kept: the backend failed, or on a page for
    /// everyone it is what this caller has shown that bars the answer. What says that the page is another now (it is
    /// gone, or must not be stored) spares nothing, and nor does a caller's own new answer: it would see the old one next.
    fn spares_the_copy(&self, why: Bar, status: StatusCode) -> bool {
        let everyone = self.rules().is_some_and(Rules::everyone);
        status.is_server_error() || (everyone && matches!(why, Bar::Authorization | Bar::Cookie))
    }

    /// Says when an answer came whose backend does not (RFC 9110, 6.6.1).
    fn date(&self, headers: &mut HeaderMap) {
        let date = httpdate::fmt_http_date(self.exchange.wall_clock());
        if let Ok(date) = HeaderValue::from_str(&date) {
            headers.insert(header::DATE, date);
        }
    }

    fn origin(&self) -> kept::Origin {
        kept::Origin { came: clock::now(), born: self.born, resource: self.resource }
    }

    /// The answer of the backend for the client that asked: 304 where it has that answer.
    fn own(&self, head: response::Parts, body: ResponseBody, status: CacheStatus) -> Response<ResponseBody> {
        let mut response = Response::from_parts(head, body);
        status.add_to(response.headers_mut());
        let conditions = &self.reading.conditions;
        let is_200 = response.status() == StatusCode::OK;
        if is_200 && !conditions.is_empty() && has_it(conditions, response.headers()) {
            return not_modified(std::mem::take(response.headers_mut()));
        }
        response
    }

    /// How it is said that the request was forwarded.
    fn forwarded(&self, stored: Stored) -> CacheStatus {
        if self.stale.is_some() { CacheStatus::Renewed(stored) } else { CacheStatus::Miss(stored) }
    }

    fn outcome(
        &self,
        response: Response<ResponseBody>,
        decision: Decision,
        upstream: Option<Duration>,
    ) -> Outcome {
        Outcome { upstream, scope: Some(self.reading.scope), ..Outcome::new(response, decision) }
    }
}

// === impl Under ===

impl Under {
    async fn run(self, parts: Parts) {
        match self.lead.ask(parts, &self.client).await {
            Err(refusal) => self.failed(refusal),
            Ok((answered, Some(stale))) if answered.head.status == StatusCode::NOT_MODIFIED => {
                self.confirmed(&stale, &answered.head);
            }
            Ok((answered, _)) => {
                match self.lead.stand_in().filter(|_| answered.head.status.is_server_error()) {
                    Some(kept) => self.stood_in(kept),
                    None => self.answered(answered).await,
                }
            }
        }
    }

    fn failed(self, refusal: Refusal) {
        match self.lead.stand_in() {
            Some(kept) => self.stood_in(kept),
            // The seat is dropped with the rest: one of those who wait leads anew.
            None => self.client.tell(Err(refusal)),
        }
    }

    fn stood_in(mut self, kept: Arc<Kept>) {
        let outcome = self.lead.reads.answer_stale(&kept, &self.lead.reading, "stale-if-error");
        self.land(Landing::Shared(kept, Origin::StandIn));
        self.client.tell(Ok(outcome));
    }

    /// The backend says that the copy still holds.
    fn confirmed(mut self, stale: &Kept, head: &response::Parts) {
        let lead = &self.lead;
        let (mut headers, body) = (stale.merged(&head.headers), stale.body());
        if !head.headers.contains_key(header::DATE) {
            lead.date(&mut headers);
        }
        // What the 304 itself brings counts too: a cookie in it is for this client alone.
        let why = lead.bar(StatusCode::OK, &headers);
        let Some((lifetime, true)) = lead.lifetime(&headers, Duration::ZERO).filter(|_| why.is_none()) else {
            let mut response = Response::new(ResponseBody::whole(body));
            *response.headers_mut() = headers;
            CacheStatus::Confirmed.add_to(response.headers_mut());
            let outcome = lead.outcome(response, Decision::Revalidated, None);
            let why = why.unwrap_or(Bar::NoStore);
            self.alone(why, lead.spares_the_copy(why, head.status));
            return self.client.tell(Ok(outcome));
        };
        let kept = Arc::new(Kept::new(&headers, &body, lifetime, lead.origin()));
        self.keep(&kept);
        let conditions = &self.lead.reading.conditions;
        let response = kept.answer(conditions, false, clock::now(), CacheStatus::Confirmed);
        let outcome = self.lead.outcome(response, Decision::Revalidated, None);
        self.land(Landing::Shared(kept, Origin::Backend));
        self.client.tell(Ok(outcome));
    }

    /// The backend answered.
    async fn answered(mut self, answered: Answered) {
        let Answered { mut head, body, upstream } = answered;
        let lead = &self.lead;
        let large = body.size_hint().lower() > lead.reads.answer_limit;
        if let Some(why) = lead.bar(head.status, &head.headers).or(large.then_some(Bar::Large)) {
            let spares = lead.spares_the_copy(why, head.status);
            let response = lead.own(head, ResponseBody::stream(body), CacheStatus::Bypass(why.word()));
            let outcome = lead.outcome(response, Decision::Passed, upstream);
            self.alone(why, spares);
            return self.client.tell(Ok(outcome));
        }
        if !head.headers.contains_key(header::DATE) {
            lead.date(&mut head.headers);
        }
        lead.seat.iter().for_each(Seat::answered);
        let bounds = Bounds {
            limit: lead.reads.answer_limit,
            room: lead.reads.flights.gather(),
            deadline: clock::now() + lead.exchange.rules().timeout,
            deadlines: &lead.exchange.worker.deadlines,
        };
        let open = |outlet| {
            let response = lead.own(head.clone(), ResponseBody::piped(outlet), lead.forwarded(Stored::No));
            self.client.tell(Ok(lead.outcome(response, Decision::Passed, upstream)));
        };
        match gather(body, bounds, open, || lead.is_wanted()).await {
            Read::Whole(body, room) => {
                let stored = self.whole(&mut head.headers, &body, upstream);
                let body = ResponseBody::whole(room.counts(body));
                let response = self.lead.own(head, body, self.lead.forwarded(stored));
                self.client.tell(Ok(self.lead.outcome(response, Decision::Passed, upstream)));
            }
            Read::Piped(body) => {
                self.whole(&mut head.headers, &body, upstream);
            }
            Read::Alone => self.alone(Bar::Large, false),
            Read::Broken(error) => {
                let detail = format!("The backend broke off in the middle of its answer. ({error})");
                self.failed(Refusal::new(Reason::UpstreamFailed, detail));
            }
            Read::Ended => {}
        }
    }

    /// The whole answer is there: it is kept, and given to those who wait.
    fn whole(&mut self, headers: &mut HeaderMap, body: &[u8], upstream: Option<Duration>) -> Stored {
        let lead = &self.lead;
        let caches = lead.caches();
        let Some((lifetime, may_keep)) = lead.lifetime(headers, upstream.unwrap_or_default()) else {
            return Stored::No;
        };
        let mut keeps = caches && may_keep && is_worth_keeping(&lifetime, headers);
        if caches && !headers.contains_key(header::ETAG) {
            headers.insert(header::ETAG, own_tag(body));
        }
        if !keeps {
            self.forget();
        }
        // A copy is only made for somebody. Whoever comes from here on leads a call of its own, or finds what is kept.
        if keeps || self.lead.seat.as_ref().is_some_and(Seat::close) {
            let kept = Arc::new(Kept::new(headers, body, lifetime, self.lead.origin()));
            keeps = keeps && self.keep(&kept);
            self.land(Landing::Shared(kept, Origin::Backend));
        }
        if keeps { Stored::Yes } else { Stored::No }
    }

    /// Keeps an answer under what it depends on, unless what is there was asked for after a write that came after this one
    /// was.
    fn keep(&self, kept: &Arc<Kept>) -> bool {
        let Lead { reads, exchange, reading, .. } = &self.lead;
        let (metrics, base) = (exchange.shared().journal.metrics(), reading.base.unwrap_or(reading.key));
        let mut names: Vec<_> = match reading.base {
            Some(_) => varied(&kept.headers()).flatten().collect(),
            None => Vec::new(),
        };
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let key = match (&self.asked, self.lead.rules()) {
            (Some(asked), Some(rules)) if !names.is_empty() => {
                let list = reads.cache.list(&base, &names, metrics);
                reading.varied(exchange, rules, asked, &names).within(list)
            }
            _ => base,
        };
        let is_later = |slot| matches!(slot, Some(Slot::Kept(known)) if known.born > kept.born);
        if is_later(reads.cache.get(&key)) {
            return false;
        }
        metrics.reads.stored();
        reads.cache.put(key, Slot::Kept(kept.clone()), metrics);
        reads.cache.forget(&reading.alone);
        true
    }

    /// An answer for its own request alone: those who wait go by themselves, and for a while nobody waits. It takes the place of
    /// what was kept, unless it `spares_the_copy`.
    fn alone(&mut self, why: Bar, spares_the_copy: bool) {
        let Lead { reads, exchange, reading, .. } = &self.lead;
        let metrics = exchange.shared().journal.metrics();
        metrics.reads.barred(why);
        let pause = if why == Bar::Status { ALONE_FOR_A_STATUS } else { ALONE_FOR };
        if !spares_the_copy {
            reads.cache.forget(&reading.base.unwrap_or(reading.key));
        }
        reads.cache.put(reading.alone, Slot::Alone(clock::now() + pause, why.word()), metrics);
        self.land(Landing::Alone);
    }

    /// The copy that there was is nothing to go by any more.
    fn forget(&self) {
        let Lead { reads, reading, stale, .. } = &self.lead;
        if stale.is_some() {
            reads.cache.forget(&reading.base.unwrap_or(reading.key));
        }
    }

    fn land(&mut self, landing: Landing) {
        if let Some(seat) = self.lead.seat.take() {
            seat.land(landing);
        }
    }
}

/// Whether a copy will be of use: fresh for a while, good for an emergency, or one that the backend can be asked about.
fn is_worth_keeping(lifetime: &Lifetime, headers: &HeaderMap) -> bool {
    let lasting = [lifetime.fresh, lifetime.stale_if_error, lifetime.stale_while_revalidate];
    lasting.iter().any(|lasting| !lasting.is_zero())
        || headers.contains_key(header::ETAG)
        || headers.contains_key(header::LAST_MODIFIED)
}

// === impl Client ===

impl Client {
    /// The first word counts. Where the client has left, there is nobody to tell.
    fn tell(&self, outcome: Result<Outcome, Refusal>) {
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(outcome);
        }
    }
}
