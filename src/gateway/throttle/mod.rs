//! The gate before a route: how often a client may ask, and what becomes of a request that comes before its turn.
//!
//! [`gate`] decides with the domain's arithmetic over [`buckets`]: the request passes, is refused, or waits ([`hold`]).
//! What limits say in answers is [`answer`]'s; who polls too often, [`watch`] notices. Where gateways share a store, it is
//! asked, through [`fleet`].

mod answer;
mod buckets;
mod fleet;
mod flights;
mod hold;
mod ready;
mod turn;
mod watch;

pub use answer::{Notice, decimal};
pub use flights::Flight;
pub use turn::{Shares, stand_again};

use super::caller::Caller;
use super::clock;
use super::exchange::{Exchange, Outcome};
use super::identity::is_within;
use super::line::Line;
use super::reads;
use crate::config::{Clients, Concurrency, Mode, Policy, RoutePolicy, ThrottlePolicy};
use crate::domain::event::{Decision, Event};
use crate::domain::poll::{Alarm, Read};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::throttle::queue::Rank;
use crate::domain::throttle::{Denied, Key, Nanos, Over, Per, retry};
use crate::journal::Metrics;
use crate::store::Store;
use answer::Origins;
use buckets::{Buckets, Keys, Verdict};
use fleet::{Asks, Fleet};
use flights::{Flights, Full};
use hold::Holds;
use http::Method;
use http::header::{self, HeaderMap};
use http::request::Parts;
use ready::Ready;
use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;
use watch::Watches;

/// Limits, lines and watches, shared by all workers.
pub struct Throttles {
    buckets: Buckets,
    holds: Holds,
    watches: Watches,
    flights: Flights,
    origins: Vec<Origins>,
    /// The refusals of each route's limits.
    ready: Vec<Vec<Option<Ready>>>,
    /// Digests whom limits count. Of this process alone: nobody outside can compute one.
    keyed: RandomState,
    /// Where the store counts limits, for all gateways that share it.
    fleet: Option<Fleet>,
    started: Instant,
    storm: Option<(u32, Duration)>,
}

/// One request and its client.
struct Who<'a> {
    exchange: &'a Exchange,
    parts: &'a Parts,
    caller: Caller<'a>,
    /// A digest of the client.
    client: u64,
    /// One of the path.
    path: u64,
    /// When it came.
    now: Nanos,
}

/// A request before its route's limits.
struct Asked<'a> {
    who: Who<'a>,
    throttle: &'a ThrottlePolicy,
    keys: Keys,
}

/// The window of a storm where `poll_storm` is off.
const STORM_WINDOW: Duration = Duration::from_secs(60);
/// Keeps the watch's keys for refusals apart from those for reads.
const REFUSALS: u64 = 0x5ced_c8d1_7ab0_3f29;

/// What becomes of a request at its route's limits, as far as that can be said at once: a flood is refused without ever
/// being waited for.
pub enum Gate {
    /// It goes on.
    Passes,
    /// It is refused, by an answer that is ready or one that is to be made.
    Ends(Result<Outcome, Refusal>),
    /// That takes a while: [`wait`].
    Waits(Waits),
}

/// What a request waits for.
pub enum Waits {
    /// For what the store says, which counts for the whole fleet.
    Fleet,
    /// For its turn, so long at most; this is why it came too early.
    Turn(Duration, Denied),
    /// For a place among the client's requests in flight.
    Flight,
}

/// Looks at a request's limits. OPTIONS is never counted: a preflight is the browser's, not the page's.
pub fn gate(exchange: &Exchange, port: u16, parts: &Parts, line: &mut Line) -> Gate {
    match throttle(exchange, port, parts, line) {
        Gate::Passes if exchange.rules().concurrency.is_some() && parts.method != Method::OPTIONS => {
            Gate::Waits(Waits::Flight)
        }
        gate => gate,
    }
}

/// Waits until it is said whether a request passes (`None`). `is_plain`: it may have what an equal read gets, or got.
pub async fn wait(
    exchange: &Exchange,
    port: u16,
    parts: &Parts,
    line: &mut Line,
    waits: Waits,
    is_plain: bool,
) -> Result<Option<Outcome>, Refusal> {
    let throttles = &exchange.shared().throttles;
    if let (Some(asked), Waits::Fleet | Waits::Turn(..)) = (Asked::by(exchange, parts), &waits) {
        let gate = match (waits, &throttles.fleet) {
            (Waits::Fleet, Some(fleet)) => {
                let waiting = throttles.holds.is_waiting(asked.keys.own);
                let asks = if waiting { Asks::Behind } else { Asks::First };
                let verdict = fleet.decide(&asked, asks).await;
                asked.decided(verdict, port, line)
            }
            (waits, _) => Gate::Waits(waits),
        };
        let answered = match gate {
            Gate::Waits(Waits::Turn(at_most, denied)) => {
                // Equal reads that are one call to the backend share one turn.
                let read = if is_plain { reads::key(exchange, parts) } else { None };
                asked.hold(at_most, denied, read, is_plain, line).await?
            }
            Gate::Ends(end) => Some(end?),
            _ => None,
        };
        if answered.is_some() {
            return Ok(answered);
        }
    }
    fly(exchange, parts, line).await?;
    Ok(None)
}

