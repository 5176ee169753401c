//! Times of day in log lines: RFC 3339 in UTC with milliseconds.

#![allow(clippy::disallowed_methods, reason = "this file stamps log lines with the wall clock")]

use std::time::{SystemTime, UNIX_EPOCH};

/// An instant that displays as `2026-11-22T10:44:01.123Z`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(pub(super) SystemTime);

/// The clock of log lines that `tracing` formats.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogClock;

// === impl Stamp ===

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let millis = since.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March here, so that the leap day is a
/// year's last and months have a regular length.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

// === impl LogClock ===

impl tracing_subscriber::fmt::time::FormatTime for LogClock {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", Stamp(SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn stamps_know_leap_days_and_century_rules() {
        let at = |millis: u64| Stamp(UNIX_EPOCH + Duration::from_millis(millis)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_200_000), "2024-03-01T00:00:00.000Z");
        assert_eq!(at(1_795_344_241_123), "2026-11-22T10:44:01.123Z");
        assert_eq!(at(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut before = civil(0);
        for day in 1..146_097 {
            let date = civil(day);
            let next_day = date.0 == before.0 && date.1 == before.1 && date.2 == before.2 + 1;
            let next_month = date.2 == 1 && date.1 == before.1 % 12 + 1 && before.2 >= 28;
            assert!(next_day || next_month, "{before:?} then {date:?}");
            before = date;
        }
    }
}
