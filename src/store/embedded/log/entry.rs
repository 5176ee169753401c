//! What the log says: one *note* per change of a record or an alias, in bytes. Notes carry results, never commands: a
//! later version that decides differently still reads what this one decided.
//!
//! All integers are little-endian. A note begins with its kind; a kind is never given another meaning, a changed layout
//! is a new kind.

use super::super::kept::Kept;
use super::hold::{put_hold, put_key};
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::lane::LaneId;
use crate::domain::ledger::{Doubt, Owner, Phase, PolicyVersion, Record, RecordId, TargetId, Token};
use crate::domain::slot::{Hold, HoldKey, SlotId};
use crate::domain::time::Millis;
use crate::store::About;
use crate::store::lanes::{LANE_KEY_MAX, LaneAbout};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// A record, whole: a new attempt, or a live record carried forward.
const WHOLE: u8 = 1;
/// The record is done.
const DONE: u8 = 2;
/// The record is in doubt.
const DOUBT: u8 = 3;
/// The record is absent.
const GONE: u8 = 4;
/// The record's intent ended while it was in flight.
const ENDED: u8 = 5;
/// The record's answer names a resource.
const NAMES: u8 = 6;
/// A scope stands for another.
const ALIAS: u8 = 7;
/// A hold as it is from now on.
const HOLD: u8 = 8;
/// A hold was given back and is remembered.
const RELEASED: u8 = 9;
/// A hold is gone.
const FREED: u8 = 10;
/// Something was sent in a lane's turn.
const TURN: u8 = 16;
/// A resource ended with all below it.
const SUBTREE: u8 = 17;

/// Bytes of each text of [`About`] that are written.
const TEXT_MAX: usize = 256;

const KEYED: u8 = 1;
const ENDED_FLAG: u8 = 2;
const NAMED: u8 = 4;

const PHASE_QUEUED: u8 = 0;
const PHASE_SENT: u8 = 1;
const PHASE_DONE: u8 = 2;
const PHASE_IN_DOUBT: u8 = 3;

/// A note as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Note {
    /// See [`whole`].
    Whole { id: RecordId, record: Record<Stored>, about: About, names: Option<TargetId> },
    /// See [`done`].
    Done { id: RecordId, by: Option<Token>, done_at: Millis, until: Millis, answer: Stored },
    /// See [`doubt`].
    Doubt { id: RecordId, token: Token, since: Millis, until: Millis, why: Doubt },
    /// See [`gone`].
    Gone { id: RecordId },
    /// See [`ended`].
    Ended { id: RecordId },
    /// See [`names`].
    Names { id: RecordId, names: TargetId },
    /// See [`alias`].
    Alias { from: ScopeId, to: ScopeId, until: Millis },
    /// See [`subtree`].
    Subtree { target: TargetId, scope: ScopeId, at: Millis, until: Millis },
    /// See [`hold`].
    Hold { slot: SlotId, hold: Hold },
    /// See [`released`].
    Released { key: HoldKey, since: Millis },
    /// See [`freed`].
    Freed { key: HoldKey },
    /// See [`turn`].
    Turn { lane: LaneId, id: RecordId, token: Token, until: Millis, about: LaneAbout },
}

/// Where in the notes an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Stored {
    /// Its status.
    pub(in super::super) status: u16,
    /// Its first byte, counted from the beginning of the notes.
    pub(in super::super) at: u32,
    /// How many bytes.
    pub(in super::super) len: u32,
    /// CRC-32C of the bytes.
    pub(in super::super) crc: u32,
}

/// Why bytes are no note. The block's checksum was right, so another version wrote it, or this one is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Unreadable;

// === writing ===

