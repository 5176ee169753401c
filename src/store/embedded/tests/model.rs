//! What the ledger alone says: a map of records, and every command looked at one record at a time.

use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::ledger::{Change, Claim, Command, Doubt, Outcome, Owner, Phase, PolicyVersion, Record};
use crate::domain::ledger::{RecordId, TargetId, Token, Verdict, apply, settle};
use crate::domain::time::Millis;
use crate::store::{About, ClaimRequest, Completion, EndIntents, Settle};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const OWNER: Owner = Owner(7);

/// What can be done, in small numbers that shrink well. Records, targets and scopes are named by one byte.
#[derive(Clone, Debug)]
pub(super) enum Do {
    Claim {
        n: u8,
        meaning: u8,
        sent: bool,
    },
    MarkSent {
        n: u8,
        right: bool,
    },
    Renew {
        n: u8,
        right: bool,
    },
    Complete {
        n: u8,
        right: bool,
        body: u16,
        keep: u16,
        ends: Option<u8>,
        names: Option<u8>,
        alias: Option<u8>,
    },
    Abandon {
        n: u8,
        right: bool,
    },
    Doubt {
        n: u8,
        right: bool,
    },
    End {
        target: u8,
        by: Option<u8>,
    },
    Executed {
        n: u8,
        body: u16,
    },
    NotExecuted {
        n: u8,
    },
    Delete {
        n: u8,
    },
    Pass {
        millis: u16,
    },
    Restart,
    Compact,
}

/// A record as tests compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Queued,
    Sent { ended: bool },
    Done { body: Vec<u8>, until: Millis },
    InDoubt { since: Millis, until: Millis, why: Doubt },
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) records: BTreeMap<RecordId, Record<Answer>>,
    names: BTreeMap<RecordId, TargetId>,
    /// The last token that was used for a record.
    tokens: BTreeMap<u8, u128>,
    next_token: u128,
}

pub(super) fn id(n: u8) -> RecordId {
    RecordId([n; 32])
}

pub(super) fn answer(body: u16) -> Answer {
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", http::HeaderValue::from_static("text/plain"));
    let body: Vec<u8> = (0..body).map(|at| at as u8).collect();
    Answer::new(http::StatusCode::CREATED, &headers, Some(&body))
}

/// Odd records bear a key; records share two targets and three scopes.
pub(super) fn claim(n: u8, meaning: u8, sent: bool, token: Token) -> ClaimRequest {
    ClaimRequest {
        id: id(n),
        claim: Claim {
            fingerprint: Fingerprint([if n % 2 == 1 { meaning } else { n }; 32]),
            keyed: n % 2 == 1,
            policy: PolicyVersion(1),
            scope: ScopeId([n % 3; 16]),
            target: TargetId([n % 2 + n / 4; 16]),
            token,
            owner: OWNER,
            lease: Duration::from_millis(3_000),
            sent,
            in_doubt_for: Duration::from_millis(20_000),
        },
        quota: 1_000,
        about: About { route: "book".into(), request: format!("POST /{n}"), request_id: token.0.to_string() },
        slots: Vec::new(),
        above: None,
    }
}

// === impl Model ===

impl Model {
    /// The token for a command on `n`: the last one used, or one that nobody has.
    pub(super) fn token(&self, n: u8, right: bool) -> Token {
        Token(if right { self.tokens.get(&n).copied().unwrap_or(0) } else { u128::MAX })
    }

    /// A fresh token, which is the last one of `n` if it is granted.
    pub(super) fn fresh(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(super) fn claim(&mut self, n: u8, request: &ClaimRequest, now: Millis) -> Outcome<Answer> {
        let outcome = self.run(id(n), Command::Claim(request.claim.clone()), now);
        if outcome == Outcome::Granted {
            self.tokens.insert(n, request.claim.token.0);
            self.names.remove(&id(n));
        }
        outcome
    }

    pub(super) fn complete(&mut self, completion: &Completion, now: Millis) -> bool {
        let Completion { id, token, answer, keep, .. } = completion;
        let command = Command::Complete { token: *token, answer: answer.clone(), keep: *keep };
        let before = self.records.get(id).map(|record| &record.phase);
        let repeated = matches!(before, Some(Phase::Done { .. }));
        let done = self.run(*id, command, now) == Outcome::Applied;
        if done && !repeated {
            if let (Some(names), true) = (completion.names, self.records.contains_key(id)) {
                self.names.entry(*id).or_insert(names);
            }
            if let Some(ends) = &completion.ends {
                self.end(ends, now);
            }
        }
        done
    }

    pub(super) fn end(&mut self, ends: &EndIntents, now: Millis) {
        let hit = |model: &Model, id: &RecordId| {
            let record = model.records.get(id);
            record.is_some_and(|record| ends.concerns(record, model.names.get(id).copied()))
        };
        let ids: Vec<RecordId> = self.records.keys().filter(|id| hit(self, id)).copied().collect();
        for id in ids {
            self.run(id, Command::End { by: ends.by }, now);
        }
    }

    pub(super) fn settle(&mut self, id: RecordId, how: &Settle, now: Millis) -> bool {
        let command = match how.clone() {
            Settle::Executed { answer, keep, .. } => {
                Command::Resolve { token: None, verdict: Verdict::Executed { answer, keep } }
            }
            Settle::NotExecuted => Command::Resolve { token: None, verdict: Verdict::NotExecuted },
            Settle::Delete => Command::Delete,
        };
        self.run(id, command, now) == Outcome::Applied
    }

    pub(super) fn run(&mut self, id: RecordId, command: Command<Answer>, now: Millis) -> Outcome<Answer> {
        let step = apply(self.records.get(&id), command, now);
        self.change(id, step.change);
        step.outcome
    }

    /// The process died: what was only queued is absent, what was sent is in doubt, whatever its lease said.
    pub(super) fn restarted(&self, now: Millis) -> Model {
        let mut after = self.clone();
        for (id, record) in &self.records {
            let mut record = record.clone();
            if let Phase::Sent { lease_until, .. } = &mut record.phase {
                *lease_until = Millis(u64::MAX);
            }
            let step = apply(Some(&record), Command::OwnersDied { alive: Owner(0) }, now);
            after.change(*id, step.change);
        }
        after
    }

    /// Time passes for all records.
    pub(super) fn tick(&mut self, now: Millis) {
        for (id, record) in self.records.clone() {
            self.change(id, settle(&record, now));
        }
    }

    /// All records, as time leaves them at `now`.
    pub(super) fn seen(&self, now: Millis) -> BTreeMap<RecordId, Seen> {
        let mut aged = self.clone();
        for (id, record) in &self.records {
            aged.change(*id, settle(record, now));
        }
        aged.records.iter().map(|(id, record)| (*id, see(record, Answer::body))).collect()
    }

    fn change(&mut self, id: RecordId, change: Change<Answer>) {
        match change {
            Change::Keep => {}
            Change::Remove => {
                self.records.remove(&id);
                self.names.remove(&id);
            }
            Change::Put(record) => drop(self.records.insert(id, record)),
        }
    }
}

/// A record as tests compare it; `body` reads its answer.
pub(super) fn see<A>(record: &Record<A>, body: impl Fn(&A) -> bytes::Bytes) -> Seen {
    match &record.phase {
        Phase::Queued { .. } => Seen::Queued,
        Phase::Sent { .. } => Seen::Sent { ended: record.ended },
        Phase::Done { answer, until, .. } => Seen::Done { body: body(answer).to_vec(), until: *until },
        Phase::InDoubt { since, until, why, .. } => Seen::InDoubt { since: *since, until: *until, why: *why },
    }
}
