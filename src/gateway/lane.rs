//! Which lane a write belongs to.

use super::exchange::Exchange;
use super::source::{named, request_fields};
use crate::config::Guard;
use crate::domain::lane::LaneId;
use crate::domain::selector::{Found, Source};
use crate::store::LaneAbout;
use bytes::Bytes;
use http::request::Parts;

/// A write's lane.
#[derive(Clone, Debug)]
pub struct InLane {
    /// Which one.
    pub id: LaneId,
    /// The same for the operator.
    pub about: LaneAbout,
}

/// The lane of a request, where its route has lanes. What a selector does not find, or cannot read, is a value like any
/// other: such requests share a lane among themselves, because a write that waits too much is better than one that
/// overtakes.
pub fn lane_of(exchange: &Exchange, guard: &Guard, parts: &Parts, body: &Bytes) -> Option<Box<InLane>> {
    let lane = guard.lane.as_ref()?;
    let reads_body = lane.by.iter().any(|selector| selector.reads_body());
    let fields = request_fields(exchange, parts, if reads_body { body } else { &[] });
    let path = named(exchange, parts.uri.path());
    let source = Source { path: &path, query: parts.uri.query(), headers: &parts.headers, body: &fields };
    let (mut keys, mut shown) = (Vec::with_capacity(lane.by.len()), String::new());
    for selector in &lane.by {
        let mut key = Vec::new();
        if !shown.is_empty() {
            shown.push_str(", ");
        }
        match selector.find(&source) {
            Found::Value(value) => {
                key.push(b'=');
                value.push_key(&mut key);
                shown.push_str(&value.shown());
            }
            Found::Missing => {
                key.push(b'-');
                shown.push('-');
            }
            Found::Unreadable(_) => {
                key.push(b'?');
                shown.push('?');
            }
        }
        keys.push(key);
    }
    let id = exchange.shared().digest.lane_id(&lane.name, &keys);
    Some(Box::new(InLane { id, about: LaneAbout { name: lane.name.clone(), key: shown.into() } }))
}
