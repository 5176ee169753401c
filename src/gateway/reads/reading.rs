//! One read, as far as it bears on who may have its answer.

use super::endings::EndingId;
use crate::config::{CacheKey, Reads as Rules};
use crate::domain::client::{ScopeId, counted_address};
use crate::domain::ledger::TargetId;
use crate::domain::read::{Asked, Counted, Directives, Keyed, ReadKey, Reader};
use crate::gateway::exchange::Exchange;
use crate::gateway::upstream::OriginalTarget;
use http::Method;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;

/// A request that may be answered from a copy.
pub struct Reading {
    /// Names the whole request: whose call it may wait for.
    pub key: ReadKey,
    /// What its answer is kept under, where that is another key: see [`Reading::kept_under`].
    pub base: Option<ReadKey>,
    /// Where it is noted that such reads go by themselves. On a page for everyone, one caller's credentials say nothing
    /// about the reads of those who have none.
    pub alone: ReadKey,
    /// Who asks.
    pub scope: ScopeId,
    /// What it says about copies.
    pub wants: Directives,
    /// Its conditions, where it has any: a cache answers them.
    pub conditions: HeaderMap,
    /// Only the head is wanted.
    pub head_only: bool,
    /// The scope is more than an address.
    shown: bool,
    everyone: bool,
    authorization: bool,
    token_proves_it: bool,
}

// === impl Reading ===

impl Reading {
    /// Reads a request's head.
    pub fn of(exchange: &Exchange, rules: &Rules, parts: &Parts) -> Reading {
        let shared = exchange.shared();
        let everyone = rules.everyone();
        // For a page that everyone shares, who asks only matters where that one has written something.
        let known = (!everyone || exchange.reads().is_some_and(|reads| !reads.endings.are_none()))
            .then(|| exchange.shown(&parts.headers));
        let scope = known.as_ref().map_or(ScopeId([0; 16]), |shown| exchange.scope_of(shown));
        let token_proves_it = !everyone && known.as_ref().is_some_and(|shown| shown.is_from_token());
        let mut conditions = HeaderMap::new();
        for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            for value in parts.headers.get_all(&name) {
                conditions.append(name.clone(), value.clone());
            }
        }
        let mut reading = Reading {
            key: ReadKey([0; 32]),
            base: None,
            alone: ReadKey([0; 32]),
            scope,
            wants: Directives::of(&parts.headers),
            conditions,
            head_only: parts.method == Method::HEAD,
            everyone,
            shown: known.is_some_and(|shown| !shown.is_empty()),
            authorization: parts.headers.contains_key(header::AUTHORIZATION),
            token_proves_it,
        };
        let key = |counted| shared.digest.read_key(&reading.asked(exchange, rules, parts, counted));
        let whole = key(Counted::All);
        let base = rules
            .cache
            .as_ref()
            .filter(|cache| cache.key == CacheKey::Vary)
            .map(|_| key(Counted::Varied(&[])));
        let shows = |name: HeaderName| everyone && parts.headers.contains_key(name);
        let kind = u8::from(shows(header::AUTHORIZATION)) | u8::from(shows(header::COOKIE)) << 1;
        reading.alone = base.unwrap_or(whole).aside(kind);
        (reading.key, reading.base) = (whole, base);
        reading
    }

    /// Names what a copy is kept under, where the backend's word counts on what it varies by.
    pub fn varied(&self, exchange: &Exchange, rules: &Rules, parts: &Parts, names: &[HeaderName]) -> ReadKey {
        let asked = self.asked(exchange, rules, parts, Counted::Varied(names));
        exchange.shared().digest.read_key(&asked)
    }

    fn asked<'a>(
        &self,
        exchange: &'a Exchange,
        rules: &'a Rules,
        parts: &'a Parts,
        counted: Counted<'a>,
    ) -> Asked<'a> {
        let reader = if rules.everyone() {
            Reader::Everyone
        } else {
            let address = counted_address(exchange.address);
            Reader::Scope { scope: self.scope, address, token_proves_it: self.token_proves_it }
        };
        Asked {
            reader,
            route: &exchange.rules().name,
            scheme: if exchange.connection.secure { "https" } else { "http" },
            uri: &parts.uri,
            spelling: parts.extensions.get().map(|OriginalTarget(target)| target.as_str()),
            // A GET's copy answers a HEAD too.
            method: &Method::GET,
            headers: &parts.headers,
            counted,
            credentials: &rules.credentials,
            request_id: &exchange.shared().policy.config().server.request_id_header,
        }
    }

    /// How it was keyed, for the question whether its answer may be shared.
    pub fn keyed<'a>(&self, exchange: &'a Exchange, rules: &'a Rules) -> Keyed<'a> {
        Keyed {
            everyone: rules.everyone(),
            shown: self.shown,
            authorization: self.authorization,
            token_proves_it: self.token_proves_it,
            credentials: &rules.credentials,
            request_id: &exchange.shared().policy.config().server.request_id_header,
        }
    }

    /// The marks that end a copy of `resource` for this reader. Whoever has shown nothing is not told apart from others
    /// behind its address: on a page for everyone only what was written counts for it, not who wrote.
    pub fn ended_by(&self, resource: TargetId) -> [EndingId; 2] {
        if self.everyone && !self.shown { [resource.0, resource.0] } else { [self.scope.0, resource.0] }
    }
}
