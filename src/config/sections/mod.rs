//! The file's sections, one file each: from tables to the model. What concerns one value is checked here; what concerns
//! several is in `relations`.

mod clients;
mod race;
mod reads;
mod route;
mod server;
mod slot;
mod store;
mod throttle;
mod tls;
mod upstream;

use crate::config::model::{Config, Mode, OnOutage};
use crate::config::read::Reader;
use crate::config::table::{Table, Word};
use crate::config::values::{self, Wrong, quote};

impl Word for Mode {
    const WORDS: &'static [(&'static str, Mode)] = &[("enforce", Mode::Enforce), ("observe", Mode::Observe)];
}

impl Word for OnOutage {
    const WORDS: &'static [(&'static str, OnOutage)] =
        &[("refuse", OnOutage::Refuse), ("forward", OnOutage::Forward)];
}

/// Reads the whole file. Where something was wrong, a default stands in its place.
pub(super) fn config(reader: &Reader<'_>) -> Config {
    let root = Table::root(reader);
    root.require("upstream", "add [[upstream]] with the backend's `name` and `url`");
    root.require("route", "add [[route]] with `name`, `match` and `upstream`");
    let upstreams: Vec<_> =
        root.tables("upstream").iter().map(|table| upstream::read(reader, table)).collect();
    let time_zone = root.parsed_or_default("time_zone", values::time_zone);
    let routes =
        root.tables("route").iter().map(|table| route::read(table, &upstreams, &time_zone)).collect();
    Config {
        mode: root.word("mode"),
        time_zone,
        server: server::read(reader, &root.table("server")),
        admin: server::read_admin(&root.table("admin")),
        log: server::read_log(&root.table("log")),
        store: store::read(reader, &root.table("store")),
        clients: clients::read(reader, &root.table("clients")),
        cache: reads::read_memory(&root.table("cache")),
        upstreams,
        routes,
    }
}

/// Reports every item that is in a list twice.
fn report_twice(reader: &Reader<'_>, path: &str, items: &[String]) {
    for (at, item) in items.iter().enumerate() {
        if items[..at].contains(item) {
            let path = format!("{path}[{at}]");
            reader.report(
                crate::config::problem::Severity::Warning,
                &path,
                Wrong::new(format!("{} is there twice", quote(item))),
            );
        }
    }
}