/// Waits until few enough of the client's requests are in flight. After its turn: whoever waits for that has nothing in
/// flight.
async fn fly(exchange: &Exchange, parts: &Parts, line: &mut Line) -> Result<(), Refusal> {
    let flight = place(exchange, parts).await?.map(Rc::new);
    exchange.flight.set(flight.clone());
    line.limits.flight = flight;
    Ok(())
}

async fn place(exchange: &Exchange, parts: &Parts) -> Result<Option<Flight>, Refusal> {
    let shared = exchange.shared();
    let Some(rules) = exchange.rules().concurrency.filter(|_| exchange.rules().mode != Mode::Observe) else {
        return Ok(None);
    };
    let caller = exchange.caller(&parts.headers);
    let keyed = &shared.throttles.keyed;
    let client = keyed.hash_one((caller.digest(keyed), exchange.route));
    let address = caller.umbrella(keyed).map(|address| keyed.hash_one((address, exchange.route, UMBRELLA)));
    let flights = &shared.throttles.flights;
    let times = umbrella(&shared.policy.config().clients);
    match flights.fly_under(client, address, times, rules).await {
        Ok(flight) => Ok(Some(flight)),
        Err(full) => Err(too_many(rules, full, times)),
    }
}

fn too_many(rules: Concurrency, full: Full, times: usize) -> Refusal {
    let most = rules.per_client;
    let (most, whose) = match full {
        Full::Client => (most, "this client"),
        Full::Address => (most.saturating_mul(times), "all clients of this address"),
    };
    let detail = format!(
        "{most} requests of {whose} are in flight on this route, as many as it allows, and no place became free in time; nothing was sent."
    );
    Refusal::new(Reason::TooManyInFlight, detail).retry_after(Duration::from_secs(1))
}

/// How many times what one client may have all those of an address have together that prove nothing.
fn umbrella(clients: &Clients) -> usize {
    usize::try_from(clients.umbrella).unwrap_or(usize::MAX)
}

fn throttle(exchange: &Exchange, port: u16, parts: &Parts, line: &mut Line) -> Gate {
    let throttles = &exchange.shared().throttles;
    if parts.method == Method::OPTIONS {
        return Gate::Passes;
    }
    let Some(asked) = Asked::by(exchange, parts) else {
        if is_read(parts) && throttles.storm.is_some() {
            Who::asks(exchange, parts).polls(port, false, line);
        }
        return Gate::Passes;
    };
    let (throttle, keys, now) = (asked.throttle, asked.keys, asked.who.now);
    let verdict = match (throttles.holds.is_waiting(keys.own), &throttles.fleet) {
        // Whoever waits already comes first; the hard limit still counts.
        (true, None) => throttles.buckets.arrive(throttle, keys, now),
        (false, None) => throttles.buckets.take(throttle, keys, now, true),
        (_, Some(_)) => return Gate::Waits(Waits::Fleet),
    };
    asked.decided(verdict, port, line)
}

fn is_read(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
}

/// Keeps an address's count for all its clients apart from its own as a client.
const UMBRELLA: u64 = 0x3b1d_90c2_6fe5_4a87;

/// What the table takes where no route has limits: the least that `limit_memory` allows.
const UNLIMITED_BYTES: u64 = 1 << 20;

// === impl Throttles ===

impl Throttles {
    /// For this configuration; nobody has asked yet. Where the store is shared, it counts the limits.
    pub fn new(policy: &Policy, store: &Store, started: Instant) -> Throttles {
        let config = policy.config();
        let clients = &config.clients;
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        // The table is made whole at the start; where nobody is limited it must not cost its memory.
        let limited = config.routes.iter().any(|route| route.throttle.is_some());
        let bytes = if limited { clients.limit_memory } else { UNLIMITED_BYTES };
        Throttles {
            buckets: Buckets::new(bytes),
            holds: Holds::new(clients.held_max, clients.held_per_client, umbrella(clients)),
            watches: Watches::default(),
            flights: Flights::default(),
            ready: policy.routes().iter().map(ready::of).collect(),
            origins: config.routes.iter().map(|_| Origins::default()).collect(),
            keyed: RandomState::new(),
            fleet: store.shares_limits().then(|| Fleet::new(config, store.secret())),
            started,
            storm: clients.poll_storm.map(|storm| (count(storm.count()), storm.window())),
        }
    }

