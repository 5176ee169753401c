//! What follows from a write that an operator settles as executed. Its record keeps its method and path and nothing of its
//! body, so what is known of that is done, and what is not is told.

use crate::config::Successes;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::says::Says;
use crate::domain::target::NormalTarget;
use crate::gateway::{changes_below, changes_target};
use crate::store::{About, Follows, Free};
use http::{Method, StatusCode};
use std::time::Duration;

/// What is done, and the slots of which nobody knows here whether the write gave them back.
pub(super) fn follows(
    successes: &Successes,
    digest: &FingerprintKey,
    about: &About,
    status: StatusCode,
) -> (Option<Follows>, Vec<String>) {
    known(successes, digest, about, Says::of(status)).unwrap_or_default()
}

fn known(
    successes: &Successes,
    digest: &FingerprintKey,
    about: &About,
    says: Says,
) -> Option<(Option<Follows>, Vec<String>)> {
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
    Some((Some(Follows { target: target(normal.resource()), ends, frees }), unsure))
}
