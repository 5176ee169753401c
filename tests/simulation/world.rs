//! The world of one history: gateways that crash, hang and wake; clients that retry and leave; a store whose replies get
//! lost and whose commands arrive twice or late; a backend that delays, drops, refuses and fails; an operator.

use super::backend::Job;
use super::mutants::Machine;
use super::oracle::{Body, Oracle, Violation};
use super::rng::Rng;
use super::task::{Stage, Task};
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{
    Change, Claim, Command, Outcome, Owner, Phase, PolicyVersion, Record, TargetId, Token, Verdict,
};
use oncegate::domain::time::Millis;
use std::collections::HashMap;
use std::time::Duration;

/// How long a claim holds.
pub(super) const LEASE: Duration = Duration::from_millis(100);
const TASKS_MAX: usize = 6;

/// What the intents of a history are: whether a key names them, and whether their success ends others on the target.
static INTENTS: [(bool, bool); 3] = [(true, false), (false, false), (false, true)];

macro_rules! tally {
    ($($name:ident),*) => {
        /// How often each danger was met: a simulation that never meets one proves nothing about it.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Tally { $(pub $name: u64,)* }

        impl Tally {
            /// Sums up.
            pub fn add(&mut self, other: &Tally) { $(self.$name += other.$name;)* }

            /// Fails where a danger was met in fewer than one of 50 histories.
            pub fn assert_every_danger_was_met(&self, seeds: u64) {
                $(assert!(self.$name >= seeds / 50, "{}: {} times in {seeds} seeds", stringify!($name), self.$name);)*
            }
        }
    };
}
tally!(
    steps,
    attempts,
    effects,
    replays,
    copies_in_flight,
    copies_in_doubt,
    other_meanings,
    crashes,
    hangs,
    lost_replies,
    late_commands,
    answers_after_doubt,
    refused_completions,
    lapsed_claims,
    resolved,
    ended,
    deleted,
    owners_died,
    retries
);

/// One gateway process. `owner` changes when it restarts.
pub(super) struct Gateway {
    pub(super) owner: Owner,
    pub(super) hung: bool,
}

/// One history.
pub struct World<'m> {
    pub(super) machine: &'m Machine,
    pub(super) rng: Rng,
    pub(super) now: Millis,
    pub(super) oracle: Oracle,
    pub(super) records: Vec<Option<Record<Body>>>,
    pub(super) gateways: Vec<Gateway>,
    pub(super) tasks: Vec<Task>,
    pub(super) jobs: HashMap<Token, Job>,
    /// Commands that arrive later: duplicates of a transport, orders of an operator.
    pub(super) late: Vec<(usize, Command<Body>)>,
    /// One store process with one owner: a restart says `OwnersDied`. Otherwise leases have to tell.
    one_owner: bool,
    /// How often things go wrong, one in so many.
    pub(super) trouble: usize,
    pub(super) keep: Duration,
    pub(super) in_doubt_for: Duration,
    next: u64,
    tell: bool,
    /// What was met.
    pub tally: Tally,
}

// === impl World ===

impl<'m> World<'m> {
    /// The history of `seed`, told on standard output where `tell` says so.
    pub fn new(machine: &'m Machine, seed: u64, tell: bool) -> World<'m> {
        let mut rng = Rng::new(seed);
        let one_owner = rng.one_in(3);
        let in_doubt_for = Duration::from_millis(rng.pick(&[300, 1_000, 5_000]));
        let keep = in_doubt_for / rng.pick(&[1, 3, 10]);
        let gateways = if one_owner { 1 } else { 2 + rng.below(2) };
        World {
            machine,
            now: Millis(1_000_000),
            oracle: Oracle::new(&INTENTS, in_doubt_for),
            records: vec![None; INTENTS.len()],
            gateways: (0..gateways).map(|n| Gateway { owner: Owner(n as u64), hung: false }).collect(),
            tasks: Vec::new(),
            jobs: HashMap::new(),
            late: Vec::new(),
            one_owner,
            trouble: rng.pick(&[5, 12, 30]),
            keep,
            in_doubt_for,
            next: 100,
            tell,
            tally: Tally::default(),
            rng,
        }
    }

    /// Something happens.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.tally.steps += 1;
        match self.rng.below(100) {
            0..12 => self.pass_time(),
            12..24 => self.request(),
            24..70 => self.advance_a_task()?,
            70..85 => self.advance_a_job()?,
            85..90 => self.deliver_late()?,
            90..94 => self.disturb_a_gateway()?,
            94..98 => self.operate()?,
            // A sweep: a command that fits nothing, so that time settles what is due.
            _ => {
                let id = self.rng.below(INTENTS.len());
                self.command(id, Command::Renew { token: Token(0), lease: LEASE })?;
            }
        }
        Ok(())
    }

