//! Follows the frames of a client, below hyper, and counts those that cost the gateway something and bring nobody
//! anything. hyper bounds what is kept; this bounds what is done.
//!
//! A connection has an allowance. Frames that only cost use it up; time, and bytes that go out and come in, fill it again.
//! Whoever uses it up is ended.
//!
//! hyper's own count of streams that it had to reset is off: it is never given back, and DATA that was on its way when an
//! early answer ended its upload counts there, so that a connection of many clients would end with everything on it. What
//! that count bounds, these do: frames on streams that are over, streams that are reset because of what came on them, and
//! streams of which no answer goes out.

use super::live::{Head, Live};
use super::told::{Tells, Told, stream_of};
use std::time::Duration;
use tokio::time::Instant;

/// Where a connection is in its frames, and what it may still waste.
#[derive(Debug)]
pub struct Frames {
    state: State,
    /// A header block has begun and not ended.
    block: bool,
    left: u32,
    filled_at: Instant,
    /// Bytes that have not made a whole unit of allowance yet.
    bytes: usize,
    live: Live,
    told: Told,
    /// What the gateway had to answer went beyond the allowance.
    spent: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the preface are still to come.
    Preface(usize),
    /// So many bytes of a frame's head have come.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame are still to come; whether they belong to a header block.
    Payload(usize, bool),
}

/// What the bytes that came amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They may go on; whether a head is coming in, the preface being one.
    Pass { head: bool },
    /// The client floods: only so many of them may go on, which is where a frame begins.
    Flood(usize),
}

/// A frame's own head.
const HEAD_BYTES: usize = 9;
/// The preface of a client.
const PREFACE_BYTES: usize = 24;
/// What a connection may waste at once.
const ALLOWANCE: u32 = 4000;
/// What it gets back in a second.
const A_SECOND: u32 = 200;
/// A unit for so many bytes that go out or come in as bodies: half of what a client that acknowledges every frame uses.
const UNIT_BYTES: usize = 4 << 10;
/// What a stream costs that is given up, or has to be reset because of what came on it: work was begun for it.
const RESET: u32 = 20;
/// More than anybody has.
const TOO_MUCH: u32 = u32::MAX;
/// SETTINGS, PING, and what comes on a stream that is over have to be answered.
const ANSWERED: u32 = 2;
/// Anything else.
const OTHER: u32 = 1;
/// A frame of a body that is smaller than this costs more than it brings.
const SMALL_BYTES: usize = 64;

// === impl Frames ===

impl Frames {
    /// For a connection that begins with the preface.
    pub fn new(now: Instant) -> Frames {
        let state = State::Preface(PREFACE_BYTES);
        let (live, told) = Default::default();
        Frames { state, block: false, left: ALLOWANCE, filled_at: now, bytes: 0, live, told, spent: false }
    }

    /// Bytes went to the client.
    pub fn sent(&mut self, mut bytes: &[u8], now: Instant) {
        self.moved(bytes.len());
        while let Some(tells) = self.told.next(&mut bytes) {
            let cost = match tells {
                Tells::Answers(stream) => {
                    self.live.answered(stream);
                    0
                }
                Tells::Ends(stream) => {
                    self.live.end(stream);
                    0
                }
                Tells::Resets(stream, code) => {
                    let unanswered = self.live.end(stream);
                    if unanswered { by_client(code) } else { 0 }
                }
                Tells::Nothing => 0,
            };
            // The frames that it was for have passed already; the next one does not.
            self.spent |= !self.takes(cost, now);
        }
    }

