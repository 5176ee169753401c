//! Copies under a client's key, which the gateway that completed the write answers without the store.

use super::{booking, usual};
use crate::harness::{claims, within};
use std::time::Duration;

/// Longer than a message takes, shorter than what is not heard counts.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

#[test]
fn a_copy_under_a_key_asks_the_store_nothing_until_an_operator_deletes_its_record_anywhere() {
    let fleet = usual(2);
    assert_eq!(fleet.send(0, &booking(1)).status, 201);
    // Copies that come one after another, and how many scripts the server ran meanwhile: each gateway's keeper runs some, too.
    let scripts_for_copies = |gate: usize| {
        let count = || {
            let told = fleet.redis.cli(&["info", "commandstats"]);
            let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
            line.and_then(|line| line.split(',').next()?.parse::<u32>().ok()).expect("a count")
        };
        let before = count();
        assert!((0..300).all(|_| fleet.send(gate, &booking(1)).is_replay()));
        count() - before
    };
    let here = scripts_for_copies(0);
    assert!(here < 150, "{here} scripts");
    assert!(scripts_for_copies(1) >= 300, "what another gateway completed is asked for");
    let listed = claims(&fleet.gates[1], &["list", "--json"]).stdout;
    let listed = String::from_utf8(listed).expect("text");
    let id = listed.split(|letter: char| !letter.is_ascii_hexdigit()).find(|word| word.len() == 64);
    assert!(claims(&fleet.gates[1], &["delete", id.expect("one record")]).status.success());
    within(HEARD_WITHIN, "the one that remembers it hears of that", || {
        (!fleet.send(0, &booking(1)).is_replay()).then_some(())
    });
    assert!(fleet.send(1, &booking(1)).is_replay());
    assert_eq!(fleet.backend.effects().len(), 2);
}

#[test]
fn a_copy_under_a_key_is_answered_although_the_store_has_just_gone() {
    let mut fleet = usual(2);
    assert_eq!(fleet.send(0, &booking(1)).status, 201);
    fleet.redis.kill();
    assert!(fleet.send(0, &booking(1)).is_replay());
    for (gate, n) in [(0, 2), (1, 1)] {
        let refused = fleet.send(gate, &booking(n));
        assert!(refused.status == 503 && refused.text().contains("store-unavailable"), "{}", refused.text());
    }
    assert_eq!(fleet.backend.effects().len(), 1);
}
