//! A store whose time is ahead of its server's clock, as after another server with a clock of its own took its place.

use super::losses::until_agreed;
use super::{SECRET, booking, until_made, usual};
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{Call, Config, RawBackend, gates, ok};

/// An earlier server's clock was an hour ahead: until then the store's time does not go on.
fn an_hour_ahead(redis: &Server) {
    let clock = redis.cli(&["get", "{oncegate}clock"]);
    let (instant, agreement) = clock.trim_end().split_once(' ').expect("an instant and an agreement");
    let ahead = instant.parse::<u64>().expect("milliseconds") + 3_600_000;
    let set = redis.cli(&["set", "{oncegate}clock", &format!("{ahead} {agreement}"), "keepttl"]);
    assert_eq!(set.trim(), "OK");
}

#[test]
fn a_store_whose_time_stands_still_is_agreed_on_again_after_a_restart() {
    let mut fleet = usual(1);
    assert_eq!(fleet.send(0, &booking(1)).status, 201);
    an_hour_ahead(&fleet.redis);
    fleet.redis.kill();
    fleet.redis.run();
    assert_eq!(until_made(&fleet, 0, &booking(2)).status, 201);
    assert!(fleet.send(0, &booking(1)).is_replay());
    assert_eq!(fleet.backend.effects().len(), 2);
}

#[test]
fn below_a_deleted_collection_every_write_is_executed_once_on_an_empty_server_whose_clock_is_behind() {
    let (raw, mut redis) = (RawBackend::start(ok), Server::start(&DURABLE));
    let config = Config { store: SECRET, idempotency: "remember_fingerprint = \"60s\"", ..Config::default() };
    let (gates, _directories) = gates(2, &config.text(raw.address).replace("{store}", &redis.url()));
    let is_replay = |gate: usize, method: &str, path: &str| {
        let call = Call::new(method, path).header("Host", "cal.example").body("same");
        let reply = until_agreed(&gates[gate], &call);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.is_replay()
    };
    an_hour_ahead(&redis);
    assert!(!is_replay(0, "PUT", "/api/calendar") && !is_replay(1, "DELETE", "/api/cal"));
    redis.kill();
    redis.forget();
    redis.run();
    assert!(!is_replay(0, "PUT", "/api/cal/b"));
    assert!(is_replay(0, "PUT", "/api/cal/b") && is_replay(1, "PUT", "/api/cal/b"));
    assert!(is_replay(1, "PUT", "/api/calendar"));
}

#[test]
fn a_store_that_loses_everything_again_while_its_time_stands_still_is_told_again() {
    let fleet = usual(2);
    an_hour_ahead(&fleet.redis);
    assert!((0..2).all(|n| fleet.send(n as usize, &booking(n)).status == 201));
    // From the second time on the gateways say that instant themselves.
    for _ in 0..3 {
        fleet.redis.cli(&["flushall"]);
        // By the gateway that has to ask for it.
        assert!((0..2).all(|n| until_made(&fleet, 1 - n as usize, &booking(n)).is_replay()));
    }
    assert_eq!(fleet.backend.effects().len(), 2);
}
