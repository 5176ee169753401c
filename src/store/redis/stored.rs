//! Answers as a shared store keeps them: a byte that says how, then the answer's compact form, deflated where that makes
//! it smaller.

use crate::domain::answer::Answer;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};
use std::io::Read;

/// Answers below this size go as they are: compressing them costs more than it saves.
const COMPRESSED_FROM: usize = 4 << 10;

/// What deflated bytes may grow to: the largest answer that the configuration allows, and a head.
const INFLATED_MOST: u64 = (1 << 30) + (1 << 20);

const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;

/// As it is kept.
pub(super) fn encode(answer: &Answer) -> Vec<u8> {
    let bytes = answer.as_bytes();
    if bytes.len() >= COMPRESSED_FROM {
        let mut out = vec![DEFLATED];
        let deflated = DeflateEncoder::new(&bytes[..], Compression::fast()).read_to_end(&mut out);
        if deflated.is_ok() && out.len() < bytes.len() {
            return out;
        }
    }
    [&[PLAIN], &bytes[..]].concat()
}

/// What was kept; `None` where it is damaged.
pub(super) fn decode(stored: Vec<u8>) -> Option<Answer> {
    match *stored.first()? {
        PLAIN => Answer::from_bytes(Bytes::from(stored).slice(1..)).ok(),
        DEFLATED => {
            let mut out = Vec::new();
            DeflateDecoder::new(&stored[1..]).take(INFLATED_MOST).read_to_end(&mut out).ok()?;
            Answer::from_bytes(Bytes::from(out)).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode};

    #[test]
    fn answers_survive_and_large_ones_shrink() {
        for len in [0, 100, COMPRESSED_FROM, 1 << 20] {
            let answer = Answer::new(StatusCode::OK, &HeaderMap::new(), Some(&vec![b'x'; len]));
            let stored = encode(&answer);
            assert!(len < COMPRESSED_FROM || stored.len() < len / 10, "{len} became {}", stored.len());
            assert_eq!(decode(stored), Some(answer));
        }
    }

    #[test]
    fn what_is_damaged_is_no_answer() {
        assert_eq!(decode(Vec::new()), None);
        assert_eq!(decode(vec![9, 1, 2]), None);
        assert_eq!(decode(vec![DEFLATED, 0xff, 0xff]), None);
    }
}
