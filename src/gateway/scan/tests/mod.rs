//! Tests of the scanner, without a socket.

mod answers;
mod differential;
mod split;
mod strict;
mod table;

use super::{Framing, Limits, Problem, Scan, Scanner, Stop};

/// Feeds `pieces` one after the other, as the intake does: what passed, and why no more did.
fn feed(scanner: &mut impl Scan, pieces: &[&[u8]]) -> (Vec<u8>, Option<Stop>) {
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let progress = scanner.scan(&held);
        passed.extend(held.drain(..progress.passed));
        if progress.stop.is_some() {
            return (passed, progress.stop);
        }
    }
    (passed, None)
}

/// Why the first message of `pieces` is refused.
fn refusal_in(pieces: &[&[u8]]) -> Option<Problem> {
    feed(&mut Scanner::new(Limits::DEFAULT), pieces).1.map(Stop::problem)
}

/// The same in one read, of which nothing may pass.
fn refusal(bytes: &[u8]) -> Option<Problem> {
    let (passed, stop) = feed(&mut Scanner::new(Limits::DEFAULT), &[bytes]);
    assert!(passed.is_empty() || stop.is_none(), "{passed:?} passed");
    stop.map(Stop::problem)
}

/// Whole messages: how many, and the framing of the last.
fn whole(bytes: &[u8]) -> Result<(u64, Framing), Option<Problem>> {
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let (passed, stop) = feed(&mut scanner, &[bytes]);
    let ended = passed.len() == bytes.len() && scanner.is_between_messages();
    if ended { Ok((scanner.heads(), scanner.framing())) } else { Err(stop.map(Stop::problem)) }
}