    /// Bytes came from the client.
    pub fn came(&mut self, bytes: &[u8], now: Instant) -> Verdict {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Preface(left) => {
                    let taken = rest.len().min(*left);
                    *left -= taken;
                    at += taken;
                    if *left == 0 {
                        self.state = State::Head([0; HEAD_BYTES], 0);
                    }
                }
                State::Payload(left, _) => {
                    let taken = rest.len().min(*left);
                    *left -= taken;
                    at += taken;
                    if *left == 0 {
                        self.state = State::Head([0; HEAD_BYTES], 0);
                    }
                }
                State::Head(head, have) => {
                    let taken = rest.len().min(HEAD_BYTES - *have);
                    head[*have..*have + taken].copy_from_slice(&rest[..taken]);
                    *have += taken;
                    at += taken;
                    if *have == HEAD_BYTES {
                        let head = *head;
                        if !self.frame(head, now) {
                            // A frame's head that came in pieces has gone on in part already; what is put behind it ends
                            // the connection all the same.
                            return Verdict::Flood(at.saturating_sub(HEAD_BYTES));
                        }
                    }
                }
            }
        }
        let coming = matches!(self.state, State::Preface(_) | State::Payload(_, true));
        Verdict::Pass { head: coming || self.block }
    }

    /// A frame begins; whether it is within the allowance.
    fn frame(&mut self, head: [u8; HEAD_BYTES], now: Instant) -> bool {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = stream_of([head[5], head[6], head[7], head[8]]);
        let (ends_stream, ends_block) = (flags & 0x1 != 0, flags & 0x4 != 0);
        let cost = match kind {
            // DATA
            0x0 if ends_stream || length >= SMALL_BYTES => {
                self.moved(length);
                if self.live.has(stream) { 0 } else { ANSWERED }
            }
            0x0 if self.live.has(stream) => OTHER,
            0x0 => ANSWERED,
            // HEADERS, CONTINUATION
            0x1 => {
                self.block = !ends_block;
                match self.live.head(stream) {
                    Head::Good => 0,
                    Head::Late => ANSWERED,
                    Head::TooMany => TOO_MUCH,
                }
            }
            0x9 => {
                self.block &= !ends_block;
                OTHER
            }
            // RST_STREAM
            0x3 => {
                self.live.end(stream);
                RESET
            }
            // SETTINGS and PING, but for what acknowledges ours
            0x4 | 0x6 if flags & 0x1 == 0 => ANSWERED,
            // PRIORITY, WINDOW_UPDATE, acknowledgements, what nobody knows
            _ => OTHER,
        };
        self.state = match length {
            0 => State::Head([0; HEAD_BYTES], 0),
            _ => State::Payload(length, matches!(kind, 0x1 | 0x9)),
        };
        !self.spent && self.takes(cost, now)
    }

    /// Uses up some of the allowance; whether there was so much.
    fn takes(&mut self, cost: u32, now: Instant) -> bool {
        if cost > self.left {
            self.fill(now);
        }
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// What time gives back; only looked at when it is needed.
    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled_at);
        let units = since.as_millis() * u128::from(A_SECOND) / 1000;
        if units > 0 {
            self.filled_at +=
                Duration::from_millis(u64::try_from(units * 1000 / u128::from(A_SECOND)).unwrap_or(u64::MAX));
            self.left = self.left.saturating_add(u32::try_from(units).unwrap_or(u32::MAX)).min(ALLOWANCE);
        }
    }

    fn moved(&mut self, bytes: usize) {
        self.bytes += bytes;
        let units = u32::try_from(self.bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        self.bytes %= UNIT_BYTES;
        self.left = self.left.saturating_add(units).min(ALLOWANCE);
    }
}

