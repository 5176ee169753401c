//! What a write does to kept answers. From before it is forwarded until after it was answered nothing that its scope
//! asked for is kept, and what it changed (its target, and what its answer names) is forgotten for everyone (RFC 9111,
//! 4.4).

use super::Reads;
use super::endings::Endings;
use crate::domain::client::ScopeId;
use crate::domain::ledger::TargetId;
use crate::domain::says::Says;
use crate::gateway::changes::{destination, path_named};
use crate::gateway::clock;
use crate::gateway::exchange::Exchange;
use crate::gateway::identity::Shown;
use crate::gateway::worker::Shared;
use crate::store::{HearsWrites, WriteHeard, WriteTold};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// One write under way. However it ends, its end is told when this is dropped.
pub struct Writing {
    reads: Arc<Reads>,
    scope: ScopeId,
    path: String,
    /// What a COPY or MOVE makes.
    destination: Option<String>,
    authority: Option<HeaderValue>,
    caller: Shown,
    timeout: Duration,
    shared: Arc<Shared>,
    /// What the others are told with its end.
    changed: Vec<TargetId>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes may have left, and no answer has come.
    Untold,
    /// The same, and nobody waits for one any more: its scope is open.
    Unknown,
    /// It is known how it ended.
    Told,
}

/// How long a write waits until the other gateways are told of it.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

// === impl Exchange ===

impl Exchange {
    /// The gateway's kept answers, where any route keeps some.
    pub fn reads(&self) -> Option<&Arc<Reads>> {
        self.worker.shared.reads.as_ref()
    }

    /// The scope that reads and writes of this caller have in common: without an Idempotency-Key's.
    pub fn scope_of(&self, shown: &Shown) -> ScopeId {
        let shared = self.shared();
        shared.store.scope_of(self.connection.last_caller.counted(shown, &shared.digest, self.address))
    }

    /// A write is about to be forwarded, and every gateway of the fleet has been told. `None` where nothing is kept that it
    /// could end.
    pub async fn writing<B>(&self, request: &Request<B>) -> Option<Box<Writing>> {
        let reads = self.reads()?.clone();
        let (target, headers) = (request.uri(), request.headers());
        let caller = self.shown(headers);
        let scope = self.scope_of(&caller);
        let timeout = self.rules().timeout;
        reads.write_begins(scope);
        let store = &self.shared().store;
        if store.has_others() {
            let told = store.tell_write(WriteTold::Begins(scope, Endings::untold(timeout)));
            if !matches!(
                self.worker.deadlines.within(clock::now() + TOLD_WITHIN, pin!(told)).await,
                Some(Ok(()))
            ) {
                tracing::warn!(request_id = ?self.request_id, "not all other gateways confirmed that they heard of a write; what they keep may be older than it");
            }
        }
        Some(Box::new(Writing {
            reads,
            scope,
            path: target.path().to_owned(),
            destination: destination(request.method(), target, headers),
            authority: headers.get(header::HOST).cloned(),
            caller,
            timeout,
            shared: self.worker.shared.clone(),
            changed: Vec::new(),
            state: State::Untold,
        }))
    }
}

// === impl Writing ===

impl Writing {
    /// The answer's head came. To be told before any of it goes out.
    pub fn answered(&mut self, exchange: &Exchange, status: StatusCode, headers: &HeaderMap) {
        self.told();
        let mut ended: Vec<TargetId> = Vec::new();
        if Says::of(status).is_success() {
            ended.push(exchange.target(&self.path));
            ended.extend(self.destination.as_deref().map(|path| exchange.target(path)));
            let named = [header::LOCATION, header::CONTENT_LOCATION];
            ended.extend(
                named.iter().filter_map(|name| self.named(headers, name)).map(|path| exchange.target(&path)),
            );
        }
        self.reads.changed(self.scope, &ended);
        self.changed = ended;
        // Whoever gets other cookies by this comes back as somebody else, who must not see what was before it either.
        if headers.contains_key(header::SET_COOKIE)
            && let Some(renewed) = self.caller.renewed(headers, exchange.wall_clock())
        {
            self.reads.changed(exchange.scope_of(&renewed), &[]);
        }
    }

    /// Known not executed.
    pub fn not_sent(&mut self) {
        self.told();
    }

    /// The backend may carry it out at any moment, and nobody would hear of it: until the answer comes after all, or
    /// cannot any more, nothing of this scope is kept.
    pub fn unknown(&mut self) {
        if self.state == State::Untold {
            self.state = State::Unknown;
            self.reads.write_untold(self.scope, Endings::untold(self.timeout));
        }
    }

    fn told(&mut self) {
        if self.state == State::Unknown {
            self.reads.write_told(self.scope);
        }
        self.state = State::Told;
    }

    /// The path of this gateway that a header of the answer names.
    fn named(&self, headers: &HeaderMap, name: &HeaderName) -> Option<String> {
        path_named(&self.path, self.authority.as_ref(), headers.get(name)?.to_str().ok()?)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.state != State::Told {
            // The backend may still carry it out: until it cannot any more, nothing of this scope is kept.
            self.reads.write_untold(self.scope, Endings::untold(self.timeout));
        }
        self.reads.write_ended(self.scope);
        // Until they hear it the others keep nothing of this scope, so nobody has to wait for it.
        if self.shared.store.has_others() && self.state == State::Told {
            let (shared, changed) = (self.shared.clone(), std::mem::take(&mut self.changed));
            let told = WriteTold::Ended(self.scope, changed);
            tokio::task::spawn_local(async move {
                let _ = shared.store.tell_write(told).await;
            });
        }
    }
}

// === impl Reads ===

impl HearsWrites for Reads {
    fn heard(&self, heard: WriteHeard) {
        let (now, endings) = (clock::now(), &self.endings);
        match heard {
            WriteHeard::Told(WriteTold::Begins(scope, at_most)) => {
                endings.opened(scope.0, now, now + at_most)
            }
            WriteHeard::Told(WriteTold::Ended(scope, changed)) => {
                endings.closed(scope.0, now);
                changed.iter().for_each(|resource| endings.end(resource.0, now));
            }
            WriteHeard::Deaf => endings.set_deaf(true),
            WriteHeard::Hearing => endings.set_deaf(false),
        }
    }
}

impl Reads {
    fn write_begins(&self, scope: ScopeId) {
        self.endings.end(scope.0, clock::now());
    }

    fn changed(&self, scope: ScopeId, resources: &[TargetId]) {
        let now = clock::now();
        self.endings.end(scope.0, now);
        resources.iter().for_each(|resource| self.endings.end(resource.0, now));
    }

    fn write_untold(&self, scope: ScopeId, within: Duration) {
        let now = clock::now();
        self.endings.opened(scope.0, now, now + within);
    }

    fn write_told(&self, scope: ScopeId) {
        self.endings.closed(scope.0, clock::now());
    }

    fn write_ended(&self, scope: ScopeId) {
        self.endings.end(scope.0, clock::now());
    }
}
