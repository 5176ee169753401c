//! Damage that no crash explains: it is refused, or it is not seen because nothing lies there; never is a record wrong.

use super::differential::step;
use super::faulty::Faulty;
use super::machine::Machine;
use super::model::{Do, Model};
use crate::domain::time::Millis;
use crate::store::OpenError;
use crate::store::embedded::log::{block, entry};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A disk on which three claims and their answers were made durable, one block each.
fn six_blocks() -> (Faulty, Arc<AtomicU64>, Model) {
    let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(1_000_000)));
    let mut machine = Machine::open(Some(disk.clone()), &hand).expect("an empty disk opens");
    let mut model = Model::default();
    for n in [2, 4, 6] {
        machine.both(&mut model, &Do::Claim { n, meaning: 0, sent: true });
        let (ends, names, alias) = (None, None, None);
        machine.both(&mut model, &Do::Complete { n, right: true, body: 10, keep: 9_000, ends, names, alias });
    }
    (disk, hand, model)
}

/// Where the blocks of the first segment begin.
fn blocks(segment: &[u8]) -> Vec<block::Block> {
    let salt = block::SegmentHead::from_bytes(segment).expect("a segment").salt;
    let mut found = Vec::new();
    let mut at = block::SEGMENT_HEADER;
    while let Some(block) = block::read(segment, salt, at) {
        at = block.next;
        found.push(block);
    }
    found
}

#[test]
fn a_bad_block_before_a_good_one_refuses_to_open() {
    let (disk, hand, model) = six_blocks();
    let files = disk.files();
    let all = blocks(&files[&1]);
    assert_eq!(all.len(), 6);
    for (index, bad) in all.iter().enumerate() {
        for at in bad.notes_at - block::BLOCK_HEADER..bad.notes_at + bad.notes_len {
            let mut files = files.clone();
            files.get_mut(&1).expect("the first segment")[at] ^= 0x10;
            match Machine::open(Some(Faulty::with(files)), &hand) {
                Err(OpenError::Damaged { place, .. }) => {
                    assert!(index < 5, "the last block at byte {at}");
                    assert!(place.starts_with("segment 1"), "{place}");
                }
                // The last block cannot be told from a torn one. (The header's four unused bytes are checked as well.)
                Ok(machine) => {
                    assert_eq!(index, 5, "block {index}, byte {at}: opened all the same");
                    let seen = machine.seen();
                    assert_eq!(seen.len(), model.seen(Millis(0)).len());
                    assert_eq!(seen.values().filter(|seen| super::machine::is_done(seen)).count(), 2);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_missing_segment_refuses_to_open() {
    let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(1_000_000)));
    let (mut machine, mut model) =
        (Machine::open(Some(disk.clone()), &hand).expect("it opens"), Model::default());
    for n in 0..60 {
        machine.both(&mut model, &Do::Claim { n, meaning: 0, sent: true });
        let (ends, names, alias) = (None, None, None);
        machine
            .both(&mut model, &Do::Complete { n, right: true, body: 300, keep: 9_000, ends, names, alias });
    }
    let mut files = disk.files();
    let written: Vec<u32> =
        files.iter().filter(|(_, file)| !blocks(file).is_empty()).map(|(n, _)| *n).collect();
    assert!(written.len() >= 3, "{written:?}");
    files.remove(&written[1]);
    let opened = Machine::open(Some(Faulty::with(files)), &hand);
    assert!(matches!(opened.map(drop), Err(OpenError::Damaged { .. })));
}

#[test]
fn bytes_of_a_body_are_never_taken_for_a_block() {
    // A client sends the bytes of a whole segment as a body; the store's own checksum begins with a salt it cannot know.
    let (disk, ..) = six_blocks();
    let segment = disk.files()[&1].clone();
    let salt = block::SegmentHead::from_bytes(&segment).expect("a segment").salt;
    assert!(block::find(&segment, salt, block::SEGMENT_HEADER).is_some());
    assert_eq!(block::find(&segment, salt ^ 1, block::SEGMENT_HEADER), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_is_refused_or_changes_no_record(byte in 0..8_192_usize, bit in 0..8_u8, n in 0..3_usize) {
        let (disk, hand, model) = six_blocks();
        let mut files = disk.files();
        let number = *files.keys().nth(n % files.len()).expect("a segment");
        let file = files.get_mut(&number).expect("it is there");
        let in_last = number == 1 && blocks(file).last().is_some_and(|last| byte >= last.notes_at - block::BLOCK_HEADER);
        file[byte] ^= 1 << bit;
        if let Ok(machine) = Machine::open(Some(Faulty::with(files)), &hand) {
            let got = machine.seen();
            if !in_last {
                prop_assert_eq!(got, model.restarted(machine.now()).seen(machine.now()));
            }
        }
    }

    #[test]
    fn random_bytes_are_never_notes_that_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..9_u8) {
        let mut notes = bytes;
        if let Some(first) = notes.first_mut() {
            *first = kind;
        }
        let mut at = 0;
        while let Ok(Some((_, next))) = entry::read(&notes, at) {
            prop_assert!(next > at && next <= notes.len());
            at = next;
        }
    }

    #[test]
    fn a_truncated_segment_is_refused_or_changes_no_record(
        steps in prop::collection::vec(step(), 1..40), len in 0..8_192_usize
    ) {
        let (disk, hand) = (Faulty::default(), Arc::new(AtomicU64::new(1_000_000)));
        let mut machine = Machine::open(Some(disk.clone()), &hand).expect("an empty disk opens");
        let mut model = Model::default();
        for step in steps.iter().filter(|step| !matches!(step, Do::Restart)) {
            machine.both(&mut model, step);
        }
        let mut files = disk.files();
        let last = *files.keys().next_back().expect("a segment");
        files.get_mut(&last).expect("it is there").truncate(len);
        // A segment says how long it is, so even one that lost nothing but zeros is noticed.
        let opened = Machine::open(Some(Faulty::with(files)), &hand);
        let refused = matches!(opened.map(drop), Err(OpenError::Damaged { .. }));
        prop_assert!(refused);
    }
}