/// What it costs that a stream without an answer is reset for this reason. Others than these are not its client's doing.
fn by_client(code: u32) -> u32 {
    match code {
        // PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR
        0x1 | 0x3 | 0x6 => RESET,
        // REFUSED_STREAM: one more than there may be at once.
        0x7 => OTHER,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::live::LIVE_MOST;
    use super::*;
    use crate::gateway::clock;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    const PASS: Verdict = Verdict::Pass { head: false };

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        on(1, kind, flags, &vec![0; length])
    }

    fn on(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[high, middle, low, kind, flags][..], &stream.to_be_bytes(), payload].concat()
    }

    /// Stream 1 lives.
    fn begun(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        assert_eq!(frames.came(PREFACE, now), PASS);
        assert_eq!(frames.came(&frame(0x1, 0x4, 0), now), PASS);
        frames
    }

    /// How many of a frame pass before the connection is ended.
    fn most(bytes: &[u8], at_most: u32) -> u32 {
        let now = clock::now();
        let mut frames = begun(now);
        (0..at_most).take_while(|_| frames.came(bytes, now) == (Verdict::Pass { head: false })).count() as u32
    }

    #[test]
    fn frames_that_only_cost_end_the_connection() {
        assert_eq!(most(&frame(0x6, 0, 8), 10_000), ALLOWANCE / ANSWERED, "PING");
        assert_eq!(most(&frame(0x4, 0, 6), 10_000), ALLOWANCE / ANSWERED, "SETTINGS");
        assert_eq!(most(&frame(0x3, 0, 4), 10_000), ALLOWANCE / RESET, "RST_STREAM");
        assert_eq!(most(&frame(0x0, 0, 0), 10_000), ALLOWANCE, "empty DATA");
        assert_eq!(most(&frame(0x8, 0, 4), 10_000), ALLOWANCE, "WINDOW_UPDATE");
        assert_eq!(most(&frame(0x2, 0, 5), 10_000), ALLOWANCE, "PRIORITY");
        assert_eq!(most(&frame(0xfa, 0, 0), 10_000), ALLOWANCE, "unknown");
    }

    #[test]
    fn frames_that_bring_something_never_do() {
        assert_eq!(most(&frame(0x1, 0x5, 30), 10_000), 10_000, "requests");
        assert_eq!(most(&frame(0x0, 0, 1024), 10_000), 10_000, "bodies");
    }

    #[test]
    fn what_comes_on_a_stream_that_is_over_costs_and_pays_for_its_bytes() {
        for over in [on(1, 0x3, 0, &[0; 4]), on(1, 0x0, 1, b"")] {
            let late = |bytes: &[u8]| {
                let now = clock::now();
                let mut frames = begun(now);
                frames.sent(&over, now);
                (0..10_000).take_while(|_| frames.came(bytes, now) == PASS).count()
            };
            let all = usize::try_from(ALLOWANCE / ANSWERED).expect("small");
            assert_eq!(late(&frame(0x0, 1, 0)), all, "the empty end of a body");
            assert_eq!(late(&frame(0x0, 0, 1)), all, "a little of a body");
            assert_eq!(late(&frame(0x1, 0x5, 10)), all, "what comes behind a body");
            assert_eq!(late(&frame(0x0, 0, 16 << 10)), 10_000, "what was on its way of an ordinary upload");
        }
    }

    /// How many streams pass that are answered with `said`.
    fn streams(said: impl Fn(u32) -> Vec<u8>) -> usize {
        let now = clock::now();
        let mut frames = begun(now);
        (1..10_000u32)
            .map(|count| 2 * count + 1)
            .take_while(|stream| {
                let passes = frames.came(&on(*stream, 0x1, 0x5, b""), now) == PASS;
                frames.sent(&said(*stream), now);
                passes
            })
            .count()
    }

    #[test]
    fn streams_that_are_reset_because_of_what_came_on_them_cost_as_if_they_were_given_up() {
        let reset = |code: u32| move |stream| on(stream, 0x3, 0, &code.to_be_bytes());
        for code in [0x1, 0x3, 0x6] {
            let all = usize::try_from(ALLOWANCE / RESET).expect("small") + 1;
            assert_eq!(streams(reset(code)), all, "reason {code}");
        }
        for code in [0x0, 0x2, 0x8] {
            assert_eq!(streams(reset(code)), 9_999, "reason {code}");
        }
        let answered = |stream| [on(stream, 0x1, 0x4, b""), reset(0x1)(stream)].concat();
        assert_eq!(streams(answered), 9_999, "a backend that breaks off");
    }

    #[test]
    fn streams_of_which_no_answer_goes_out_are_bounded() {
        assert_eq!(streams(|_| Vec::new()), LIVE_MOST - 1);
        assert_eq!(streams(|stream| on(stream, 0x1, 0x4, b"")), LIVE_MOST - 1);
        assert_eq!(streams(|stream| on(stream, 0x1, 0x5, b"")), 9_999);
    }

    #[test]
    fn an_endless_head_is_one_that_comes_and_ends_the_connection() {
        let now = clock::now();
        let mut frames = begun(now);
        assert_eq!(frames.came(&frame(0x1, 0, 3), now), Verdict::Pass { head: true });
        for _ in 0..ALLOWANCE {
            assert_eq!(frames.came(&frame(0x9, 0, 1), now), Verdict::Pass { head: true });
        }
        assert_eq!(frames.came(&frame(0x9, 0, 1), now), Verdict::Flood(0));
    }

    #[test]
    fn a_download_that_is_acknowledged_frame_by_frame_goes_on_for_ever() {
        let now = clock::now();
        let mut frames = begun(now);
        let answer = frame(0x0, 0, (16 << 10) - HEAD_BYTES);
        for _ in 0..100_000 {
            frames.sent(&answer, now);
            for _ in 0..2 {
                assert_eq!(frames.came(&frame(0x8, 0, 4), now), Verdict::Pass { head: false });
            }
        }
    }

    #[test]
    fn time_fills_the_allowance_and_never_over_it() {
        let now = clock::now();
        let mut frames = begun(now);
        let ping = frame(0x6, 0, 8);
        for _ in 0..ALLOWANCE / ANSWERED {
            assert_eq!(frames.came(&ping, now), Verdict::Pass { head: false });
        }
        let later = now + Duration::from_secs(1);
        for _ in 0..A_SECOND / ANSWERED {
            assert_eq!(frames.came(&ping, later), Verdict::Pass { head: false });
        }
        assert_eq!(frames.came(&ping, later), Verdict::Flood(0));
    }

    #[test]
    fn frames_may_come_in_any_pieces() {
        let now = clock::now();
        let all =
            [&PREFACE[..], &frame(0x4, 0, 6), &frame(0x1, 0, 7), &frame(0x9, 0x4, 7), &frame(0x0, 1, 100)]
                .concat();
        for size in 1..all.len() {
            let mut frames = Frames::new(now);
            let last = all.chunks(size).map(|piece| frames.came(piece, now)).last();
            assert_eq!(last, Some(Verdict::Pass { head: false }), "pieces of {size}");
            assert!(matches!(frames.state, State::Head(_, 0)));
        }
        let mut frames = Frames::new(now);
        assert_eq!(frames.came(&PREFACE[..20], now), Verdict::Pass { head: true });
        assert_eq!(
            frames.came(&[&PREFACE[20..], &frame(0x1, 0x4, 7)[..12]].concat(), now),
            Verdict::Pass { head: true }
        );
    }
}
