//! What follows from a write that an operator settles as executed. Its record keeps its method and path and nothing of its
//! body, so what is known of that is done, and what is not is told.

use crate::config::{Named, Successes};
use crate::domain::answer::Answer;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::says::Says;
use crate::domain::selector::Source;
use crate::domain::slot::Booking;
use crate::domain::target::NormalTarget;
use crate::gateway::{changes_below, changes_target, fields_of_answer};
use crate::store::{About, Follows, Free};
use http::Method;
use std::sync::Arc;
use std::time::Duration;

/// What is done, and the slots of which nobody knows here whether the write gave them back.
pub(super) fn follows(
    successes: &Successes,
    digest: &FingerprintKey,
    about: &About,
    answer: &Answer,
) -> (Option<Follows>, Vec<String>) {
    known(successes, digest, about, answer).unwrap_or_default()
}

fn known(
    successes: &Successes,
    digest: &FingerprintKey,
    about: &About,
    answer: &Answer,
) -> Option<(Option<Follows>, Vec<String>)> {
    let says = Says::of(answer.status());
    if about.is_cut() {
        let slots = says.is_success().then(|| successes.released_by(&about.route)).into_iter().flatten();
        return Some((None, slots.collect()));
    }
    let (method, path) = about.request.split_once(' ')?;
    let method: Method = method.parse().ok()?;
    let named = successes.find(&about.route, &method, path)?;
    let target = |resource: &str| digest.target_id(&named.rules.upstream, resource);
    let normal = NormalTarget::parse(path).ok()?;
    let (mut frees, mut unsure) = (Vec::new(), Vec::new());
    // The operator's word counts here, whatever the route makes of a redirect.
    for release in named.rules.slots.releases.iter().filter(|_| says.is_success()) {
        let is_certain = named.method == Method::DELETE || release.when.is_empty();
        match named.booking(release, digest).filter(|_| is_certain) {
            Some(booking) => frees.push(Free { booking: booking.key, remember: false }),
            None => unsure.push(release.slot.to_string()),
        }
    }
    let ends = (says.is_success() && changes_target(&named.method)).then(|| {
        let parents = normal.parents().skip(1).map(target).collect();
        let below = if changes_below(&named.method) { named.rules.remembered_most } else { Duration::ZERO };
        (parents, below)
    });
    let bookings = bookings(&named, digest, answer);
    Some((Some(Follows { target: target(normal.resource()), ends, frees, bookings }), unsure))
}

/// What the answer calls the booking of each slot that the route takes, as the gateway reads it in a backend's answer.
fn bookings(named: &Named<'_>, digest: &FingerprintKey, answer: &Answer) -> Vec<(Arc<str>, Booking)> {
    let (takes, headers) = (&named.rules.slots.takes, answer.headers());
    if takes.is_empty() {
        return Vec::new();
    }
    let fields = fields_of_answer(&headers, Some(&answer.body()), named.rules.decoded_bytes_max);
    let source = Source::answer(&headers, &fields);
    let mut bookings: Vec<(Arc<str>, Booking)> = Vec::new();
    for (at, slot) in takes.iter().enumerate() {
        // Of several entries of one name the first one says where the booking is.
        let is_first = takes.iter().take(at).all(|other| other.name != slot.name);
        let booking = slot.booking(digest, &source).filter(|_| is_first);
        bookings.extend(booking.map(|booking| (slot.name.clone(), booking)));
    }
    bookings
}
