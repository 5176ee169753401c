//! `[store]`: where records live, and how many.

use crate::config::model::{StoreConfig, StoreUrl};
use crate::config::problem::Severity;
use crate::config::read::Reader;
use crate::config::redis_url::{RedisLayout, RedisUrl, SharedStore};
use crate::config::table::Table;
use crate::config::values::{self, Read, Wrong};

/// A larger file holds no certificates.
const CA_BYTES_MAX: u64 = 1 << 20;

/// `[store]`
pub(super) fn read(reader: &Reader<'_>, table: &Table<'_>) -> StoreConfig {
    let url = table.parsed_or_default("url", |text| values::store_url(text, reader.dir));
    let shared = shared(reader, table, &url);
    StoreConfig {
        url,
        on_outage: table.word("on_outage"),
        secret: table.secret("secret"),
        lease: table.duration("lease"),
        answer_limit: table.size("answer_limit"),
        memory: table.size("memory"),
        records_max: usize::try_from(table.count("records_max")).unwrap_or(usize::MAX),
        records_per_scope: u32::try_from(table.count("records_per_scope")).unwrap_or(u32::MAX),
        shared,
    }
}

fn shared(reader: &Reader<'_>, table: &Table<'_>, url: &StoreUrl) -> SharedStore {
    let wait_replicas = table.count_set("wait_replicas").and_then(|count| u32::try_from(count).ok());
    let usual = match url {
        StoreUrl::Redis(RedisUrl { layout: RedisLayout::Sentinel(_) | RedisLayout::Cluster, .. }) => 1,
        _ => 0,
    };
    let secure = matches!(url, StoreUrl::Redis(url) if url.tls);
    SharedStore {
        wait_replicas: wait_replicas.unwrap_or(usual),
        prefix: table.parsed_or_default("prefix", prefix),
        timeout: table.duration("timeout"),
        limit_timeout: table.duration("limit_timeout"),
        password: table.secret("password"),
        tls: table.switch("tls") || secure,
        ca: table.text("ca").and_then(|file| {
            let text = table.file(&file, CA_BYTES_MAX)?;
            if !text.contains("-----BEGIN CERTIFICATE-----") {
                reader.report(Severity::Error, &file.path, Wrong::new("the file holds no certificate (PEM)"));
            }
            Some(text.into())
        }),
        state: table.parsed_or_default("state", |text| Ok(reader.dir.join(text))),
    }
}

/// It becomes part of a hash tag, which ends with the first brace.
fn prefix(text: &str) -> Read<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err(Wrong::new("a prefix is 1 to 64 letters, digits and `-_.:`"));
    }
    Ok(text.to_owned())
}
