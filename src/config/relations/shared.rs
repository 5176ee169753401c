//! What a shared store needs of the rest of the file, and what is written for one and has no effect without.

use super::Check;
use crate::config::model::StoreUrl;
use crate::config::redis_url::RedisLayout;
use crate::config::values::show_duration;

/// Keys of `[store]` that mean nothing without a shared one.
const SHARED_KEYS: [&str; 8] =
    ["wait_replicas", "prefix", "timeout", "limit_timeout", "password", "tls", "ca", "state"];

impl Check<'_> {
    pub(super) fn shared_store(&self) {
        let store = &self.config.store;
        let StoreUrl::Redis(url) = &store.url else {
            let unused = SHARED_KEYS.iter().map(|key| format!("store.{key}"));
            for path in unused.filter(|path| self.reader.is_set(path) && !self.reader.failed("store.url")) {
                let message = format!("`{path}` has no effect: the store is not shared");
                self.note(&path, message, "take it out, or write a `redis:` address as `store.url`");
            }
            return;
        };
        if store.secret.is_none() && !self.reader.failed("store.secret") {
            let message = "a shared store needs a `secret`: gateways with different ones never know the same request again";
            self.error(
                "store.url",
                message,
                "give all gateways of the fleet one `store.secret = { file = \"…\" }`",
            );
        }
        if url.password.is_some() && store.shared.password.is_some() {
            let message = "the address holds a password, and `store.password` another";
            self.error("store.password", message, "keep one of them");
        }
        if store.shared.ca.is_some() && !store.shared.tls {
            let message = "`ca` has no effect: connections to the store are not encrypted";
            self.warn("store.ca", message, "write a `rediss:` address, or tls = true");
        }
        if store.shared.timeout >= store.lease {
            let message = format!(
                "a command of the store may take `timeout` ({}), and the lease is over by then ({})",
                show_duration(store.shared.timeout),
                show_duration(store.lease)
            );
            self.error("store.timeout", message, "make it a small part of `lease`");
        }
        if store.shared.wait_replicas == 0 && url.layout != RedisLayout::Single {
            let message = "`wait_replicas = 0`: a failover may forget claims, and copies of their writes are executed again";
            self.warn("store.wait_replicas", message, "leave it at 1");
        }
    }
}
