//! The smallest store that keeps records and holds together, made of the domain's own functions: what every real store has to
//! do, in one place. The functions can be exchanged for wrong ones.

use super::world::LEASE;
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{
    Change, Claim, Command, Doubt, Outcome, Owner, Phase, PolicyVersion, Record, RecordId, Step, TargetId,
    Token, Verdict, apply, settle,
};
use oncegate::domain::slot::{
    self, Booking, BookingId, End, Fate, Hold, HoldKey, HoldState, Saw, SlotId, Taken, Wanted,
};
use oncegate::domain::time::Millis;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is kept of a success: longer than any history.
pub const KEEP: Duration = Duration::from_millis(40);

/// The functions that a history runs on.
#[derive(Clone, Copy)]
pub struct Machine {
    pub refusal: fn(&[&Hold], &Wanted, Token, Millis) -> Option<Taken>,
    pub fate: fn(&Record<u16>, Saw, &Step<u16>) -> Fate,
    pub settled: fn(&Hold, End, Option<Booking>, Millis) -> Hold,
    pub unsettled: fn(&Hold, Millis) -> Hold,
    /// Takes the slots that are free and leaves the others.
    pub takes_some: bool,
    /// Does not look whether the booking is as the caller saw it.
    pub moves_blindly: bool,
    /// The old slot is free as soon as the new one is asked for.
    pub frees_before_it_moves: bool,
    /// The old slot stays when the move is done.
    pub keeps_the_old: bool,
    /// A release frees whatever holds the same slot.
    pub frees_the_slot: bool,
    /// A window's end frees the slot.
    pub window_frees: bool,
    /// A change that leaves the slot as it is is no change to others.
    pub lets_others_change: bool,
    /// Where the backend says that a booking is gone, whatever holds its slot by then is given back.
    pub vacates_the_slot: bool,
    /// The backend is asked about what is not held yet, too, and what it does not know is given back.
    pub vacates_the_unsettled: bool,
}

/// What a claim got.
pub enum Said {
    Record(Outcome<u16>),
    Taken(Taken),
    Changed,
}

pub struct Store<'m> {
    machine: &'m Machine,
    records: BTreeMap<RecordId, Record<u16>>,
    holds: BTreeMap<HoldKey, Hold>,
}

// === impl Machine ===

impl Machine {
    /// The domain as it is.
    pub const REAL: Machine = Machine {
        refusal: |holds, wanted, by, now| slot::refusal(holds.iter().copied(), wanted, by, now),
        fate: slot::fate,
        settled: Hold::settled,
        unsettled: Hold::unsettled,
        takes_some: false,
        moves_blindly: false,
        frees_before_it_moves: false,
        keeps_the_old: false,
        frees_the_slot: false,
        window_frees: false,
        lets_others_change: false,
        vacates_the_slot: false,
        vacates_the_unsettled: false,
    };
}

// === impl Store ===

