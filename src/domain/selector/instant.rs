//! Dates with times as instants: what `datetime:` makes of a text.

use jiff::civil::{Date, DateTime, date};
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The time zone of dates and times that bring no offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// Ten digits are seconds since 1970, thirteen are milliseconds: from 2001 to 2286 nothing else is meant by them.
const SECONDS_DIGITS: usize = 10;
const MILLIS_DIGITS: usize = 13;
/// The day in whose course instants end.
const LAST_DAY: Date = date(9999, 12, 30);

// === impl Zone ===

impl Zone {
    /// UTC.
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// A zone by its name in the IANA database, as in `Asia/Kolkata`. The database is part of the program.
    pub fn parse(name: &str) -> Result<Zone, String> {
        TimeZone::get(name)
            .map(Zone)
            .map_err(|_| format!("`{name}` is no time zone; write one as in \"Asia/Kolkata\", or \"UTC\""))
    }

    /// The instant that a text names: a date with a time and an offset or `Z` (RFC 3339, ISO 8601); the same without an
    /// offset, in this zone; a date alone, which is the beginning of its day in this zone; seconds or milliseconds since
    /// 1970 in ten or thirteen digits. Past the last instant there is, which is the way to write "never", it is that one.
    pub fn instant(&self, text: &str) -> Option<Timestamp> {
        let text = text.trim();
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.len() {
                SECONDS_DIGITS => Timestamp::from_second(text.parse().ok()?).ok(),
                MILLIS_DIGITS => Timestamp::from_millisecond(text.parse().ok()?).ok(),
                _ => None,
            };
        }
        if Pieces::parse(text).is_ok_and(|pieces| pieces.date() > LAST_DAY) {
            return Some(Timestamp::MAX);
        }
        if text.contains('[') {
            return text.parse::<Zoned>().ok().map(|zoned| zoned.timestamp());
        }
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Some(instant);
        }
        let local = match text.parse::<DateTime>() {
            Ok(local) => local,
            Err(_) => text.parse::<Date>().ok()?.into(),
        };
        // In the hour that a clock set back repeats, and in the one that a clock set forward leaves out, there is a rule
        // (the earlier offset, and the later time), so that one text is always one instant.
        local.to_zoned(self.0.clone()).ok().map(|zoned| zoned.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(zone: &str, text: &str) -> Option<String> {
        Zone::parse(zone).expect("a zone").instant(text).map(|instant| instant.to_string())
    }

    #[test]
    fn one_instant_in_many_spellings() {
        for text in [
            "2026-11-25T10:00:00+05:30",
            "2026-11-25T04:30:00Z",
            "2026-11-25t04:30:00.000z",
            "2026-11-25 04:30Z",
            "2026-11-25T10:00",
            "2026-11-25 10:00:00",
            " 2026-11-25T10:00:00.0 ",
            "2026-11-25T10:00:00+05:30[Asia/Kolkata]",
            "20261125T100000",
            "1795581000",
            "1795581000000",
        ] {
            assert_eq!(instant("Asia/Kolkata", text).as_deref(), Some("2026-11-25T04:30:00Z"), "{text}");
        }
        assert_eq!(instant("Asia/Kolkata", "2026-11-25").as_deref(), Some("2026-11-24T18:30:00Z"));
        assert_eq!(
            instant("Europe/Berlin", "2026-10-25T02:30").as_deref(),
            Some("2026-10-25T00:30:00Z"),
            "the clock is set back: the earlier of the two"
        );
    }

    #[test]
    fn the_way_to_write_never_is_the_last_instant() {
        for text in ["9999-12-31T23:59:59Z", "9999-12-31", "9999-12-31 00:00", "9999-12-31T23:59:59+05:30"] {
            assert_eq!(instant("UTC", text), Some(Timestamp::MAX.to_string()), "{text}");
        }
        assert_eq!(instant("UTC", "9999-12-30").as_deref(), Some("9999-12-30T00:00:00Z"));
        assert_eq!(instant("UTC", "9999-12-32"), None);
        assert_eq!(instant("UTC", "9999-12-31T25:00Z"), None);
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in
            ["", "tomorrow", "10:00", "2026-13-01T10:00", "2026-11-25T25:00", "12345", "25.11.2026 10:00"]
        {
            assert_eq!(instant("UTC", text), None, "{text}");
        }
        assert!(Zone::parse("Asia/Nowhere").expect_err("no zone").contains("Asia/Kolkata"));
    }
}
