//! Asking the backend whether what a write wanted is there: a GET built from the write, to the same backend, with the
//! client's own credentials.

use super::body::RequestBody;
use super::clock;
use super::completion::{Asked as Written, completion};
use super::exchange::Exchange;
use super::guard::Intent;
use super::respond;
use super::source::{named, request_fields};
use super::upstream::{Flight, Reuse, send};
use super::whole::Gathered;
use crate::config::{Absent, Guard, InDoubtRule, Recover};
use crate::domain::canon::{BodyInput, fields};
use crate::domain::conflict::{Evidence, Sought};
use crate::domain::event::{Event, Recovery};
use crate::domain::fingerprint::bears_meaning;
use crate::domain::ledger::{Doubt, RecordId, Token};
use crate::domain::selector::Source;
use crate::domain::target::NormalTarget;
use crate::domain::time::Millis;
use crate::store::{Completion, Held};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Uri, response};
use http_body_util::BodyExt;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A question that is ready to be asked.
pub struct Question<'a> {
    exchange: &'a Exchange,
    /// Where in the answer the record is.
    found: &'a Sought,
    /// How often it is asked, and the pause between two of them.
    attempts: (u32, Duration),
    target: Uri,
    headers: HeaderMap,
}

/// Records that are asked about at this moment, so that a crowd of copies asks once.
#[derive(Default)]
pub struct Asking(Mutex<HashSet<RecordId>>);

/// One record's question; over when it is dropped.
pub struct Asked<'a> {
    asking: &'a Asking,
    id: RecordId,
}

/// A doubt as its copy meets it.
pub struct InDoubt {
    /// The attempt.
    pub token: Token,
    /// Since when nobody knows.
    pub since: Millis,
    /// Why.
    pub why: Doubt,
}

/// What asking did for a copy of an outcome in doubt.
enum Settled {
    /// It was executed, and the record says so now.
    Executed,
    /// It was not, and the record is absent: the copy claims anew.
    Freed,
    /// Nothing is settled.
    No,
}

/// One question takes no longer, however long the route's writes may.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// Questions about different records at one time.
const ASKING_MOST: usize = 256;

/// Headers of a write that mean nothing, or something else, in a question about it.
const NOT_ASKED_WITH: [HeaderName; 11] = [
    header::ACCEPT_ENCODING,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HeaderName::from_static("idempotency-key"),
];

// === impl Question ===

impl<'a> Question<'a> {
    /// The question about the write `parts` and `body`; `None` where its values do not make a target.
    pub fn new(
        exchange: &'a Exchange,
        recover: &'a Recover,
        parts: &Parts,
        body: &Bytes,
    ) -> Option<Question<'a>> {
        let fields = request_fields(exchange, parts, body);
        let path = named(exchange, parts.uri.path());
        let source = Source { path: &path, query: parts.uri.query(), headers: &parts.headers, body: &fields };
        let target = match recover.get.fill(&source) {
            Ok(target) => target,
            Err(why) => {
                tracing::debug!(request_id = ?exchange.request_id, ?why, "[route.recover] get cannot be filled");
                return None;
            }
        };
        Question::to(exchange, &target, &parts.headers, (&recover.found, recover.attempts, recover.apart))
    }

    /// A question to a target, with the credentials of the request whose headers are `asker`. `how`: where in the answer the
    /// record is, how often it is asked, and the pause between.
    pub fn to(
        exchange: &'a Exchange,
        target: &str,
        asker: &HeaderMap,
        how: (&'a Sought, u32, Duration),
    ) -> Option<Question<'a>> {
        let normal = NormalTarget::parse(target).ok()?;
        let target = Uri::try_from(normal.as_str()).ok()?;
        let mut headers = asker.clone();
        NOT_ASKED_WITH.iter().for_each(|name| drop(headers.remove(name)));
        let conditions: Vec<HeaderName> =
            headers.keys().filter(|name| bears_meaning(name.as_str())).cloned().collect();
        conditions.iter().for_each(|name| drop(headers.remove(name)));
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let (found, attempts, apart) = how;
        Some(Question { exchange, found, attempts: (attempts, apart), target, headers })
    }

    /// Asks until something is found, as often as the route says. [`Evidence::Absent`] only where every answer said so.
    pub async fn ask(&self) -> Evidence {
        let mut all = Evidence::Absent;
        for attempt in 0..self.attempts.0.max(1) {
            match self.ask_in_turn(attempt).await {
                Evidence::Absent => {}
                Evidence::Nothing(why) => {
                    tracing::debug!(request_id = ?self.exchange.request_id, why, "asking the backend showed nothing");
                    all = Evidence::Nothing(why);
                }
                found @ Evidence::Found(_) => return found,
            }
        }
        all
    }

    /// Asks until an answer says anything but "there is none": where that is what counts, one such answer settles it. What
    /// `is_gone` says so of counts as not found.
    pub async fn ask_for_absence(&self, is_gone: impl Fn(&[u8]) -> bool) -> Evidence {
        for attempt in 0..self.attempts.0.max(1) {
            match self.ask_in_turn(attempt).await {
                Evidence::Absent => {}
                Evidence::Found(text) if is_gone(&text) => {}
                other => return other,
            }
        }
        Evidence::Absent
    }

    /// The first attempt at once, the others after the pause.
    async fn ask_in_turn(&self, attempt: u32) -> Evidence {
        if attempt > 0 {
            tokio::time::sleep(self.attempts.1).await;
        }
        self.ask_once().await
    }

    async fn ask_once(&self) -> Evidence {
        let Ok(permit) = self.exchange.admit() else {
            return Evidence::Nothing("the backend has as much to do as it may".into());
        };
        let mut request = Box::new(Request::new(RequestBody::empty()));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        let flight = Flight::default();
        let limit = self.exchange.shared().policy.config().store.answer_limit;
        let asked = async {
            let reply = send(self.exchange.pool(), permit, request, Reuse::Any, &flight, |_| true).await;
            let mut reply = reply.map_err(|failure| format!("{failure:?}"))?;
            let mut gathered = Gathered::default();
            while let Some(frame) = reply.body.frame().await {
                let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
                gathered.push(data);
                if gathered.len() as u64 > limit {
                    return Err("its answer is too large".to_owned());
                }
            }
            Ok((reply.head, gathered.into_bytes()))
        };
        let until = clock::now() + self.exchange.rules().timeout.min(ASK_WITHIN);
        match self.exchange.worker.deadlines.within(until, pin!(asked)).await {
            None => Evidence::Nothing("the backend did not answer in time".into()),
            Some(Err(why)) => Evidence::Nothing(why),
            Some(Ok((head, body))) => self.evidence(&head, &body),
        }
    }

    fn evidence(&self, head: &response::Parts, body: &Bytes) -> Evidence {
        let value = |name| head.headers.get(name).map(HeaderValue::as_bytes);
        let input = BodyInput {
            content_type: value(header::CONTENT_TYPE),
            content_encoding: value(header::CONTENT_ENCODING),
            query: None,
            body,
        };
        let most = usize::try_from(self.exchange.shared().policy.config().store.answer_limit);
        self.found.look(head.status, &fields(&input, most.unwrap_or(usize::MAX)))
    }
}

