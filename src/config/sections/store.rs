//! `[store]`: where records live, and how many.

use crate::config::model::StoreConfig;
use crate::config::read::Reader;
use crate::config::table::Table;
use crate::config::values;

/// `[store]`
pub(super) fn read(reader: &Reader<'_>, table: &Table<'_>) -> StoreConfig {
    StoreConfig {
        url: table.parsed_or_default("url", |text| values::store_url(text, reader.dir)),
        on_outage: table.word("on_outage"),
        secret: table.secret("secret"),
        lease: table.duration("lease"),
        answer_limit: table.size("answer_limit"),
        memory: table.size("memory"),
        records_max: usize::try_from(table.count("records_max")).unwrap_or(usize::MAX),
        records_per_scope: u32::try_from(table.count("records_per_scope")).unwrap_or(u32::MAX),
    }
}