/// Writes a record with everything that is known of it. `answer`: its bytes, where it is done. Gives back where they went.
pub(in super::super) fn whole(
    out: &mut Vec<u8>,
    id: &RecordId,
    record: &Record<Kept>,
    about: &About,
    names: Option<TargetId>,
    answer: Option<&Answer>,
) -> Option<Stored> {
    out.push(WHOLE);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(&record.fingerprint.0);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(flag(record.keyed, KEYED) | flag(record.ended, ENDED_FLAG) | flag(names.is_some(), NAMED));
    out.extend_from_slice(&record.policy.0.to_le_bytes());
    out.extend_from_slice(&record.scope.0);
    out.extend_from_slice(&record.target.0);
    out.extend_from_slice(&record.claimed_at.0.to_le_bytes());
    let in_doubt_for = u64::try_from(record.in_doubt_for.as_millis()).unwrap_or(u64::MAX);
    out.extend_from_slice(&in_doubt_for.to_le_bytes());
    if let Some(names) = names {
        out.extend_from_slice(&names.0);
    }
    for text in [about.route.as_ref(), about.request.as_str(), about.request_id.as_str()] {
        let text = &text.as_bytes()[..text.floor_char_boundary(TEXT_MAX)];
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        out.extend_from_slice(text);
    }
    match &record.phase {
        Phase::Queued { token, owner, lease_until } => {
            out.push(PHASE_QUEUED);
            put_attempt(out, *token, *owner, *lease_until);
            None
        }
        Phase::Sent { token, owner, lease_until, sent_at } => {
            out.push(PHASE_SENT);
            put_attempt(out, *token, *owner, *lease_until);
            out.extend_from_slice(&sent_at.0.to_le_bytes());
            None
        }
        Phase::Done { by, done_at, until, .. } => {
            out.push(PHASE_DONE);
            Some(put_done(out, *by, *done_at, *until, answer))
        }
        Phase::InDoubt { token, since, until, why } => {
            out.push(PHASE_IN_DOUBT);
            put_doubt(out, *token, *since, *until, *why);
            None
        }
    }
}

/// Writes that a record is done. Gives back where its answer went.
pub(in super::super) fn done(
    out: &mut Vec<u8>,
    id: &RecordId,
    by: Option<Token>,
    done_at: Millis,
    until: Millis,
    answer: &Answer,
) -> Stored {
    out.push(DONE);
    out.extend_from_slice(&id.0);
    put_done(out, by, done_at, until, Some(answer))
}

/// Writes that a record is in doubt.
pub(in super::super) fn doubt(
    out: &mut Vec<u8>,
    id: &RecordId,
    token: Token,
    since: Millis,
    until: Millis,
    why: Doubt,
) {
    out.push(DOUBT);
    out.extend_from_slice(&id.0);
    put_doubt(out, token, since, until, why);
}

/// Writes that a record is absent.
pub(in super::super) fn gone(out: &mut Vec<u8>, id: &RecordId) {
    out.push(GONE);
    out.extend_from_slice(&id.0);
}

/// Writes that a record's intent ended while it was in flight.
pub(in super::super) fn ended(out: &mut Vec<u8>, id: &RecordId) {
    out.push(ENDED);
    out.extend_from_slice(&id.0);
}

/// Writes which resource a record's answer names.
pub(in super::super) fn names(out: &mut Vec<u8>, id: &RecordId, names: TargetId) {
    out.push(NAMES);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(&names.0);
}

/// Writes that `from` stands for `to`.
pub(in super::super) fn alias(out: &mut Vec<u8>, from: ScopeId, to: ScopeId, until: Millis) {
    out.push(ALIAS);
    out.extend_from_slice(&from.0);
    out.extend_from_slice(&to.0);
    out.extend_from_slice(&until.0.to_le_bytes());
}

/// Writes that all below `target` ended at `at` by a change of `scope`, which concerns nothing after `until`.
pub(in super::super) fn subtree(
    out: &mut Vec<u8>,
    target: TargetId,
    scope: ScopeId,
    (at, until): (Millis, Millis),
) {
    out.push(SUBTREE);
    out.extend_from_slice(&target.0);
    out.extend_from_slice(&scope.0);
    out.extend_from_slice(&at.0.to_le_bytes());
    out.extend_from_slice(&until.0.to_le_bytes());
}

/// Writes a hold, whole.
pub(in super::super) fn hold(out: &mut Vec<u8>, slot: SlotId, hold: &Hold) {
    out.push(HOLD);
    put_hold(out, slot, hold);
}

/// Writes that a hold was given back and is remembered.
pub(in super::super) fn released(out: &mut Vec<u8>, key: HoldKey, since: Millis) {
    out.push(RELEASED);
    put_key(out, key);
    out.extend_from_slice(&since.0.to_le_bytes());
}

