//! What has to hold between the limits of a connection, and of what it brings.

use super::Check;
use crate::config::values::show_size;

/// What a request's first line and the shortest headers take beside its target.
const BESIDES_TARGET: usize = 256;

impl Check<'_> {
    /// A target has to fit the head that it is in, and a body what all bodies may take.
    pub(super) fn rim(&self) {
        let server = &self.config.server;
        self.bodies();
        if server.target_limit + BESIDES_TARGET > server.head_limit {
            let set = if self.reader.is_set("server.target_limit") {
                "server.target_limit"
            } else {
                "server.head_limit"
            };
            let head = show_size(server.head_limit as u64);
            let message = format!("the longest target does not fit the largest head (`head_limit`, {head})");
            self.error(set, message, "make `target_limit` smaller than `head_limit` by 256 bytes or more");
        }
        if let Some(flood) = server.flood.filter(|flood| flood.burst < flood.requests_per_second) {
            let message = format!(
                "`burst` is below `requests_per_second`: {} requests are refused although they are within the rate",
                flood.requests_per_second - flood.burst
            );
            self.warn(
                "server.flood.burst",
                message,
                "browsers ask for a page's parts at once: allow a second's worth",
            );
        }
    }

    /// A body that does not say its length takes room for the longest that it may have.
    fn bodies(&self) {
        let server = &self.config.server;
        let own = self.config.routes.iter().enumerate();
        let own = own.filter_map(|(at, route)| Some((format!("route[{at}].body_limit"), route.body_limit?)));
        for (path, limit) in std::iter::once(("server.body_limit".to_owned(), server.body_limit)).chain(own) {
            if limit > server.body_memory && !self.reader.failed("server.body_memory") {
                let (limit, memory) = (show_size(limit), show_size(server.body_memory));
                let message = format!(
                    "`body_limit` ({limit}) is above `server.body_memory` ({memory}), which all bodies share"
                );
                let set = if self.reader.is_set(&path) { path } else { "server.body_memory".to_owned() };
                self.error(
                    &set,
                    message,
                    "a body of unknown length would always be refused: raise `body_memory`",
                );
            }
        }
    }
}
