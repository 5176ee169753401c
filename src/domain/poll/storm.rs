//! Poll storms: one client reads one path far more often than anybody could look at it. Each storm is told once.
//!
//! The memory is a fixed table of the busiest; where it is full, whoever reads least makes room. That only ever delays an
//! alarm: limits do not depend on it.

use crate::domain::throttle::Nanos;
use std::time::Duration;

/// Entries of a group, among which one makes room.
const GROUP: usize = 4;
/// Words of a port's bitmap: 256 bits count up to some hundreds of ports well enough.
const PORT_WORDS: usize = 4;

/// Who reads what how often.
#[derive(Debug)]
pub struct Watch {
    entries: Vec<Entry>,
}

/// When it is a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// So many reads …
    pub reads: u32,
    /// … or so many before their turn …
    pub early: u32,
    /// … within this time.
    pub within: Duration,
}

/// One read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// A keyed digest of client, route and path; never zero.
    pub key: u64,
    /// Whether it came before its turn.
    pub early: bool,
    /// The source port that it came from.
    pub port: u16,
}

/// A storm has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    /// Reads so far …
    pub reads: u32,
    /// … in this time.
    pub within: Duration,
    /// Source ports that they came from; an estimate where they are many.
    pub ports: u32,
    /// Of those reads, how many were answered without the backend.
    pub absorbed: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    key: u64,
    since: Nanos,
    reads: u32,
    early: u32,
    absorbed: u32,
    ports: [u64; PORT_WORDS],
    told: bool,
}

// === impl Watch ===

impl Watch {
    /// Room for so many paths of clients.
    pub fn new(entries: usize) -> Watch {
        Watch { entries: vec![Entry::default(); entries.div_ceil(GROUP).max(1) * GROUP] }
    }

    /// Notes a read; tells a storm when this read makes it one. While it goes on it is not told again.
    pub fn note(&mut self, read: &Read, alarm: &Alarm, now: Nanos) -> Option<Storm> {
        let entry = self.entry(read.key, now, alarm.within);
        entry.reads = entry.reads.saturating_add(1);
        entry.early = entry.early.saturating_add(u32::from(read.early));
        let bit = usize::from(read.port).wrapping_mul(0x9e37) >> 3 & (64 * PORT_WORDS - 1);
        entry.ports[bit / 64] |= 1 << (bit % 64);
        if entry.told || !alarm.is_reached(entry) {
            return None;
        }
        entry.told = true;
        Some(Storm {
            reads: entry.reads,
            within: now.since(entry.since),
            ports: ports(&entry.ports).min(entry.reads),
            absorbed: entry.absorbed,
        })
    }

    /// The read under this key was answered without the backend.
    pub fn absorbed(&mut self, key: u64) {
        let group = self.group(key);
        if let Some(entry) = self.entries[group].iter_mut().find(|entry| entry.key == key) {
            entry.absorbed = entry.absorbed.saturating_add(1).min(entry.reads);
        }
    }

    fn group(&self, key: u64) -> std::ops::Range<usize> {
        let groups = (self.entries.len() / GROUP) as u64;
        let first = (((key >> 32) * groups) >> 32) as usize * GROUP;
        first..first + GROUP
    }

    /// The entry for a key, in the present window.
    fn entry(&mut self, key: u64, now: Nanos, window: Duration) -> &mut Entry {
        let group = self.group(key);
        let over = |entry: &Entry| now.since(entry.since) >= window;
        let group = &mut self.entries[group];
        let found = group.iter().position(|entry| entry.key == key);
        let at = found.unwrap_or_else(|| {
            // Whoever has been quiet for longest makes room, and among those who have not, whoever reads least.
            let least =
                |entry: &&Entry| if over(entry) { (0, entry.since) } else { (entry.reads, entry.since) };
            let least = group.iter().min_by_key(|entry| least(entry)).map(|entry| entry.key);
            group.iter().position(|entry| Some(entry.key) == least).unwrap_or(0)
        });
        let entry = &mut group[at];
        if found.is_none() {
            *entry = Entry { key, since: now, ..Entry::default() };
        } else if over(entry) {
            // A storm goes on as long as windows follow each other; a window without a read ends it.
            let goes_on = entry.told && now.since(entry.since) < window * 2;
            *entry = Entry { key, since: now, told: goes_on, ..Entry::default() };
        }
        entry
    }
}

