//! What is to go wrong with a request: named by its own `X-Demo-Fault` header, or queued for requests to come.
//!
//! A fault is a comma-separated list of clauses. Before the row is written: `delay=MS`, `reset-before`, `status=CODE`
//! (nothing is executed). After it: `delay-after=MS`, `status-after=CODE`, `reset-after[=BYTES]` and
//! `truncate=BYTES` (the connection ends after so many bytes of the answer, by a reset or politely), `cookie=NAME=VALUE`,
//! `pad=BYTES` (so much is appended to the answer). With `once` the fault befalls only the first request that carries
//! its `X-Demo-Operation`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The header that carries a fault.
pub const HEADER: &str = "x-demo-fault";
/// The longest delay; a test that hangs would hide what it found.
const DELAY_MAX: Duration = Duration::from_secs(120);
/// The most that is appended to an answer.
const PAD_BYTES_MAX: usize = 64 << 20;
/// The most entries that wait in a [`Plan`].
const PLAN_MAX: usize = 1000;

/// All that goes wrong with one request. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Waits before anything is done.
    pub delay: Duration,
    /// Resets the connection without reading the body or executing.
    pub reset_before: bool,
    /// Answers so without executing.
    pub status: Option<u16>,
    /// Waits between the commit and the answer.
    pub delay_after: Duration,
    /// Answers so although it was executed.
    pub status_after: Option<u16>,
    /// Ends the connection after so many bytes of the answer.
    pub cut: Option<Cut>,
    /// A `Set-Cookie` of the answer.
    pub cookie: Option<String>,
    /// Bytes appended to the answer.
    pub pad: usize,
    /// Only for the first request of its operation.
    pub once: bool,
}

/// Where an answer ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// After so many bytes, head included.
    pub bytes: u64,
    /// By a reset, not politely.
    pub reset: bool,
}

/// Faults that wait for requests to come.
#[derive(Debug, Default)]
pub struct Plan(Mutex<VecDeque<Planned>>);

#[derive(Debug)]
struct Planned {
    path: String,
    count: u32,
    fault: Fault,
}

// === impl Fault ===

impl Fault {
    /// Reads a list of clauses.
    ///
    /// # Errors
    /// The clause that is none.
    pub fn parse(text: &str) -> Result<Fault, String> {
        let mut fault = Fault::default();
        for clause in text.split(',').map(str::trim).filter(|clause| !clause.is_empty()) {
            let (name, value) = clause.split_once('=').unwrap_or((clause, ""));
            let wrong = || format!("not a fault: {clause}");
            let number = || value.parse::<u64>().map_err(|_| wrong());
            let status = || value.parse().ok().filter(|code| (200..600).contains(code)).ok_or_else(wrong);
            let millis = || number().map(|count| Duration::from_millis(count).min(DELAY_MAX));
            match name {
                "delay" => fault.delay = millis()?,
                "once" => fault.once = true,
                "reset-before" => fault.reset_before = true,
                "status" => fault.status = Some(status()?),
                "delay-after" => fault.delay_after = millis()?,
                "status-after" => fault.status_after = Some(status()?),
                "reset-after" => {
                    fault.cut = Some(Cut { bytes: if value.is_empty() { 0 } else { number()? }, reset: true })
                }
                "truncate" => fault.cut = Some(Cut { bytes: number()?, reset: false }),
                "cookie" => fault.cookie = Some(value.to_owned()),
                "pad" => fault.pad = usize::try_from(number()?).unwrap_or(PAD_BYTES_MAX).min(PAD_BYTES_MAX),
                _ => return Err(wrong()),
            }
        }
        Ok(fault)
    }
}

// === impl Plan ===

impl Plan {
    /// Queues `fault` for the next `count` requests whose path begins with `path`; false where the plan is full.
    pub fn add(&self, path: &str, count: u32, fault: Fault) -> bool {
        let mut plan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plan.len() >= PLAN_MAX || count == 0 {
            return false;
        }
        plan.push_back(Planned { path: path.to_owned(), count, fault });
        true
    }

    /// Takes the first fault that waits for `path`.
    pub fn take(&self, path: &str) -> Option<Fault> {
        let mut plan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = plan.iter().position(|planned| path.starts_with(&planned.path))?;
        let planned = plan.get_mut(at)?;
        planned.count -= 1;
        let fault = planned.fault.clone();
        if planned.count == 0 {
            plan.remove(at);
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_add_up() {
        let fault =
            Fault::parse("delay=30, status-after=500,truncate=17,cookie=session=abc").expect("a fault");
        assert_eq!((fault.delay, fault.status_after), (Duration::from_millis(30), Some(500)));
        assert_eq!(fault.cut, Some(Cut { bytes: 17, reset: false }));
        assert_eq!(fault.cookie.as_deref(), Some("session=abc"));
        assert_eq!(Fault::parse("reset-after").expect("a fault").cut, Some(Cut { bytes: 0, reset: true }));
    }

    #[test]
    fn what_is_no_fault_is_named() {
        assert_eq!(Fault::parse("reset-afer"), Err("not a fault: reset-afer".to_owned()));
        assert_eq!(Fault::parse("status=42"), Err("not a fault: status=42".to_owned()));
    }

    #[test]
    fn a_planned_fault_is_taken_by_as_many_requests_as_it_was_planned_for() {
        let plan = Plan::default();
        assert!(plan.add("/api/b", 2, Fault { status: Some(503), ..Fault::default() }));
        let taken: Vec<bool> =
            ["/api/a", "/api/b", "/api/b/1", "/api/b"].map(|path| plan.take(path).is_some()).to_vec();
        assert_eq!(taken, [false, true, true, false]);
    }
}
