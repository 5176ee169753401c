//! The flood guard: how many requests one address may send, whatever they are for. Outermost, before a route is looked
//! for, and off unless `[server.flood]` says otherwise. It is no limit of a client; those are a route's.
//!
//! tower_governor keeps the buckets. It is asked as a gate: its service is called with a request that has no body, so
//! that nothing of it wraps the requests themselves.

use crate::config::Flood as Config;
use crate::domain::client::counted_address;
use crate::domain::refusal::{Reason, Refusal};
use axum::body::Body;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tower::{Layer, Service};
use tower_governor::governor::{Governor, GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

/// The guard of one gateway; workers share its buckets.
#[derive(Clone)]
pub struct Flood {
    gate: Governor<Buckets, Plain, Open, Body>,
    config: Arc<GovernorConfig<Buckets, Plain>>,
    crowded: Arc<AtomicBool>,
    rule: Config,
}

type Plain = governor::middleware::NoOpMiddleware;

/// Behind the gate: everybody may pass.
#[derive(Clone, Copy, Debug)]
pub struct Open;

/// Which bucket a request is counted in.
#[derive(Clone, Debug)]
pub struct Buckets {
    crowded: Arc<AtomicBool>,
}

/// A bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Of one address.
    Address(IpAddr),
    /// Of all whose addresses share this number, while there are too many for a bucket each: it can only count too much.
    Shared(u16),
}

/// So many addresses have a bucket each.
const ADDRESSES_MOST: usize = 100_000;
/// Buckets for all others.
const SHARED: u64 = 4096;

impl Service<Request<()>> for Open {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

// === impl Buckets ===

impl KeyExtractor for Buckets {
    type Key = Bucket;

    fn extract<T>(&self, request: &Request<T>) -> Result<Bucket, GovernorError> {
        let address = request.extensions().get().copied().ok_or(GovernorError::UnableToExtractKey)?;
        if !self.crowded.load(Relaxed) {
            return Ok(Bucket::Address(address));
        }
        let mut hasher = DefaultHasher::new();
        address.hash(&mut hasher);
        Ok(Bucket::Shared((hasher.finish() % SHARED) as u16))
    }
}

// === impl Flood ===

impl Flood {
    /// The guard that the configuration describes. `None` where its numbers make none.
    pub fn new(rule: Config) -> Option<Flood> {
        let crowded = Arc::new(AtomicBool::new(false));
        // `period` is the time in which one request is given back; `per_second(n)` would mean one in n seconds.
        let period = Duration::from_secs(1) / rule.requests_per_second.max(1);
        let config = GovernorConfigBuilder::default()
            .period(period)
            .burst_size(rule.burst)
            .key_extractor(Buckets { crowded: crowded.clone() })
            .finish()?;
        let config = Arc::new(config);
        let gate = GovernorLayer::new(config.clone()).layer(Open);
        Some(Flood { gate, config, crowded, rule })
    }

    /// Whether a request of `address` may go on.
    pub fn ask(&self, address: IpAddr) -> Result<(), Refusal> {
        let mut request = Request::new(());
        request.extensions_mut().insert(counted_address(address));
        // The gate is always ready, and so is what is behind it.
        let asked = self.gate.clone().call(request).now_or_never();
        let Some(Ok(answer)) = asked.filter(|answer| {
            answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS)
        }) else {
            return Ok(());
        };
        let seconds =
            answer.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
        // Its seconds are rounded down, so one more is what suffices.
        let wait = Duration::from_secs(seconds.unwrap_or(0_u64) + 1);
        let Config { requests_per_second, burst } = self.rule;
        let detail = format!(
            "Of this address more requests come than the gateway takes: {requests_per_second} a second, and {burst} at \
             once. Nothing was sent to the backend."
        );
        Err(Refusal::new(Reason::Flooded, detail).retry_after(wait))
    }

    /// Forgets the buckets that are full again. Called by a worker's sweep.
    pub fn sweep(&self) {
        let limiter = self.config.limiter();
        limiter.retain_recent();
        self.crowded.store(limiter.len() > ADDRESSES_MOST, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(requests_per_second: u32, burst: u32) -> Flood {
        Flood::new(Config { requests_per_second, burst }).expect("a guard")
    }

    #[test]
    fn an_address_has_its_burst_and_nobody_elses() {
        let flood = flood(1, 3);
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert!((0..3).all(|_| flood.ask(one).is_ok()));
        let refused = flood.ask(one).expect_err("the fourth");
        assert_eq!((refused.reason, refused.status), (Reason::Flooded, 429));
        assert!(flood.ask(other).is_ok());
    }

    #[test]
    fn the_rate_is_what_it_says_and_the_wait_suffices() {
        let flood = flood(5, 1);
        let address: IpAddr = [192, 0, 2, 1].into();
        assert!(flood.ask(address).is_ok());
        let wait = flood.ask(address).expect_err("at once").retry_after.expect("a wait");
        assert_eq!(wait, Duration::from_secs(1), "never 0");
        std::thread::sleep(Duration::from_millis(230));
        assert!(flood.ask(address).is_ok(), "five a second, and not one in five seconds");
    }

    #[test]
    fn one_household_counts_as_one_and_a_mapped_address_as_itself() {
        let flood = flood(1, 1);
        let ask = |text: &str| flood.ask(text.parse().expect("an address")).is_ok();
        assert!(ask("2001:db8:1:2::1") && !ask("2001:db8:1:2::2") && ask("2001:db8:1:3::1"));
        assert!(ask("192.0.2.1") && !ask("::ffff:192.0.2.1"));
    }

    #[test]
    fn buckets_are_forgotten_when_they_are_full_and_shared_when_there_are_too_many() {
        let flood = flood(1000, 1);
        for n in 0..1000_u32 {
            let _ = flood.ask(IpAddr::from(n.to_be_bytes()));
        }
        std::thread::sleep(Duration::from_millis(20));
        flood.sweep();
        assert!(flood.config.limiter().is_empty(), "{}", flood.config.limiter().len());
        flood.crowded.store(true, Relaxed);
        for n in 0..20_000_u32 {
            let _ = flood.ask(IpAddr::from(n.to_be_bytes()));
        }
        assert!(flood.config.limiter().len() as u64 <= SHARED);
    }
}
