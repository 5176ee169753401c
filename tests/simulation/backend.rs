//! The backend: it executes late, drops, refuses, fails and says nothing, and has never heard of tokens.

use super::oracle::{Body, Violation};
use super::world::World;
use oncegate::domain::ledger::{Token, Verdict};

/// Added to the body of an answer that an operator wrote: it is never the backend's own.
const WRITTEN_BY_OPERATOR: Body = 1_000_000;

/// An attempt as the backend sees it.
pub(super) struct Job {
    pub(super) id: usize,
    /// The gateway still hears it.
    pub(super) connected: bool,
    pub(super) executed: bool,
    pub(super) state: JobState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobState {
    /// In a socket's buffer, or in a thread that sleeps: may still be executed.
    Buffered,
    Answered(Reply),
    /// Never looked at again.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Ok,
    Rejected,
    Failed,
}

// === impl World: its backend ===

impl World<'_> {
    /// The backend goes on with one request, whether or not anybody still listens.
    pub(super) fn advance_a_job(&mut self) -> Result<(), Violation> {
        let mut open: Vec<Token> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.state == JobState::Buffered)
            .map(|(token, _)| *token)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        // A map has no order of its own; a history must.
        open.sort_unstable_by_key(|token| token.0);
        let token = self.rng.pick(&open);
        let (executes, state) = match self.rng.below(10) {
            0..4 => (true, JobState::Answered(Reply::Ok)),
            4 => (true, JobState::Answered(Reply::Failed)),
            5 => (false, JobState::Answered(Reply::Failed)),
            6 => (false, JobState::Answered(Reply::Rejected)),
            // Executed, and then it hangs or breaks: the answer is never written.
            7 => (true, JobState::Dropped),
            8 => (false, JobState::Dropped),
            _ => return Ok(()),
        };
        let job = self.jobs.get_mut(&token).expect("chosen among the jobs");
        (job.executed, job.state) = (executes, state);
        let id = job.id;
        self.tell(|| format!("record {id}: the backend has {token:?}: executed {executes}, {state:?}"));
        if executes {
            self.tally.effects += 1;
            self.oracle.effect(id, token)?;
        }
        Ok(())
    }

    /// Executed, where the backend did it; not executed only where nobody can send it or execute it any more.
    pub(super) fn truth_about(&self, token: Token) -> Option<Verdict<Body>> {
        let at_work = self.tasks.iter().any(|task| task.claim.token == token);
        match self.jobs.get(&token) {
            Some(job) if job.executed => {
                let own = u32::try_from(token.0).expect("tokens count from one hundred");
                Some(Verdict::Executed { answer: own + WRITTEN_BY_OPERATOR, keep: self.keep })
            }
            Some(Job { state: JobState::Buffered, .. }) => None,
            _ if at_work => None,
            _ => Some(Verdict::NotExecuted),
        }
    }
}