/// Writes that a hold is gone.
pub(in super::super) fn freed(out: &mut Vec<u8>, key: HoldKey) {
    out.push(FREED);
    put_key(out, key);
}

/// Writes that a lane is closed until `until` by what the attempt sent in its turn.
pub(in super::super) fn turn(
    out: &mut Vec<u8>,
    lane: LaneId,
    (id, token): (RecordId, Token),
    until: Millis,
    about: &LaneAbout,
) {
    out.push(TURN);
    out.extend_from_slice(&lane.0);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(&token.0.to_le_bytes());
    out.extend_from_slice(&until.0.to_le_bytes());
    for text in [about.name.as_ref(), about.key.as_ref()] {
        let text = &text.as_bytes()[..text.floor_char_boundary(LANE_KEY_MAX)];
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        out.extend_from_slice(text);
    }
}

fn put_attempt(out: &mut Vec<u8>, token: Token, owner: Owner, lease_until: Millis) {
    out.extend_from_slice(&token.0.to_le_bytes());
    out.extend_from_slice(&owner.0.to_le_bytes());
    out.extend_from_slice(&lease_until.0.to_le_bytes());
}

fn put_doubt(out: &mut Vec<u8>, token: Token, since: Millis, until: Millis, why: Doubt) {
    out.extend_from_slice(&token.0.to_le_bytes());
    out.extend_from_slice(&since.0.to_le_bytes());
    out.extend_from_slice(&until.0.to_le_bytes());
    out.push(match why {
        Doubt::ConnectionLost => 0,
        Doubt::TimedOut => 1,
        Doubt::AnswerTruncated => 2,
        Doubt::LeaseEnded => 3,
        Doubt::OwnerDied => 4,
        Doubt::AnswerAmbiguous => 5,
    });
}