    /// Where a client waits: one that nobody has proven together with all others of its address.
    pub fn rank(&self, caller: &Caller<'_>) -> Rank {
        let client = caller.digest(&self.keyed);
        Rank { group: caller.umbrella(&self.keyed).unwrap_or(client), client }
    }

    /// Ends every hold: the gateway drains.
    pub fn drain(&self) {
        self.holds.drain();
    }

    /// Tells the gauges. Called by the workers' sweep.
    pub fn report(&self, metrics: &Metrics, store: &Store) {
        let figures = self.buckets.figures();
        if self.fleet.is_some() {
            metrics.limits.set_fleet(store.limits_are_away(), store.gateways());
        }
        metrics.limits.set(figures.used, figures.overflowed, self.holds.held() as u64);
    }

    /// The read under this key was answered without the backend.
    pub fn absorbed(&self, key: u64) {
        self.watches.absorbed(key);
    }

    /// Adds what limits say to the answer of an exchange on `route`: what every answer says as lines, where it takes some.
    pub fn tell(
        &self,
        route: &RoutePolicy,
        notice: &Notice,
        refused: bool,
        answer: &mut HeaderMap,
        lines: Option<&mut Vec<u8>>,
    ) {
        let (Some(throttle), Some(origins)) = (&route.throttle, self.origins.get(route.index)) else {
            return;
        };
        match refused {
            true => notice.tell_refused(throttle, origins, answer, lines),
            false => notice.tell(throttle, origins, answer, lines),
        }
    }

    /// The same of pages where no limit has anything to say: learns who may read a backend's answer, and lets them read a refusal.
    pub fn tell_page(&self, route: usize, origin: &http::HeaderValue, refused: bool, answer: &mut HeaderMap) {
        let Some(origins) = self.origins.get(route) else { return };
        match refused {
            true => origins.tell_refused(origin, answer),
            false => drop(origins.hear(origin, answer)),
        }
    }

    /// The limiter's clock.
    fn now(&self) -> Nanos {
        let since = clock::recent().saturating_duration_since(self.started);
        // Never zero, which stands for a bucket that nobody has used.
        Nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1))
    }

    /// The buckets that a client, and its address where it proves nothing, have on a route. `path` is a digest, too.
    fn keys(throttle: &ThrottlePolicy, space: u64, client: u64, umbrella: Option<u64>, path: u64) -> Keys {
        let key = |who: u64, kind: u64| match throttle.rules.per {
            Per::Route => Key::of(&[space, kind]),
            Per::Client => Key::of(&[space, kind, who]),
            Per::ClientResource => Key::of(&[space, kind, who, path]),
        };
        let umbrella = umbrella.filter(|_| throttle.rules.per != Per::Route);
        Keys { own: key(client, 0), umbrella: umbrella.map(|address| key(address, 1)) }
    }
}

/// A keyed digest of some bytes.
fn digest(keyed: &impl BuildHasher, bytes: &[u8]) -> u64 {
    let mut hasher = keyed.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// A path as it is counted. A closing slash means nothing, in counting as in matching, and neither do the parameters of a
/// segment: with them each request could have a bucket of its own.
fn resource(path: &str) -> Cow<'_, [u8]> {
    if !path.contains(';') {
        return Cow::Borrowed(path.strip_suffix('/').unwrap_or(path).as_bytes());
    }
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    let path = segments.collect::<Vec<_>>().join("/");
    Cow::Owned(path.strip_suffix('/').unwrap_or(&path).into())
}

// === impl Who ===

