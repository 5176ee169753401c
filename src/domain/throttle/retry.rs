//! When a refused client may come back. What it is told is always enough, and differs between clients that were refused
//! together.

use std::time::Duration;

/// The seconds to tell a client that has to wait so long: rounded up, and later by up to a quarter of the wait (at least a
/// second), so that clients which were refused together do not come back together. `chance` is any number.
pub fn seconds(wait: Duration, chance: u64) -> u64 {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let spread = (wait / 4).max(1_000);
    wait.saturating_add(chance % spread).div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_is_told_is_enough_and_not_much_more() {
        for millis in [0, 1, 999, 1_000, 1_001, 6_000, 60_000, 3_600_000] {
            for chance in [0, 1, 499, 999, 1_000, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
                let (wait, told) =
                    (Duration::from_millis(millis), seconds(Duration::from_millis(millis), chance));
                assert!(Duration::from_secs(told) > wait, "{told} s for {wait:?}");
                assert!(told * 1_000 <= millis + millis / 4 + 2_001, "{told} s for {wait:?}");
            }
        }
    }

    #[test]
    fn clients_that_were_refused_together_come_back_apart() {
        let told: std::collections::BTreeSet<u64> =
            (0..1_000).map(|n: u64| seconds(Duration::from_secs(60), n.wrapping_mul(7919))).collect();
        assert!(told.len() > 10, "{told:?}");
    }
}
