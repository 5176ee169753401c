//! What has to hold between the limits of a connection.

use super::Check;
use crate::config::values::show_size;

/// What a request's first line and the shortest headers take beside its target.
const BESIDES_TARGET: usize = 256;

impl Check<'_> {
    /// A target has to fit the head that it is in.
    pub(super) fn rim(&self) {
        let server = &self.config.server;
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
}