/// The record that was found, as an answer: 200 with its JSON.
pub fn record_found(text: Bytes) -> (response::Parts, Bytes) {
    let (mut head, ()) = Response::new(()).into_parts();
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    (head, text)
}

/// Asks the backend about an outcome in doubt, where the route says so. Whether to claim again: the record may tell more.
pub async fn ask_about(
    exchange: &Exchange,
    (parts, body): (&Parts, &Bytes),
    intent: &Intent,
    doubt: &InDoubt,
) -> bool {
    let asks = |guard: &&Guard| guard.rules.in_doubt == InDoubtRule::Recover;
    let Some(guard) = exchange.guard().filter(asks) else { return false };
    let found = |head: &response::Parts, found: &Bytes| {
        let answer = respond::record(head.status, &head.headers, Some(found));
        let asked = Written::of(exchange.counts_as(&parts.method), &parts.uri, &parts.headers);
        completion(exchange, intent, doubt.token, answer, head, &asked)
    };
    let settled = settle(exchange, guard, (parts, body), intent.id, doubt, found).await;
    !matches!(settled, Settled::No)
}

/// A copy has met an outcome in doubt: asks the backend, and settles it where the answer does.
async fn settle(
    exchange: &Exchange,
    guard: &Guard,
    (parts, body): (&Parts, &Bytes),
    id: RecordId,
    doubt: &InDoubt,
    completion: impl FnOnce(&response::Parts, &Bytes) -> Completion,
) -> Settled {
    let shared = exchange.shared();
    let Some(recover) = &guard.recover else { return Settled::No };
    let Some(_asked) = shared.asking.begin(id) else { return Settled::No };
    let Some(question) = Question::new(exchange, recover, parts, body) else { return Settled::No };
    let (held, how) = match question.ask().await {
        Evidence::Found(text) => {
            let (head, body) = record_found(text);
            (shared.store.recovered(completion(&head, &body)).await, Recovery::Executed)
        }
        Evidence::Absent if recover.absent == Absent::Free && is_over(exchange, guard, doubt) => {
            (shared.store.proven_absent(id, doubt.token).await, Recovery::Freed)
        }
        Evidence::Absent | Evidence::Nothing(_) => return Settled::No,
    };
    match held {
        Ok(Held::Yes) => {}
        // Settled meanwhile, or the store is away: the claim that follows tells which.
        Ok(Held::No) => return Settled::Freed,
        Err(error) => {
            tracing::warn!(%error, "what the backend shows of an outcome in doubt could not be recorded");
            return Settled::No;
        }
    }
    shared.journal.event(Event::Recovered {
        route: exchange.rules().name.clone(),
        id,
        request_id: exchange.request_id.to_str().unwrap_or_default().into(),
        how,
    });
    match how {
        Recovery::Freed => Settled::Freed,
        Recovery::Existing | Recovery::Executed => Settled::Executed,
    }
}

/// Whether nobody can send the attempt any more, and the backend has had all the time that it is said to need. That its
/// lease ended proves neither: its gateway may only hang.
fn is_over(exchange: &Exchange, guard: &Guard, doubt: &InDoubt) -> bool {
    let ended = match doubt.why {
        Doubt::OwnerDied
        | Doubt::ConnectionLost
        | Doubt::TimedOut
        | Doubt::AnswerTruncated
        | Doubt::AnswerAmbiguous => true,
        Doubt::LeaseEnded => false,
    };
    let time = exchange.rules().timeout + guard.pause;
    ended && exchange.shared().store.now().since(doubt.since) >= time
}

// === impl Asking ===

impl Asking {
    /// Begins to ask about `id`; `None` where somebody does already, or too much is asked.
    pub fn begin(&self, id: RecordId) -> Option<Asked<'_>> {
        let mut asking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Made only where it is due: a guard that is dropped at once would give back what another one holds.
        (asking.len() < ASKING_MOST && asking.insert(id)).then(|| Asked { asking: self, id })
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.asking.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