    /// Prints a line of the history.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if self.tell {
            println!("{:>4} {:>8} {}", self.tally.steps, self.now.0, line());
        }
    }

    /// A number never used before in this history.
    pub(super) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The store's clock stands still most of the time, creeps, jumps, and likes the last instant before a deadline and
    /// the deadline itself. It never goes back: that is the store's duty.
    fn pass_time(&mut self) {
        let id = self.rng.below(INTENTS.len());
        let deadline = self.records[id].as_ref().map_or(self.now, Record::next_deadline);
        let next = match self.rng.below(8) {
            0..3 => self.now.after(Duration::from_millis(self.rng.below(20) as u64)),
            3 => self.now.after(LEASE / 2),
            4 => Millis(deadline.0.saturating_sub(1)),
            5 => deadline,
            6 => deadline.after(Duration::from_millis(1)),
            _ => self.now.after(self.rng.pick(&[LEASE, self.keep, self.in_doubt_for])),
        };
        self.now = self.now.max(next);
    }

    /// A client asks, or asks again; a copy looks exactly like its original.
    fn request(&mut self) {
        let gateway = self.rng.below(self.gateways.len());
        if self.tasks.len() == TASKS_MAX || self.gateways[gateway].hung {
            return;
        }
        let id = self.rng.below(INTENTS.len());
        let keyed = INTENTS[id].0;
        // Under a key the meaning and the rules may differ; without one both are in the record's name.
        let meaning = if keyed && self.rng.one_in(8) { 99 } else { id as u8 };
        let policy = if keyed && self.rng.one_in(8) { 2 } else { 1 };
        let token = Token(u128::from(self.fresh()));
        let claim = Claim {
            fingerprint: Fingerprint([meaning ^ (policy << 6); 32]),
            keyed,
            policy: PolicyVersion(u64::from(policy)),
            scope: ScopeId([0; 16]),
            target: TargetId([0; 16]),
            token,
            owner: self.gateways[gateway].owner,
            lease: LEASE,
            sent: self.rng.one_in(2),
            in_doubt_for: self.in_doubt_for,
        };
        self.tasks.push(Task { id, gateway, claim, stage: Stage::Claiming, allowed_at: self.now });
    }

    /// One command on one record. A transport may send it again later, unless it bears no token: what is said of
    /// whatever the record holds is said to the store at once, and never by a transport that repeats.
    fn command(&mut self, id: usize, command: Command<Body>) -> Result<Outcome<Body>, Violation> {
        let bears_no_token = matches!(
            command,
            Command::End { .. }
                | Command::OwnersDied { .. }
                | Command::Delete
                | Command::Resolve { token: None, .. }
        );
        if !bears_no_token && self.rng.one_in(self.trouble * 2) {
            self.late.push((id, command.clone()));
        }
        self.carry_out(id, command)
    }

    /// The store's atomic command, judged.
    fn carry_out(&mut self, id: usize, command: Command<Body>) -> Result<Outcome<Body>, Violation> {
        let step = (self.machine.apply)(self.records[id].as_ref(), command.clone(), self.now);
        let changed = match step.change {
            Change::Keep => false,
            Change::Put(record) => {
                self.records[id] = Some(record);
                true
            }
            Change::Remove => {
                self.records[id] = None;
                true
            }
        };
        self.tell(|| {
            let phase = self.records[id].as_ref().map(|record| &record.phase);
            format!("record {id}: {} -> {:?}; now {phase:?}", brief(&command), step.outcome)
        });
        self.oracle.judge(id, &command, &step.outcome, self.now, self.records[id].as_ref())?;
        // The first acceptance of an unsafe success ends others on its target, in the same durable step. A repeated one
        // must not: what it would end by now came after it.
        let repeats = !changed && !self.machine.ends_again;
        if matches!(command, Command::Complete { .. })
            && step.outcome == Outcome::Applied
            && INTENTS[id].1
            && !repeats
        {
            self.end_others(id)?;
        }
        Ok(step.outcome)
    }

    fn end_others(&mut self, by: usize) -> Result<(), Violation> {
        self.tally.ended += 1;
        let by_meaning = self.rng.pick(&[None, Some(Fingerprint([by as u8 ^ (1 << 6); 32]))]);
        for id in (0..INTENTS.len()).filter(|id| *id != by) {
            self.command(id, Command::End { by: by_meaning })?;
        }
        Ok(())
    }

    /// Carries out a task's command; `None` where the reply is lost, so that the task is none the wiser.
    pub(super) fn ask(
        &mut self,
        task: usize,
        command: Command<Body>,
    ) -> Result<Option<Outcome<Body>>, Violation> {
        let outcome = self.command(self.tasks[task].id, command)?;
        if self.rng.one_in(self.trouble) {
            self.tally.lost_replies += 1;
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    fn deliver_late(&mut self) -> Result<(), Violation> {
        if self.late.is_empty() {
            return Ok(());
        }
        self.tally.late_commands += 1;
        let chosen = self.rng.below(self.late.len());
        let (id, command) = self.late.swap_remove(chosen);
        self.command(id, command).map(drop)
    }

    fn disturb_a_gateway(&mut self) -> Result<(), Violation> {
        let index = self.rng.below(self.gateways.len());
        if self.gateways[index].hung {
            self.gateways[index].hung = false;
            return Ok(());
        }
        if self.rng.one_in(2) {
            self.tally.hangs += 1;
            self.gateways[index].hung = true;
            return Ok(());
        }
        self.tally.crashes += 1;
        let owner = Owner(self.fresh());
        self.gateways[index].owner = owner;
        for task in self.tasks.extract_if(.., |task| task.gateway == index) {
            if let Some(job) = self.jobs.get_mut(&task.claim.token) {
                job.connected = false;
            }
        }
        self.tell(|| format!("gateway {index} died, and is back as {owner:?}"));
        if self.one_owner {
            self.tally.owners_died += 1;
            for id in 0..INTENTS.len() {
                self.command(id, Command::OwnersDied { alive: owner })?;
            }
        }
        Ok(())
    }

    /// An operator or a probe looks at a record. What it says of a doubt is true, but it may arrive late or twice.
    fn operate(&mut self) -> Result<(), Violation> {
        let id = self.rng.below(INTENTS.len());
        let Some(phase) = self.records[id].as_ref().map(|record| record.phase.clone()) else { return Ok(()) };
        match phase {
            Phase::InDoubt { token, .. } => {
                let Some(verdict) = self.truth_about(token) else { return Ok(()) };
                self.tally.resolved += 1;
                match self.rng.below(4) {
                    0 => return self.command(id, Command::Resolve { token: None, verdict }).map(drop),
                    1 if verdict == Verdict::NotExecuted => {
                        return self.command(id, Command::Delete).map(drop);
                    }
                    _ => {}
                }
                self.late.push((id, Command::Resolve { token: Some(token), verdict: verdict.clone() }));
                if self.rng.one_in(2) {
                    self.late.push((id, Command::Resolve { token: Some(token), verdict }));
                }
                Ok(())
            }
            // An operator who removes an answer wants the next request executed. In flight it is refused.
            Phase::Done { .. } | Phase::Queued { .. } if self.rng.one_in(4) => {
                self.tally.deleted += 1;
                self.command(id, Command::Delete).map(drop)
            }
            // A wrong word about an attempt at work must do nothing. Arriving later it would be a lie about a doubt.
            Phase::Sent { token, lease_until, .. } if self.now < lease_until => {
                let wrong = Command::Resolve { token: Some(token), verdict: Verdict::NotExecuted };
                let command = if self.rng.one_in(2) { wrong } else { Command::Delete };
                self.carry_out(id, command).map(drop)
            }
            Phase::Done { .. } | Phase::Queued { .. } | Phase::Sent { .. } => Ok(()),
        }
    }
}

/// A command for the history; of a claim only what differs from claim to claim.
fn brief(command: &Command<Body>) -> String {
    match command {
        Command::Claim(Claim { token, fingerprint, owner, sent, .. }) => {
            format!("Claim {{ {token:?}, {fingerprint:?}, {owner:?}, sent: {sent} }}")
        }
        command => format!("{command:?}"),
    }
}
