//! One history of a lane: gateways and their attempts, the store between them, the backend behind.

use super::super::rng::Rng;
use super::mutants::Machine;
use super::oracle::{Oracle, Violation};
use oncegate::domain::lane::{Command, Join, Lane, Outcome};
use oncegate::domain::ledger::{Owner, Token};
use oncegate::domain::time::Millis;
use std::time::Duration;

const LEASE: Duration = Duration::from_millis(100);
/// Within so long the backend ends, from a write's first byte.
pub const TIMEOUT: Duration = Duration::from_millis(150);
/// Within so long after `Send` the first byte leaves, or none does.
pub const PAUSE: Duration = Duration::from_millis(40);
const QUEUE_MAX: u32 = 3;
const TASKS_MAX: usize = 8;

macro_rules! tally {
    ($($name:ident),*) => {
        /// How often each danger was met.
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
    writes,
    further_attempts,
    waits,
    full,
    crashes,
    hangs,
    lost_replies,
    late_commands,
    refused_sends,
    in_doubt
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Joining,
    Waiting,
    /// Knows that it has the turn.
    Turn,
    /// Marked; not a byte has left.
    Ready {
        marked: Millis,
    },
    /// The backend has it; whether it is still listened to.
    Exchanging {
        heard: bool,
    },
    Leaving,
}

struct Task {
    token: Token,
    gateway: usize,
    stage: Stage,
}

/// One history.
pub struct World<'m> {
    machine: &'m Machine,
    rng: Rng,
    now: Millis,
    lane: Lane,
    oracle: Oracle,
    /// Whether each gateway hangs.
    hung: Vec<bool>,
    tasks: Vec<Task>,
    late: Vec<Command>,
    trouble: usize,
    next: u128,
    tell: bool,
    /// What was met.
    pub tally: Tally,
}

// === impl World ===

