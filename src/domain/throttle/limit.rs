//! One limit: so many requests per window, and how many of them at once. `"10/min"`, `"1/2s burst 3"`.

use std::fmt;
use std::time::Duration;

/// Nanoseconds on the limiter's own clock, which starts with the process. Limits are written in milliseconds and up, and
/// decided to the microsecond; the finer unit keeps `7/min` from drifting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

/// So many requests per window, as a GCRA bucket: one request every `interval`, and up to `burst` at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    count: u64,
    window: Duration,
    burst: u64,
    /// Nanoseconds, rounded up: a limit is never exceeded by rounding.
    interval: u64,
}

/// Requests a second that a limit may allow at most: below a microsecond apart, nothing here could tell them apart.
const RATE_MOST: u64 = 1_000_000;
/// The largest count and burst.
const COUNT_MOST: u64 = 1_000_000_000;
/// The longest window: a year.
const WINDOW_LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// The longest time that a full burst may stand for: everything stays far within 64 bits of nanoseconds.
const DEPTH_LONGEST: u64 = 100 * 366 * 86_400 * 1_000_000_000;

const UNITS: [(&str, u64); 12] = [
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("second", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("h", 3_600_000),
    ("hour", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("week", 604_800_000),
];

// === impl Nanos ===

impl Nanos {
    /// This instant moved later.
    pub fn after(self, by: Duration) -> Nanos {
        Nanos(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this instant is; zero where it is not after it.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

// === impl Limit ===

impl Limit {
    /// `count` requests per `window`, `burst` of them at once. The error is a sentence for the person who wrote it.
    pub fn new(count: u64, window: Duration, burst: u64) -> Result<Limit, String> {
        if !(1..=COUNT_MOST).contains(&count) || !(1..=COUNT_MOST).contains(&burst) {
            return Err(format!("count and burst are from 1 to {COUNT_MOST}"));
        }
        if window.is_zero() || window > WINDOW_LONGEST {
            return Err("the window is from 1ms to a year".into());
        }
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let interval = nanos.div_ceil(count);
        if interval < 1_000_000_000 / RATE_MOST {
            return Err(format!("a limit allows at most {RATE_MOST} requests a second"));
        }
        if interval.checked_mul(burst).is_none_or(|depth| depth > DEPTH_LONGEST) {
            return Err("such a burst would take more than a century to come back".into());
        }
        Ok(Limit { count, window, burst, interval })
    }

    /// Reads `COUNT/WINDOW`, with `burst N` behind it where more or fewer may come at once than the count.
    pub fn parse(text: &str) -> Result<Limit, String> {
        const EXAMPLE: &str = "write a count and a window, as in \"10/min\" or \"1/2s burst 3\"";
        let mut words = text.split_ascii_whitespace();
        let (rate, burst) = (words.next().ok_or(EXAMPLE)?, (words.next(), words.next(), words.next()));
        let (count, window) = rate.split_once('/').ok_or(EXAMPLE)?;
        let count = number(count).ok_or(EXAMPLE)?;
        let window = window_of(window)?;
        let burst = match burst {
            (None, ..) => count,
            (Some("burst"), Some(burst), None) => {
                number(burst).ok_or("`burst` is followed by a whole number, as in \"1/2s burst 3\"")?
            }
            _ => return Err(EXAMPLE.into()),
        };
        Limit::new(count, window, burst)
    }

    /// Requests per [`Limit::window`].
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time for [`Limit::count`] requests.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Requests at once after a rest.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Nanoseconds from one request to the next.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// Nanoseconds for a whole burst to come back.
    pub fn depth(&self) -> u64 {
        self.interval * self.burst
    }

    /// The same limit in whole microseconds, as a shared store counts: rounded up, so that it is never exceeded by it.
    pub fn in_micros(&self) -> Limit {
        Limit { interval: self.interval.next_multiple_of(1_000), ..*self }
    }

    /// One gateway's part of a limit that `gateways` of them keep without hearing of each other. At least `least` may come
    /// at once: what costs so much has to pass some time.
    pub fn share(&self, gateways: u64, least: u64) -> Limit {
        let gateways = gateways.max(1);
        let burst = (self.burst / gateways).max(least);
        Limit { burst, interval: self.interval.saturating_mul(gateways), ..*self }
    }

    /// The same limit, so many times as wide.
    pub fn times(&self, factor: u64) -> Limit {
        let (count, burst) = (self.count.saturating_mul(factor), self.burst.saturating_mul(factor));
        // What would be out of range is a limit that nobody reaches; the widest one that can be counted stands for it.
        Limit::new(count, self.window, burst).unwrap_or(Limit {
            count,
            window: self.window,
            burst,
            interval: (self.interval / factor.max(1)).max(1),
        })
    }
}

impl fmt::Display for Limit {
    /// As it would be written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        let short = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
        let (unit, factor) =
            short.into_iter().find(|(_, factor)| millis.is_multiple_of(*factor)).unwrap_or(("ms", 1));
        write!(f, "{}/", self.count)?;
        match millis / factor {
            1 => f.write_str(unit)?,
            many => write!(f, "{many}{}", if unit == "min" { "m" } else { unit })?,
        }
        if self.burst != self.count {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

fn window_of(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (many, unit) = text.split_at(digits);
    let many = if many.is_empty() { Some(1) } else { number(many) };
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let (Some(many), Some((_, millis))) = (many, known) else {
        return Err(
            "the window is a unit of ms, s, min, h and day, or so many of them, as in \"1/2s\"".into()
        );
    };
    many.checked_mul(*millis).map(Duration::from_millis).ok_or_else(|| "the window is too long".into())
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_written() {
        for (text, count, millis, burst, shown) in [
            ("10/min", 10, 60_000, 10, "10/min"),
            ("1/2s burst 3", 1, 2_000, 3, "1/2s burst 3"),
            ("600/min", 600, 60_000, 600, "600/min"),
            ("5/s", 5, 1_000, 5, "5/s"),
            ("100/h burst 10", 100, 3_600_000, 10, "100/h burst 10"),
            ("1/500ms", 1, 500, 1, "1/500ms"),
            ("1000/day", 1000, 86_400_000, 1000, "1000/d"),
            ("3/5m", 3, 300_000, 3, "3/5m"),
            ("10/60s", 10, 60_000, 10, "10/min"),
        ] {
            let limit = Limit::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(
                (limit.count(), limit.window().as_millis(), limit.burst()),
                (count, millis, burst),
                "{text}"
            );
            assert_eq!(limit.to_string(), shown, "{text}");
            assert_eq!(Limit::parse(shown), Ok(limit), "what is shown can be written");
        }
    }

    #[test]
    fn what_is_no_limit_says_how_to_write_one() {
        for text in [
            "",
            "10",
            "10/",
            "/min",
            "0/min",
            "10/0s",
            "10/mon",
            "-1/s",
            "+1/s",
            "1.5/s",
            "10 / min",
            "10/min burst",
            "10/min burst 0",
            "10/min burst x",
            "10/min 3",
            "10/min burst 3 4",
            "2000000/s",
            "1000000000/ms",
            "1/400day",
            "1/day burst 1000000000",
        ] {
            assert!(Limit::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wider_limit_is_wider_in_count_and_burst() {
        let wide = Limit::parse("1/2s burst 3").map(|limit| limit.times(50)).expect("a limit");
        assert_eq!((wide.count(), wide.burst(), wide.interval()), (50, 150, 40_000_000));
        let most = Limit::parse("1000000/s").map(|limit| limit.times(1000)).expect("a limit");
        assert!(most.interval() >= 1);
    }

    #[test]
    fn a_gateways_share_is_a_part_of_the_rate_and_of_the_burst_and_lets_everything_pass_some_time() {
        let limit = Limit::parse("10/min burst 6").expect("a limit");
        let share = limit.share(3, 1);
        assert_eq!((share.burst(), share.interval()), (2, 18_000_000_000));
        assert_eq!(limit.share(0, 1), limit);
        assert_eq!(limit.share(100, 4).burst(), 4);
    }

    #[test]
    fn in_microseconds_a_limit_is_no_wider() {
        let limit = Limit::parse("7/min").expect("a limit");
        let micros = limit.in_micros();
        assert!(micros.interval() >= limit.interval() && micros.interval().is_multiple_of(1_000));
        assert_eq!(micros.to_string(), "7/min");
        assert_eq!(Limit::parse("10/min").map(|limit| limit.in_micros()), Limit::parse("10/min"));
    }
}
