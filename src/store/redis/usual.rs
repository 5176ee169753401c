//! Claims and completions as nearly all are: one script answers all of them that a worker asks for at once
//! (`scripts/usual.lua`), because a server takes longer to begin a script, and to ask itself for the same things, than it does
//! for what one of them needs. What that script leaves alone is asked for again, as a call of its own.

use super::command::Command;
use super::part::{CLOCK, PHASES, Parts};
use super::script::Script;
use crate::domain::ledger::RecordId;
use std::sync::Arc;

/// So many at once. A server does nothing else meanwhile.
pub(super) const TOGETHER_MOST: usize = 64;

/// What all of a part have in common; which is the same one says that they go together.
pub(super) struct Frame {
    /// Keys behind those of the records.
    keys: Command,
    /// Arguments in front.
    args: Command,
}

/// One of them, as it goes over the wire.
pub(super) struct Usual {
    frame: Arc<Frame>,
    key: Command,
    about: Command,
}

/// One of them, and what the gateways agreed on where it is sent.
#[derive(Clone)]
pub(super) struct Relying {
    usual: Arc<Usual>,
    /// See [`Agreements`](super::agreement::Agreements).
    agreement: Arc<[u8]>,
}

// === impl Frame ===

impl Frame {
    /// Of the part whose keys begin with `prefix`; `several`: it is one of a cluster's.
    pub(super) fn new(prefix: &[u8], channel: &[u8], several: bool) -> Frame {
        let (mut keys, mut args) = (Command::with_capacity(64), Command::with_capacity(64));
        keys.joined(&[prefix, CLOCK]);
        if several {
            PHASES.iter().for_each(|phase| keys.joined(&[prefix, phase]));
        }
        args.joined(&[prefix]);
        args.joined(&[channel]);
        Frame { keys, args }
    }
}

// === impl Usual ===

impl Usual {
    /// A claim: what `scripts/claim.lua` is told of it, and the resources above its target.
    pub(super) fn claim(parts: &Parts, id: &RecordId, told: &[u8], above: &[&[u8]]) -> Usual {
        let length = u16::try_from(told.len()).unwrap_or(u16::MAX).to_be_bytes();
        Usual::new(parts, id, &[&[b"c", &length[..], told], above].concat())
    }

    /// A completion: what `scripts/complete.lua` is told of it, and the answer.
    pub(super) fn completion(parts: &Parts, id: &RecordId, told: &[u8], answer: &[u8]) -> Usual {
        Usual::new(parts, id, &[b"d", told, answer])
    }

    fn new(parts: &Parts, id: &RecordId, pieces: &[&[u8]]) -> Usual {
        let part = parts.of(id);
        let (mut key, mut about) = (Command::with_capacity(0), Command::with_capacity(0));
        key.joined(&[parts.prefix(part), b"r:", &id.0]);
        about.joined(pieces);
        Usual { frame: parts.frame(part).clone(), key, about }
    }
}

// === impl Relying ===

impl Relying {
    /// On this agreement, or on none.
    pub(super) fn on(usual: &Arc<Usual>, agreement: Option<Arc<[u8]>>) -> Relying {
        Relying { usual: usual.clone(), agreement: agreement.unwrap_or_default() }
    }

    /// Whether both may be asked for at once.
    pub(super) fn goes_with(&self, other: &Relying) -> bool {
        Arc::ptr_eq(&self.usual.frame, &other.usual.frame) && self.agreement == other.agreement
    }
}

/// Asks for all of them, which go together.
pub(super) fn together(all: &[Relying]) -> Command {
    let size = all.iter().map(|one| one.usual.key.length() + one.usual.about.length()).sum::<usize>();
    let Some(Relying { usual: first, agreement }) = all.first() else { return Command::with_capacity(0) };
    let frame = &first.frame;
    let mut command = Command::like(Script::Usual.asks(), size + 512);
    command.arg(all.len() + frame.keys.count());
    all.iter().for_each(|one| command.append(&one.usual.key));
    command.append(&frame.keys);
    command.append(&frame.args);
    command.joined(&[agreement]);
    all.iter().for_each(|one| command.append(&one.usual.about));
    command
}
