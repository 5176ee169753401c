//! The parts of a shared store and the names of their keys. All keys of a part bear one hash tag, so that a cluster keeps
//! them on one node and a script may touch all of them. A single server and Sentinel have one part; a cluster has
//! several, and a record's id says which one is its own.

use super::usual::Frame;
use crate::domain::client::ScopeId;
use crate::domain::ledger::RecordId;
use std::sync::Arc;

/// Parts that the records of a cluster are spread over, by their scope.
pub(super) const SPREAD: u8 = 16;

/// The part of a cluster for slots and lanes, and for the records of the routes that have them.
pub(super) const BEARING: u8 = SPREAD;

/// One part of the store: an index into [`Parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Part(pub(super) u8);

/// All parts, with the beginning of the names of their keys.
pub(super) struct Parts {
    prefixes: Vec<Vec<u8>>,
    frames: Vec<Arc<Frame>>,
    channel: Vec<u8>,
}

/// The key that every script is given behind those of its record; see `scripts/head.lua`.
pub(super) const CLOCK: &[u8] = b"clock";

/// The sets of the phases. A cluster that moves a slot has to know what a script writes before it begins; to any other server
/// they are only names that it would read and keep for nothing.
pub(super) const PHASES: [&[u8]; 4] = [b"fq", b"fs", b"d", b"x"];

// === impl Parts ===

impl Parts {
    /// The one part of a single server.
    pub(super) fn one(prefix: &str) -> Parts {
        Parts::named(prefix, vec![format!("{{{prefix}}}").into_bytes()])
    }

    /// The parts of a cluster.
    pub(super) fn spread(prefix: &str) -> Parts {
        let prefixes = (0..=BEARING).map(|part| format!("{{{prefix}:{part}}}").into_bytes());
        Parts::named(prefix, prefixes.collect())
    }

    fn named(prefix: &str, prefixes: Vec<Vec<u8>>) -> Parts {
        let channel = format!("{prefix}:ends").into_bytes();
        let frame = |one: &Vec<u8>| Arc::new(Frame::new(one, &channel, prefixes.len() > 1));
        let frames = prefixes.iter().map(frame).collect();
        Parts { prefixes, frames, channel }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Part> + use<> {
        (0..self.prefixes.len() as u8).map(Part)
    }

    /// Whether there is more than one.
    pub(super) fn are_several(&self) -> bool {
        self.prefixes.len() > 1
    }

    /// The part of a record.
    pub(super) fn of(&self, id: &RecordId) -> Part {
        if self.are_several() { Part(id.0[0] % self.prefixes.len() as u8) } else { Part(0) }
    }

    /// A part for what belongs to no record and is spread by a byte of a digest.
    pub(super) fn spread_by(&self, byte: u8) -> Part {
        Part(if self.are_several() { byte % SPREAD } else { 0 })
    }

    /// The part of a scope's records, where their routes bear no slots.
    pub(super) fn of_scope(&self, scope: &ScopeId) -> Part {
        if self.are_several() { Part(scope.0[0] % SPREAD) } else { Part(0) }
    }

    /// The part of slots and lanes, and of the records of routes that have them.
    pub(super) fn of_bearing(&self) -> Part {
        Part(if self.are_several() { BEARING } else { 0 })
    }

    /// The id under which a record is kept: in a cluster its first byte says the part, which is that of its scope, so that
    /// the scope's quota is counted in one place.
    pub(super) fn placed(&self, mut id: RecordId, scope: &ScopeId, apart: bool) -> RecordId {
        if self.are_several() {
            id.0[0] = if apart { BEARING } else { self.of_scope(scope).0 };
        }
        id
    }

    /// What the names of a part's keys begin with.
    pub(super) fn prefix(&self, part: Part) -> &[u8] {
        self.prefixes.get(usize::from(part.0)).map_or(&[], Vec::as_slice)
    }

    /// What the usual claims and completions of a part have in common.
    pub(super) fn frame(&self, part: Part) -> &Arc<Frame> {
        &self.frames[usize::from(part.0)]
    }

    /// Where every gateway hears of the ends of attempts.
    pub(super) fn channel(&self) -> &[u8] {
        &self.channel
    }

    /// The cluster's hash slot of a part.
    pub(super) fn slot(&self, part: Part) -> u16 {
        // The tag between the braces is what counts (Redis cluster specification, "Hash tags").
        let tag = self.prefix(part).strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
        crc16(tag.unwrap_or_default()) % 16_384
    }
}

/// CRC-16/XMODEM, by which a cluster spreads keys.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc: u16, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_keeps_the_records_of_a_scope_together_and_those_of_slots_apart() {
        let parts = Parts::spread("p");
        let (scope, id) = (ScopeId([0x27; 16]), RecordId([9; 32]));
        let placed = parts.placed(id, &scope, false);
        assert_eq!(parts.of(&placed), parts.of_scope(&scope));
        assert_eq!(placed.0[1..], id.0[1..]);
        assert_eq!(parts.of(&parts.placed(id, &scope, true)), Part(BEARING));
        assert_eq!(parts.all().count(), 17);
    }

    #[test]
    fn hash_slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn a_single_server_has_one_part_and_leaves_ids_alone() {
        let parts = Parts::one("p");
        assert_eq!(parts.placed(RecordId([9; 32]), &ScopeId([1; 16]), true), RecordId([9; 32]));
        assert_eq!((parts.prefix(Part(0)), parts.channel()), (&b"{p}"[..], &b"p:ends"[..]));
    }
}