fn put_done(
    out: &mut Vec<u8>,
    by: Option<Token>,
    done_at: Millis,
    until: Millis,
    answer: Option<&Answer>,
) -> Stored {
    let empty = Bytes::new();
    let bytes = answer.map_or(&empty, Answer::as_bytes);
    let crc = crc32c::crc32c(bytes);
    out.push(u8::from(by.is_some()));
    out.extend_from_slice(&by.map_or(0, |token| token.0).to_le_bytes());
    out.extend_from_slice(&done_at.0.to_le_bytes());
    out.extend_from_slice(&until.0.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    let at = out.len() as u32;
    out.extend_from_slice(bytes);
    Stored { status: answer.map_or(0, |answer| answer.status().as_u16()), at, len: bytes.len() as u32, crc }
}

// === reading ===

/// Reads the note at `at`; gives back where the next one begins. `None` at the end.
pub(in super::super) fn read(notes: &[u8], at: usize) -> Result<Option<(Note, usize)>, Unreadable> {
    if at == notes.len() {
        return Ok(None);
    }
    let mut reader = Reader { notes, at };
    let note = match reader.u8()? {
        WHOLE => reader.whole()?,
        DONE => {
            let id = reader.id()?;
            let (by, done_at, until, answer) = reader.done()?;
            Note::Done { id, by, done_at, until, answer }
        }
        DOUBT => {
            let id = reader.id()?;
            let (token, since, until, why) = reader.doubt()?;
            Note::Doubt { id, token, since, until, why }
        }
        GONE => Note::Gone { id: reader.id()? },
        ENDED => Note::Ended { id: reader.id()? },
        NAMES => Note::Names { id: reader.id()?, names: TargetId(reader.take()?) },
        ALIAS => Note::Alias {
            from: ScopeId(reader.take()?),
            to: ScopeId(reader.take()?),
            until: Millis(reader.u64()?),
        },
        SUBTREE => Note::Subtree {
            target: TargetId(reader.take()?),
            scope: ScopeId(reader.take()?),
            at: Millis(reader.u64()?),
            until: Millis(reader.u64()?),
        },
        HOLD => {
            let (slot, hold) = reader.hold()?;
            Note::Hold { slot, hold }
        }
        RELEASED => Note::Released { key: reader.hold_key()?, since: Millis(reader.u64()?) },
        FREED => Note::Freed { key: reader.hold_key()? },
        TURN => Note::Turn {
            lane: LaneId(reader.take()?),
            id: reader.id()?,
            token: reader.token()?,
            until: Millis(reader.u64()?),
            about: LaneAbout { name: reader.text()?.into(), key: reader.text()?.into() },
        },
        _ => return Err(Unreadable),
    };
    Ok(Some((note, reader.at)))
}

pub(super) struct Reader<'a> {
    notes: &'a [u8],
    at: usize,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], Unreadable> {
        let end = self.at.checked_add(len).ok_or(Unreadable)?;
        let slice = self.notes.get(self.at..end).ok_or(Unreadable)?;
        self.at = end;
        Ok(slice)
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.slice(N)?.try_into().map_err(|_| Unreadable)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Unreadable> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Unreadable> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn token(&mut self) -> Result<Token, Unreadable> {
        self.take().map(u128::from_le_bytes).map(Token)
    }

    fn id(&mut self) -> Result<RecordId, Unreadable> {
        self.take().map(RecordId)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Unreadable> {
        let len = self.take().map(u16::from_le_bytes)?;
        std::str::from_utf8(self.slice(usize::from(len))?).map_err(|_| Unreadable)
    }

    fn doubt(&mut self) -> Result<(Token, Millis, Millis, Doubt), Unreadable> {
        let (token, since, until) = (self.token()?, Millis(self.u64()?), Millis(self.u64()?));
        let why = match self.u8()? {
            0 => Doubt::ConnectionLost,
            1 => Doubt::TimedOut,
            2 => Doubt::AnswerTruncated,
            3 => Doubt::LeaseEnded,
            4 => Doubt::OwnerDied,
            5 => Doubt::AnswerAmbiguous,
            _ => return Err(Unreadable),
        };
        Ok((token, since, until, why))
    }

    fn done(&mut self) -> Result<(Option<Token>, Millis, Millis, Stored), Unreadable> {
        let has_token = self.u8()? != 0;
        let token = self.token()?;
        let (done_at, until) = (Millis(self.u64()?), Millis(self.u64()?));
        let (crc, len) = (self.u32()?, self.u32()?);
        let at = self.at as u32;
        let bytes = self.slice(len as usize)?;
        let status = bytes.first_chunk().map_or(0, |status| u16::from_be_bytes(*status));
        Ok((has_token.then_some(token), done_at, until, Stored { status, at, len, crc }))
    }

    fn whole(&mut self) -> Result<Note, Unreadable> {
        let id = self.id()?;
        let fingerprint = Fingerprint(self.take()?);
        let flags = self.u8()?;
        let policy = PolicyVersion(self.u64()?);
        let (scope, target) = (ScopeId(self.take()?), TargetId(self.take()?));
        let (claimed_at, in_doubt_for) = (Millis(self.u64()?), Duration::from_millis(self.u64()?));
        let names = if flags & NAMED != 0 { Some(TargetId(self.take()?)) } else { None };
        let route: Arc<str> = self.text()?.into();
        let about = About { route, request: self.text()?.into(), request_id: self.text()?.into() };
        let phase = match self.u8()? {
            PHASE_QUEUED => {
                let (token, owner) = (self.token()?, Owner(self.u64()?));
                Phase::Queued { token, owner, lease_until: Millis(self.u64()?) }
            }
            PHASE_SENT => {
                let (token, owner) = (self.token()?, Owner(self.u64()?));
                let (lease_until, sent_at) = (Millis(self.u64()?), Millis(self.u64()?));
                Phase::Sent { token, owner, lease_until, sent_at }
            }
            PHASE_DONE => {
                let (by, done_at, until, answer) = self.done()?;
                Phase::Done { answer, by, done_at, until }
            }
            PHASE_IN_DOUBT => {
                let (token, since, until, why) = self.doubt()?;
                Phase::InDoubt { token, since, until, why }
            }
            _ => return Err(Unreadable),
        };
        let (keyed, ended) = (flags & KEYED != 0, flags & ENDED_FLAG != 0);
        let record =
            Record { fingerprint, keyed, policy, scope, target, claimed_at, in_doubt_for, ended, phase };
        Ok(Note::Whole { id, record, about, names })
    }
}