impl<'m> World<'m> {
    /// The history of `seed`.
    pub fn new(machine: &'m Machine, seed: u64, tell: bool) -> World<'m> {
        let mut rng = Rng::new(seed);
        World {
            machine,
            now: Millis(1_000_000),
            lane: Lane::default(),
            oracle: Oracle::default(),
            hung: vec![false; 1 + rng.below(3)],
            tasks: Vec::new(),
            late: Vec::new(),
            trouble: rng.pick(&[5, 12, 40]),
            next: 1,
            tell,
            tally: Tally::default(),
            rng,
        }
    }

    /// Prints a line of the history.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if self.tell {
            println!("{:>4} {:>8} {}", self.tally.steps, self.now.0, line());
        }
    }

    /// Something happens.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.tally.steps += 1;
        match self.rng.below(100) {
            0..18 => {
                self.pass_time();
                Ok(())
            }
            18..32 => {
                self.arrive();
                Ok(())
            }
            32..84 => self.advance(),
            84..90 => self.deliver_late(),
            90..94 => {
                self.disturb();
                Ok(())
            }
            _ => self.command(Command::Settle).map(drop),
        }
    }

    fn pass_time(&mut self) {
        let deadline = self.lane.next_deadline().unwrap_or(self.now);
        let next = match self.rng.below(6) {
            0..3 => self.now.after(Duration::from_millis(self.rng.below(25) as u64)),
            3 => Millis(deadline.0.saturating_sub(1)),
            4 => deadline,
            _ => self.now.after(self.rng.pick(&[LEASE / 2, LEASE, TIMEOUT, PAUSE])),
        };
        self.now = self.now.max(next);
    }

    fn arrive(&mut self) {
        let gateway = self.rng.below(self.hung.len());
        if self.tasks.len() < TASKS_MAX && !self.hung[gateway] {
            self.next += 1;
            self.tasks.push(Task { token: Token(self.next), gateway, stage: Stage::Joining });
        }
    }

    fn disturb(&mut self) {
        let gateway = self.rng.below(self.hung.len());
        if self.hung[gateway] || self.rng.one_in(2) {
            self.tally.hangs += u64::from(!self.hung[gateway]);
            self.hung[gateway] = !self.hung[gateway];
            return;
        }
        self.tally.crashes += 1;
        self.tell(|| format!("gateway {gateway} dies"));
        // What the backend has, it works on.
        self.tasks.retain(|task| task.gateway != gateway);
    }

    fn deliver_late(&mut self) -> Result<(), Violation> {
        if self.late.is_empty() {
            return Ok(());
        }
        self.tally.late_commands += 1;
        let chosen = self.rng.below(self.late.len());
        let command = self.late.swap_remove(chosen);
        self.command(command).map(drop)
    }

    /// The store's atomic command, judged. A transport may send it again later.
    fn command(&mut self, command: Command) -> Result<Outcome, Violation> {
        // A join that arrives after its own leave would take a place that nobody wants: a store knows that its claim is gone.
        let repeats = !matches!(command, Command::Join(_) | Command::Settle);
        if repeats && self.rng.one_in(self.trouble) {
            self.late.push(command);
        }
        let step = (self.machine.apply)(&mut self.lane, command, self.now);
        self.tell(|| format!("{command:?} -> {:?}, next {:?}; {:?}", step.outcome, step.next, self.lane));
        self.oracle.judge(&command, step.outcome, self.now, &self.lane)?;
        Ok(step.outcome)
    }

    /// `None` where the reply is lost.
    fn ask(&mut self, command: Command) -> Result<Option<Outcome>, Violation> {
        let outcome = self.command(command)?;
        if self.rng.one_in(self.trouble) {
            self.tally.lost_replies += 1;
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    /// One attempt goes a step further.
    fn advance(&mut self) -> Result<(), Violation> {
        if self.tasks.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.tasks.len());
        let Task { token, gateway, stage } = self.tasks[at];
        if self.hung[gateway] {
            return Ok(());
        }
        let next = match stage {
            Stage::Joining => self.join(token, gateway)?,
            Stage::Waiting => self.wait(token)?,
            Stage::Turn => self.mark(token, stage)?,
            Stage::Ready { marked } => self.send(token, marked)?,
            Stage::Exchanging { heard } => self.exchange(token, heard)?,
            Stage::Leaving => self.ask(Command::Leave { token })?.is_none().then_some(Stage::Leaving),
        };
        match next {
            Some(stage) => self.tasks[at].stage = stage,
            None => drop(self.tasks.swap_remove(at)),
        }
        Ok(())
    }

    fn join(&mut self, token: Token, gateway: usize) -> Result<Option<Stage>, Violation> {
        let owner = Owner(gateway as u64);
        let join = Join { token, owner, lease: LEASE, queue_max: QUEUE_MAX };
        Ok(match self.ask(Command::Join(join))? {
            Some(Outcome::Yours) => Some(Stage::Turn),
            Some(Outcome::Waiting { .. }) => {
                self.tally.waits += 1;
                Some(Stage::Waiting)
            }
            Some(Outcome::Full { .. }) => {
                self.tally.full += 1;
                None
            }
            Some(Outcome::Applied | Outcome::Refused) | None => Some(Stage::Joining),
        })
    }

    /// Told when the turn comes; renews meanwhile; may lose patience, or its client.
    fn wait(&mut self, token: Token) -> Result<Option<Stage>, Violation> {
        if self.lane.turn.is_some_and(|turn| turn.token == token) {
            return Ok(Some(Stage::Turn));
        }
        if self.rng.one_in(12) {
            return Ok(Some(Stage::Leaving));
        }
        Ok(match self.ask(Command::Renew { token, lease: LEASE })? {
            Some(Outcome::Refused) => None,
            _ => Some(Stage::Waiting),
        })
    }

    fn mark(&mut self, token: Token, again: Stage) -> Result<Option<Stage>, Violation> {
        let hold = self.machine.hold;
        let marked = self.now;
        Ok(match self.ask(Command::Send { token, hold })? {
            None => Some(again),
            Some(Outcome::Refused) if !self.machine.sends_when_refused => {
                self.tally.refused_sends += 1;
                None
            }
            Some(_) => Some(Stage::Ready { marked }),
        })
    }

    fn send(&mut self, token: Token, marked: Millis) -> Result<Option<Stage>, Violation> {
        if self.now.since(marked) > PAUSE && !self.machine.sends_late {
            return Ok(Some(Stage::Leaving));
        }
        self.tally.writes += 1;
        self.tell(|| format!("the first byte of {token:?} leaves"));
        let work = Duration::from_millis(1 + self.rng.below(TIMEOUT.as_millis() as usize) as u64);
        self.oracle.begins(token, self.now, self.now.after(work))?;
        Ok(Some(Stage::Exchanging { heard: true }))
    }

    fn exchange(&mut self, token: Token, heard: bool) -> Result<Option<Stage>, Violation> {
        let works = self.oracle.works_on(token, self.now);
        if heard && self.rng.one_in(self.trouble) {
            // Reset, or timed out: nobody knows, and the lane stays closed until its time.
            self.tally.in_doubt += 1;
            return Ok(if self.machine.leaves_in_doubt { Some(Stage::Leaving) } else { None });
        }
        if works {
            return Ok(Some(Stage::Exchanging { heard }));
        }
        self.oracle.ends(token);
        // A conflict: once more, under the same turn.
        if self.rng.one_in(4) {
            self.tally.further_attempts += 1;
            if self.machine.again_without_marking {
                return self.send(token, self.now);
            }
            return Ok(Some(Stage::Turn));
        }
        Ok(Some(Stage::Leaving))
    }
}
