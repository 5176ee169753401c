//! `[cache]` and `[route.cache]`: answers of reads that are kept or shared.

use crate::config::model::{CacheKey, CacheMemory, RouteCache, Share};
use crate::config::table::{Table, Word};

impl Word for Share {
    const WORDS: &'static [(&'static str, Share)] = &[("scope", Share::Scope), ("everyone", Share::Everyone)];
}

impl Word for CacheKey {
    const WORDS: &'static [(&'static str, CacheKey)] =
        &[("headers", CacheKey::Headers), ("vary", CacheKey::Vary)];
}

/// `[cache]`
pub(super) fn read_memory(table: &Table<'_>) -> CacheMemory {
    CacheMemory { memory: table.size("memory"), answer_limit: table.size("answer_limit") }
}

/// `[route.cache]`
pub(super) fn read(table: &Table<'_>) -> RouteCache {
    RouteCache {
        ttl: table.duration("ttl"),
        overrides: table.switch("override"),
        stale_if_error: table.duration("stale_if_error"),
        stale_while_revalidate: table.duration("stale_while_revalidate"),
        stale_if_throttled: table.duration("stale_if_throttled"),
        share: table.word("share"),
        key: table.word("key"),
    }
}