impl<'m> Store<'m> {
    pub fn new(machine: &'m Machine) -> Store<'m> {
        Store { machine, records: BTreeMap::new(), holds: BTreeMap::new() }
    }

    pub fn claim(
        &mut self,
        id: RecordId,
        token: Token,
        owner: Owner,
        sent: bool,
        wanted: &[Wanted],
        now: Millis,
    ) -> Said {
        self.let_pass(now);
        let claim = Claim {
            fingerprint: Fingerprint([1; 32]),
            keyed: false,
            policy: PolicyVersion(1),
            scope: ScopeId([1; 16]),
            target: TargetId([1; 16]),
            token,
            owner,
            lease: LEASE,
            sent,
            in_doubt_for: Duration::from_secs(1 << 20),
        };
        let Step { change, outcome } = apply(self.records.get(&id), Command::Claim(claim), now);
        if outcome != Outcome::Granted {
            return Said::Record(outcome);
        }
        let mut free = Vec::new();
        for place in wanted {
            if !self.machine.moves_blindly && self.is_changed(place, wanted, token, now) {
                return Said::Changed;
            }
            let holds: Vec<&Hold> =
                self.holds.iter().filter(|(key, _)| key.slot == place.slot).map(|(_, hold)| hold).collect();
            match (self.machine.refusal)(&holds, place, token, now) {
                Some(taken) if !self.machine.takes_some => return Said::Taken(taken),
                Some(taken) if wanted.len() == 1 => return Said::Taken(taken),
                Some(_) => {}
                None => free.push(place),
            }
        }
        for place in free.into_iter().filter(|place| !place.looks || !self.machine.lets_others_change) {
            if self.machine.frees_before_it_moves
                && let Some(old) = place.instead_of
            {
                self.holds.remove(&old);
            }
            let hold = Hold::reserved(place, token, id, "r".into(), now);
            self.holds.insert(HoldKey { slot: place.slot, token }, hold);
        }
        if let Change::Put(record) = change {
            self.records.insert(id, record);
        }
        Said::Record(Outcome::Granted)
    }

    fn is_changed(&self, place: &Wanted, all: &[Wanted], by: Token, now: Millis) -> bool {
        if let Some(old) = place.instead_of
            && !self.holds.get(&old).is_some_and(|hold| hold.is_as_seen(place, now))
        {
            return true;
        }
        let Some(booking) = &place.booking else { return false };
        self.of_booking(booking.key, now).iter().any(|(slot, hold)| {
            let seen = all.iter().any(|one| one.instead_of.is_some_and(|old| old.slot == *slot));
            hold.token != by && (hold.is_moving() || !seen)
        })
    }

    pub fn mark_sent(&mut self, id: RecordId, token: Token, now: Millis) -> bool {
        self.command(id, Command::MarkSent { token }, now)
    }

    pub fn abandon(&mut self, id: RecordId, token: Token, now: Millis) {
        self.command(id, Command::Abandon { token }, now);
    }

    pub fn doubt(&mut self, id: RecordId, token: Token, why: Doubt, now: Millis) {
        self.command(id, Command::Doubt { token, why }, now);
    }

    /// Completes, settles what was reserved, and gives back what the success gives back, in one step.
    pub fn complete(
        &mut self,
        id: RecordId,
        token: Token,
        status: u16,
        (end, bookings): (End, Vec<(SlotId, Booking)>),
        free: Option<(BookingId, bool)>,
        now: Millis,
    ) -> bool {
        let repeated = matches!(self.records.get(&id).map(|record| &record.phase), Some(Phase::Done { .. }));
        let held = self.command(id, Command::Complete { token, answer: status, keep: KEEP }, now);
        if held && !repeated {
            self.settle(token, end, &bookings, now);
            if let Some((booking, remember)) = free {
                self.free(booking, remember, Some(token), now);
            }
        }
        held
    }

    /// An operator's word.
    pub fn resolve(&mut self, id: RecordId, token: Token, executed: bool, now: Millis) -> bool {
        let verdict =
            if executed { Verdict::Executed { answer: 200, keep: KEEP } } else { Verdict::NotExecuted };
        let held = self.command(id, Command::Resolve { token: Some(token), verdict }, now);
        if held && executed {
            self.settle(token, End::Held, &[], now);
        }
        held
    }

    pub fn owners_died(&mut self, alive: Owner, now: Millis) {
        for id in self.records.keys().copied().collect::<Vec<_>>() {
            self.command(id, Command::OwnersDied { alive }, now);
        }
    }

    pub fn tick(&mut self, now: Millis) {
        self.let_pass(now);
        self.holds.retain(|_, hold| !hold.is_over(now));
    }

    /// The live holds of a booking.
    pub fn of_booking(&self, booking: BookingId, now: Millis) -> Vec<(SlotId, Hold)> {
        let own = |hold: &Hold| hold.booking.as_ref().is_some_and(|known| known.key == booking);
        let holds = self.holds.iter().filter(|(_, hold)| own(hold) && !hold.is_over(now));
        holds.map(|(key, hold)| (key.slot, hold.clone())).collect()
    }

    /// All holds.
    pub fn holds(&self) -> &BTreeMap<HoldKey, Hold> {
        &self.holds
    }

    /// Why a place cannot be had at this moment, if it cannot.
    pub fn look(&self, wanted: &Wanted, now: Millis) -> Option<Taken> {
        let holds = self.holds.iter().filter(|(key, _)| key.slot == wanted.slot);
        let holds: Vec<&Hold> = holds.map(|(_, hold)| hold).collect();
        (self.machine.refusal)(&holds, wanted, Token(0), now)
    }

    pub fn has_unsettled(&self, slot: SlotId) -> bool {
        self.holds.iter().any(|(key, hold)| key.slot == slot && hold.state == HoldState::Unsettled)
    }

    fn command(&mut self, id: RecordId, command: Command<u16>, now: Millis) -> bool {
        let saw = Saw::from(&command);
        let step = apply(self.records.get(&id), command, now);
        self.carry_out(id, saw, step)
    }

    fn let_pass(&mut self, now: Millis) {
        for id in self.records.keys().copied().collect::<Vec<_>>() {
            let record = &self.records[&id];
            let step = Step { change: settle(record, now), outcome: Outcome::Refused };
            if self.machine.window_frees
                && matches!((&record.phase, &step.change), (Phase::Done { .. }, Change::Remove))
            {
                self.holds.retain(|_, hold| hold.record != Some(id));
            }
            self.carry_out(id, Saw::Time, step);
        }
    }

    fn carry_out(&mut self, id: RecordId, saw: Saw, step: Step<u16>) -> bool {
        if let Some(record) = self.records.get(&id)
            && let Phase::Queued { token, .. } | Phase::Sent { token, .. } | Phase::InDoubt { token, .. } =
                record.phase
        {
            match (self.machine.fate)(record, saw, &step) {
                Fate::Stay | Fate::Answered => {}
                Fate::Free => self.holds.retain(|key, hold| key.token != token || !hold.is_open()),
                Fate::Doubt(since) => {
                    let unsettled = self.machine.unsettled;
                    let own =
                        self.holds.iter_mut().filter(|(key, hold)| key.token == token && hold.is_open());
                    own.for_each(|(_, hold)| *hold = unsettled(hold, since));
                }
            }
        }
        match step.change {
            Change::Keep => {}
            Change::Put(record) => drop(self.records.insert(id, record)),
            Change::Remove => drop(self.records.remove(&id)),
        }
        step.outcome == Outcome::Applied
    }

    fn settle(&mut self, token: Token, end: End, bookings: &[(SlotId, Booking)], now: Millis) {
        let own: Vec<HoldKey> = self
            .holds
            .iter()
            .filter(|(key, hold)| key.token == token && hold.is_open())
            .map(|(key, _)| *key)
            .collect();
        for key in own {
            let named =
                bookings.iter().find(|(slot, _)| *slot == key.slot).map(|(_, booking)| booking.clone());
            if self.holds[&key].looks {
                self.holds.remove(&key);
                continue;
            }
            let old = self.holds[&key].instead_of;
            let hold = (self.machine.settled)(&self.holds[&key], end, named, now);
            if hold.instead_of.is_none()
                && let Some(old) = old.filter(|_| !self.machine.keeps_the_old)
            {
                self.holds.remove(&old);
            }
            self.holds.insert(key, hold);
        }
    }

    /// A booking gives back what it holds; the record of the attempt `by` whose success it is stays.
    pub fn free(&mut self, booking: BookingId, remember: bool, by: Option<Token>, now: Millis) {
        let holds = self.of_booking(booking, now);
        if remember && holds.iter().any(|(_, hold)| hold.is_moving()) {
            return;
        }
        for (slot, hold) in holds {
            let key = HoldKey { slot, token: hold.token };
            match (hold.state, remember) {
                (HoldState::Held, true) => {
                    self.holds.insert(key, hold.released(now));
                }
                (HoldState::Unsettled | HoldState::Released, true) | (HoldState::Reserved, _) => continue,
                _ if self.machine.frees_the_slot => self.holds.retain(|other, _| other.slot != slot),
                _ => drop(self.holds.remove(&key)),
            }
            if by != Some(hold.token) {
                self.end_record(&hold, now);
            }
        }
    }

    /// What holds `slot` and may be asked about.
    pub fn to_be_asked_about(&self, slot: SlotId, now: Millis) -> Vec<(HoldKey, Hold)> {
        let asks = |hold: &Hold| {
            self.machine.vacates_the_unsettled
                || hold.booking.is_some() && hold.may_be_asked_about(now, Duration::ZERO)
        };
        let holds = self.holds.iter().filter(|(key, hold)| key.slot == slot && asks(hold));
        holds.map(|(key, hold)| (*key, hold.clone())).collect()
    }

    /// The backend has no such booking any more.
    pub fn vacate(&mut self, key: HoldKey, seen: &Hold, now: Millis) -> bool {
        if self.machine.vacates_the_slot {
            self.holds.retain(|other, _| other.slot != key.slot);
            return true;
        }
        if self.machine.vacates_the_unsettled {
            return self.holds.remove(&key).is_some();
        }
        let is_there = self.holds.get(&key).is_some_and(|hold| hold.is_still(seen, now));
        let others = seen.booking.as_ref().map(|booking| self.of_booking(booking.key, now));
        if !is_there || others.into_iter().flatten().any(|(_, hold)| hold.is_moving()) {
            return false;
        }
        self.holds.remove(&key);
        self.end_record(seen, now);
        true
    }

    /// A release ends the keyless record of the attempt that took the place.
    fn end_record(&mut self, hold: &Hold, now: Millis) {
        if let Some(record) = hold.record
            && matches!(self.records.get(&record).map(|record| &record.phase), Some(Phase::Done { .. }))
        {
            self.command(record, Command::End { by: None }, now);
        }
    }
}