impl<'a> Who<'a> {
    fn asks(exchange: &'a Exchange, parts: &'a Parts) -> Who<'a> {
        let throttles = &exchange.shared().throttles;
        let caller = exchange.caller(&parts.headers);
        let client = caller.digest_by(&throttles.keyed, &exchange.connection.last_address);
        let path = digest(&throttles.keyed, &resource(parts.uri.path()));
        Who { exchange, parts, client, path, caller, now: throttles.now() }
    }

    /// Notes a read, and tells a storm that it begins.
    fn polls(&self, port: u16, early: bool, line: &mut Line) {
        let (shared, rules) = (self.exchange.shared(), self.exchange.rules());
        let throttles = &shared.throttles;
        let path = self.parts.uri.path();
        let early_most = rules.throttle.as_ref().map_or(u32::MAX, |throttle| throttle.storm);
        let (reads, within) = throttles.storm.unwrap_or((u32::MAX, STORM_WINDOW));
        let key = Key::of(&[self.exchange.route as u64, self.client, self.path]).0.max(1);
        line.limits.polled = Some(key);
        let alarm = Alarm { reads, early: early_most, within };
        let told = throttles.watches.note(&Read { key, early, port }, &alarm, self.now);
        let Some(storm) = told else { return };
        let template = shared.policy.template(&self.parts.method, path);
        shared.journal.event(Event::PollStorm {
            route: rules.name.clone(),
            template: template.unwrap_or_else(|| rules.name.clone()),
            path: path.to_owned(),
            client: self.caller.name(&shared.digest),
            storm,
        });
    }
}

// === impl Asked ===

impl<'a> Asked<'a> {
    /// `None` where nothing limits it.
    fn by(exchange: &'a Exchange, parts: &'a Parts) -> Option<Asked<'a>> {
        let throttle = exchange.rules().throttle.as_deref()?;
        if is_within(&throttle.allow, exchange.address) {
            return None;
        }
        let who = Who::asks(exchange, parts);
        let umbrella =
            who.caller.umbrella_by(&exchange.shared().throttles.keyed, &exchange.connection.last_address);
        let keys = Throttles::keys(throttle, throttle.space, who.client, umbrella, who.path);
        Some(Asked { who, throttle, keys })
    }

    /// What the verdict means for it.
    fn decided(&self, verdict: Verdict, port: u16, line: &mut Line) -> Gate {
        let Who { exchange, parts, .. } = self.who;
        if is_read(parts) {
            self.who.polls(port, !matches!(verdict, Verdict::Allowed(_)), line);
        }
        let stand = verdict.stand(self.throttle.rules.limits.len());
        let origin = if exchange.of_page { parts.headers.get(header::ORIGIN).cloned() } else { None };
        // Whoever is only observed is told nothing.
        line.limits.notice = (!self.throttle.observed).then_some(Notice { stand, origin });
        let over = self.throttle.rules.over;
        match verdict {
            Verdict::Allowed(_) => Gate::Passes,
            _ if self.throttle.observed => {
                let held = matches!((&verdict, over), (Verdict::Early(..), Over::Hold { .. }));
                line.limits.would = Some(if held { Decision::WouldHold } else { Decision::WouldRefuse });
                Gate::Passes
            }
            Verdict::Hard(denied, _) => Gate::Ends(self.refused(denied, true)),
            Verdict::Early(denied, _) => match over {
                Over::Reject => Gate::Ends(self.refused(denied, false)),
                Over::Hold { at_most } => Gate::Waits(Waits::Turn(at_most, denied)),
            },
        }
    }

    /// 429, with the limit and how long it takes.
    fn refused(&self, denied: Denied, hard: bool) -> Result<Outcome, Refusal> {
        let exchange = self.who.exchange;
        let shared = exchange.shared();
        let limit = || match (&self.throttle.rules.hard, hard) {
            (Some(hard), true) => *hard,
            _ => self.throttle.stack[denied.by.min(self.throttle.stack.len() - 1)],
        };
        let news = Read { key: (self.keys.own.0 ^ REFUSALS).max(1), early: false, port: 0 };
        let alarm = Alarm { reads: 1, early: 1, within: STORM_WINDOW };
        let news = shared.throttles.watches.note(&news, &alarm, shared.throttles.now()).is_some();
        shared.journal.throttled(news, || Event::Throttled {
            route: exchange.rules().name.clone(),
            path: self.who.parts.uri.path().to_owned(),
            client: self.who.caller.name(&shared.digest),
            limit: limit().to_string(),
            wait: denied.wait,
            request_id: exchange.request_id.to_str().unwrap_or_default().into(),
        });
        let fleet = shared.throttles.fleet.as_ref();
        let wait = fleet.map_or(denied.wait, |fleet| fleet.enough(denied.wait));
        let seconds = retry::seconds(wait, exchange.worker.chance());
        let texts = &self.throttle.texts;
        let at = if hard { texts.len().saturating_sub(1) } else { denied.by };
        let ready = shared.throttles.ready.get(exchange.route).and_then(|ready| ready.get(at)?.as_ref());
        if let Some(ready) = ready {
            return Ok(ready.answer(exchange, seconds));
        }
        let refusal = ready::refusal(texts.get(at).map_or("", String::as_str), &seconds.to_string());
        Err(refusal.retry_after(Duration::from_secs(seconds)))
    }
}