// === impl Alarm ===

impl Alarm {
    fn is_reached(&self, entry: &Entry) -> bool {
        entry.reads >= self.reads || entry.early >= self.early
    }
}

// === impl Storm ===

impl Storm {
    /// Reads a minute.
    pub fn per_minute(&self) -> u64 {
        let millis = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX).max(1_000);
        u64::from(self.reads) * 60_000 / millis
    }

    /// Of a hundred reads, how many were answered without the backend.
    pub fn absorbed_percent(&self) -> u32 {
        (u64::from(self.absorbed) * 100 / u64::from(self.reads.max(1))) as u32
    }
}

/// How many different ports set these bits (linear counting).
fn ports(bits: &[u64; PORT_WORDS]) -> u32 {
    let all = f64::from(64 * PORT_WORDS as u32);
    let clear = bits.iter().map(|word| word.count_zeros()).sum::<u32>();
    (all * (all / f64::from(clear.max(1))).ln()).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALARM: Alarm = Alarm { reads: 60, early: 10, within: Duration::from_secs(60) };

    fn read(key: u64, early: bool, port: u16) -> Read {
        Read { key: key.wrapping_mul(0x9e37_79b9_7f4a_7c15), early, port }
    }

    fn at(millis: u64) -> Nanos {
        Nanos(millis * 1_000_000)
    }

    #[test]
    fn a_storm_is_told_once_with_its_rate_and_its_ports() {
        let mut watch = Watch::new(64);
        let mut told = Vec::new();
        for n in 0..200u64 {
            told.extend(watch.note(&read(1, false, 40_000 + (n % 20) as u16), &ALARM, at(n * 100)));
        }
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].reads, told[0].within), (60, Duration::from_millis(5_900)));
        assert_eq!(told[0].per_minute(), 610);
        assert!((18..=22).contains(&told[0].ports), "{}", told[0].ports);
    }

    #[test]
    fn a_loop_that_is_held_to_its_pace_is_a_storm_although_it_reads_little() {
        let mut watch = Watch::new(64);
        let told: Vec<_> =
            (0..20).filter_map(|n| watch.note(&read(1, n > 2, 40_000), &ALARM, at(n * 2_000))).collect();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].reads, told[0].ports), (13, 1));
    }

    #[test]
    fn a_page_that_polls_within_its_pace_is_none() {
        let mut watch = Watch::new(64);
        assert!((0..600).all(|n| watch.note(&read(1, false, 1), &ALARM, at(n * 2_000)).is_none()));
    }

    #[test]
    fn a_storm_that_ends_and_begins_again_is_told_again() {
        let mut watch = Watch::new(64);
        let mut storm = |from: u64| {
            (0..1_000).filter_map(|n| watch.note(&read(1, false, 1), &ALARM, at(from + n * 100))).count()
        };
        assert_eq!(storm(0), 1, "a hundred seconds are one storm");
        assert_eq!(storm(100_000), 0, "it goes on");
        assert_eq!(storm(400_000), 1, "after a pause it is another");
    }

    #[test]
    fn what_is_absorbed_is_counted_among_its_reads() {
        let mut watch = Watch::new(64);
        let mut told = None;
        for n in 0..60 {
            told = told.or(watch.note(&read(1, false, 1), &ALARM, at(n)));
            if n % 2 == 0 {
                watch.absorbed(read(1, false, 1).key);
            }
        }
        watch.absorbed(read(2, false, 1).key);
        let storm = told.expect("a storm");
        assert_eq!((storm.absorbed, storm.absorbed_percent()), (30, 50));
    }

    #[test]
    fn the_busiest_stay_where_the_table_is_full() {
        let mut watch = Watch::new(16);
        let mut told = 0;
        for n in 0..6_000u64 {
            told += usize::from(watch.note(&read(1, false, 1), &ALARM, at(n)).is_some());
            // A crowd of others, each once.
            assert!(watch.note(&read(1_000 + n, false, 1), &ALARM, at(n)).is_none());
        }
        assert_eq!(told, 1);
    }
}
