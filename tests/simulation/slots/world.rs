//! A world of bookings: people who book, cancel, pause, resume and move, gateways that crash and hang, and a backend that
//! checks nothing, loses answers, and executes late. It knows what is really booked; the store under test does not.

use super::Violation;
use super::rows::{Asks, Attempt, Row, Tally, booking, index, key, row_of, slot_id};
use super::store::{Machine, Said, Store};
use crate::simulation::rng::Rng;
use oncegate::domain::client::ScopeId;
use oncegate::domain::ledger::{Doubt, Outcome, Owner, RecordId, Token};
use oncegate::domain::slot::{End, Hold, HoldKey, HoldState, Keep, Part, SlotId, Wanted};
use oncegate::domain::time::Millis;
use std::collections::BTreeMap;
use std::time::Duration;

/// Slots that everybody wants.
const SLOTS: usize = 3;
const PEOPLE: usize = 3;
pub const LEASE: Duration = Duration::from_millis(10);

pub struct World<'m> {
    store: Store<'m>,
    rng: Rng,
    now: Millis,
    owner: u64,
    next: u128,
    capacity: u32,
    rows: Vec<Row>,
    attempts: Vec<Attempt>,
    /// What gateways saw of bookings.
    seen: BTreeMap<usize, Vec<(SlotId, Hold)>>,
    /// Of what the backend said that it is gone, on its way to the store.
    gone: Vec<(HoldKey, Hold)>,
    pub tally: Tally,
}

// === impl World ===

impl<'m> World<'m> {
    pub fn new(machine: &'m Machine, seed: u64) -> World<'m> {
        let mut rng = Rng::new(seed);
        let capacity = if rng.one_in(3) { 2 } else { 1 };
        World {
            store: Store::new(machine),
            rng,
            now: Millis(1_000),
            owner: 1,
            next: 1,
            capacity,
            rows: Vec::new(),
            attempts: Vec::new(),
            seen: BTreeMap::new(),
            gone: Vec::new(),
            tally: Tally::default(),
        }
    }

    pub fn step(&mut self) -> Result<(), Violation> {
        match self.rng.below(20) {
            0..=4 => self.book()?,
            5..=7 => self.change()?,
            8..=14 => self.go_on()?,
            15 => self.now = self.now.after(Duration::from_millis(self.rng.pick(&[1, 3, 9, 10, 30]))),
            16 => self.execute_late(),
            17 => self.operator(),
            18 if self.rng.one_in(4) => self.crash(),
            18 if self.rng.one_in(8) => self.cancel_unseen(),
            _ => {
                let lonely = self.rng.below(self.attempts.len().max(1));
                if let Some(attempt) = self.attempts.get_mut(lonely).filter(|_| self.rng.one_in(5)) {
                    attempt.alone = true;
                }
            }
        }
        if self.rng.one_in(3) {
            self.vacate();
        }
        self.store.tick(self.now);
        self.judge()
    }

    // --- requests ---

    fn book(&mut self) -> Result<(), Violation> {
        let who = self.rng.below(PEOPLE);
        let first = self.rng.below(SLOTS);
        let mut slots = vec![first];
        if self.rng.one_in(4) {
            slots.push((first + 1) % SLOTS);
            self.tally.several += 1;
        }
        let wanted: Vec<Wanted> = slots.iter().map(|slot| self.place(*slot, who)).collect();
        // One who repeats the very same request within the window asks the same record.
        let id = RecordId([(who * SLOTS * 2 + first * 2 + slots.len() - 1) as u8; 32]);
        self.claim(id, Asks::Book(slots), who, wanted)
    }

    /// Somebody changes a booking that somebody was told of.
    fn change(&mut self) -> Result<(), Violation> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.rows.len());
        let row = self.rows[at].clone();
        if !row.told || row.slots.len() != 1 {
            return Ok(());
        }
        // Between the look and the claim anything may happen: sometimes the look was long ago.
        let fresh = self.store.of_booking(key(at), self.now);
        let known = match self.seen.get(&at) {
            Some(seen) if self.rng.one_in(4) => seen.clone(),
            _ => fresh.clone(),
        };
        self.seen.insert(at, fresh);
        let asks = match self.rng.below(4) {
            0 => Asks::Cancel(at),
            1 => Asks::Pause(at),
            2 => Asks::Resume(at),
            _ => Asks::Move(at, self.rng.below(SLOTS)),
        };
        let mut wanted = Vec::new();
        if !matches!(asks, Asks::Cancel(_)) {
            // What the gateway does with more than it can understand: it refuses before anything is claimed.
            let [(slot, hold)] = known.as_slice() else { return Ok(()) };
            if hold.is_moving() {
                return Ok(());
            }
            let released = hold.state == HoldState::Released;
            let to = if let Asks::Move(_, to) = asks { slot_id(to) } else { *slot };
            let resumes = matches!(asks, Asks::Resume(_)) && released;
            let looks = to == *slot && !resumes;
            let place = self.place(index(to), row.who);
            wanted.push(Wanted {
                looks,
                was_released: released,
                booking: Some(booking(at)),
                instead_of: Some(HoldKey { slot: *slot, token: hold.token }),
                asleep: released && !resumes && !looks,
                ..place
            });
        }
        let id = self.fresh_record();
        self.claim(id, asks, row.who, wanted)
    }

    fn claim(&mut self, id: RecordId, asks: Asks, who: usize, wanted: Vec<Wanted>) -> Result<(), Violation> {
        let token = self.fresh_token();
        let sent = self.rng.one_in(2);
        let said = self.store.claim(id, token, Owner(self.owner), sent, &wanted, self.now);
        match said {
            Said::Record(Outcome::Granted) => {
                self.attempts.push(Attempt { id, token, asks, who, wanted, sent, alone: false, did: None });
            }
            Said::Record(Outcome::Done { answer: status, .. }) => {
                self.tally.replays += 1;
                if !(200..300).contains(&status) && status != 500 {
                    return Err(Violation::StrangeReplay);
                }
            }
            Said::Record(_) | Said::Changed => {}
            Said::Taken(taken) => {
                self.tally.refused += 1;
                if taken.id.is_some_and(|id| !self.is_own(&id, who)) {
                    return Err(Violation::ToldAStranger);
                }
                if !self.may_be_taken(index(taken.slot)) {
                    return Err(Violation::RefusedForNothing);
                }
                self.ask(taken.slot);
            }
        }
        Ok(())
    }

    // --- what no gateway sees ---

    /// Somebody cancels a booking in the backend's own page.
    fn cancel_unseen(&mut self) {
        let there: Vec<usize> = (0..self.rows.len()).filter(|at| self.rows[*at].told).collect();
        if there.is_empty() {
            return;
        }
        self.tally.unseen += 1;
        let row = self.rng.pick(&there);
        let row = &mut self.rows[row];
        (row.active, row.told, row.cancelled, row.unseen) = (false, false, true, true);
    }

    /// Before somebody is refused `slot`, the backend is asked about one who holds it.
    fn ask(&mut self, slot: SlotId) {
        let mut holders = self.store.to_be_asked_about(slot, self.now);
        if holders.is_empty() {
            return;
        }
        let (key, hold) = holders.swap_remove(self.rng.below(holders.len()));
        // What has no booking's name yet, it does not know.
        let gone = hold.booking.as_ref().is_none_or(|booking| self.rows[row_of(booking.key)].cancelled);
        if gone {
            self.gone.push((key, hold));
        }
    }

    /// The backend's word arrives at the store. Much may have happened meanwhile.
    fn vacate(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        let at = self.rng.below(self.gone.len());
        let (key, hold) = self.gone.swap_remove(at);
        if self.store.vacate(key, &hold, self.now) {
            self.tally.vacated += 1;
        }
        if let Some(booking) = &hold.booking
            && self.store.of_booking(booking.key, self.now).is_empty()
        {
            self.rows[row_of(booking.key)].unseen = false;
        }
    }

    // --- attempts ---

    fn go_on(&mut self) -> Result<(), Violation> {
        if self.attempts.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.attempts.len());
        let attempt = self.attempts[at].clone();
        if attempt.alone {
            return Ok(());
        }
        if !attempt.sent {
            match self.store.mark_sent(attempt.id, attempt.token, self.now) {
                true => self.attempts[at].sent = true,
                false => drop(self.attempts.remove(at)),
            }
            return Ok(());
        }
        match self.rng.below(10) {
            // Nothing reaches the backend, and the gateway knows it.
            0 => {
                self.store.abandon(attempt.id, attempt.token, self.now);
                self.attempts.remove(at);
            }
            // Nobody knows: the bytes may arrive later.
            1 => {
                self.tally.doubts += 1;
                self.store.doubt(attempt.id, attempt.token, Doubt::TimedOut, self.now);
                self.attempts[at].alone = true;
            }
            chance => {
                let status = match chance {
                    2 => 422,
                    3 => 500,
                    _ => 200,
                };
                let in_vain = chance == 3 && self.rng.one_in(2);
                let row = self.execute(&attempt, status, in_vain);
                if chance == 4 {
                    // The answer is lost.
                    self.tally.doubts += 1;
                    self.store.doubt(attempt.id, attempt.token, Doubt::ConnectionLost, self.now);
                    self.attempts[at].did = Some((status, row));
                    self.attempts[at].alone = true;
                    return Ok(());
                }
                self.attempts.remove(at);
                self.answered(&attempt, status, row);
            }
        }
        Ok(())
    }

    /// The gateway has the backend's answer.
    fn answered(&mut self, attempt: &Attempt, status: u16, row: Option<usize>) {
        if status == 422 {
            self.store.abandon(attempt.id, attempt.token, self.now);
            return;
        }
        let end = if status == 200 { End::Held } else { End::Unsettled };
        let bookings = match (&attempt.asks, row) {
            (Asks::Book(slots), Some(row)) if status == 200 => {
                slots.iter().map(|slot| (slot_id(*slot), booking(row))).collect()
            }
            _ => Vec::new(),
        };
        let free = match attempt.asks {
            Asks::Cancel(at) if status == 200 => Some((key(at), false)),
            Asks::Pause(at) if status == 200 => Some((key(at), true)),
            _ => None,
        };
        let held = self.store.complete(attempt.id, attempt.token, status, (end, bookings), free, self.now);
        if held
            && status == 200
            && let (Asks::Book(_), Some(row)) = (&attempt.asks, row)
        {
            self.rows[row].told = true;
        }
    }

    /// The backend does what it is asked, whatever that is; the row that came to be or changed.
    fn execute(&mut self, attempt: &Attempt, status: u16, in_vain: bool) -> Option<usize> {
        if let (500, Some(row)) = (status, attempt.asks.row()) {
            self.rows[row].murky = true;
        }
        if status == 422 || in_vain {
            return None;
        }
        let row = match attempt.asks.clone() {
            Asks::Book(slots) => {
                self.tally.booked += 1;
                let murky = status != 200;
                let (who, told) = (attempt.who, false);
                self.rows.push(Row {
                    slots,
                    active: true,
                    who,
                    told,
                    cancelled: false,
                    unseen: false,
                    murky,
                });
                self.rows.len() - 1
            }
            Asks::Cancel(at) => {
                self.tally.cancelled += 1;
                let row = &mut self.rows[at];
                (row.active, row.told, row.cancelled) = (false, false, true);
                at
            }
            Asks::Pause(at) => {
                self.tally.paused += 1;
                self.rows[at].active = false;
                at
            }
            // What was cancelled stays so.
            Asks::Resume(at) if !self.rows[at].told => at,
            Asks::Resume(at) => {
                self.tally.resumed += u64::from(!self.rows[at].active);
                self.rows[at].active = true;
                at
            }
            Asks::Move(at, to) => {
                self.tally.moved += 1;
                self.rows[at].slots = vec![to];
                at
            }
        };
        // Where two changes of one booking are at work at once, or an answer says 5xx, who was last is not known.
        let racing = |other: &&Attempt| other.token != attempt.token && other.asks.row() == Some(row);
        let racing = self.attempts.iter().any(|other| racing(&other));
        if status != 200 || racing {
            self.rows[row].murky = true;
        }
        Some(row)
    }

    /// What a gateway that is gone or hangs had sent arrives now.
    fn execute_late(&mut self) {
        let waiting: Vec<usize> = (0..self.attempts.len())
            .filter(|at| {
                let attempt = &self.attempts[*at];
                attempt.alone && attempt.sent && attempt.did.is_none()
            })
            .collect();
        if waiting.is_empty() {
            return;
        }
        self.tally.late += 1;
        let at = self.rng.pick(&waiting);
        let attempt = self.attempts[at].clone();
        let row = self.execute(&attempt, 200, false);
        self.attempts[at].did = Some((200, row));
    }

    /// Somebody looks into the backend and tells the truth. From then on nothing of the attempt arrives any more.
    fn operator(&mut self) {
        let alone: Vec<usize> = (0..self.attempts.len()).filter(|at| self.attempts[*at].alone).collect();
        if alone.is_empty() {
            return;
        }
        let at = self.rng.pick(&alone);
        let attempt = self.attempts[at].clone();
        // A late answer under the same token counts as well as an operator's word.
        if let Some((200, row)) = attempt.did
            && self.rng.one_in(2)
        {
            self.attempts.remove(at);
            self.answered(&attempt, 200, row);
            return;
        }
        let executed = attempt.did.is_some();
        if self.store.resolve(attempt.id, attempt.token, executed, self.now) {
            self.tally.settled += 1;
            self.attempts.remove(at);
            if let Some((_, Some(row))) = attempt.did {
                // An operator says that it was executed, not what it is called.
                self.rows[row].murky = true;
            }
        }
    }

    /// The only gateway dies and comes back.
    fn crash(&mut self) {
        self.tally.crashes += 1;
        self.owner += 1;
        self.attempts.retain(|attempt| attempt.sent);
        self.attempts.iter_mut().for_each(|attempt| attempt.alone = true);
        self.store.owners_died(Owner(self.owner), self.now);
    }

    // --- the truth ---

    fn judge(&self) -> Result<(), Violation> {
        for slot in 0..SLOTS {
            let booked = self.rows.iter().filter(|row| row.active && row.slots.contains(&slot)).count();
            if booked > self.capacity as usize {
                return Err(Violation::BookedTooOften);
            }
        }
        for (at, row) in self.rows.iter().enumerate().filter(|(_, row)| row.told && !row.murky) {
            let known = self.store.of_booking(key(at), self.now);
            let busy = self.is_busy(at);
            let occupied: Vec<usize> = known
                .iter()
                .filter(|(_, hold)| hold.occupies(self.now))
                .map(|(slot, _)| index(*slot))
                .collect();
            if row.active && row.slots.iter().any(|slot| !occupied.contains(slot)) && !busy {
                return Err(Violation::NotHeld);
            }
            if !busy && (!row.active || row.slots.len() != occupied.len()) && !occupied.is_empty() {
                return Err(Violation::HeldForNothing);
            }
        }
        Ok(())
    }

    /// Whether anything that has happened or may happen takes a place of `slot`.
    fn may_be_taken(&self, slot: usize) -> bool {
        let row = |(at, row): (usize, &Row)| {
            row.slots.contains(&slot) && (row.active || row.murky || row.unseen || self.is_busy(at))
        };
        // Until a move is settled both its slots may be taken.
        let wanted = |attempt: &Attempt| {
            let slots = |wanted: &Wanted| [Some(wanted.slot), wanted.instead_of.map(|old| old.slot)];
            attempt.wanted.iter().flat_map(slots).flatten().any(|wanted| index(wanted) == slot)
        };
        self.rows.iter().enumerate().any(row)
            || self.attempts.iter().any(wanted)
            // A place that nobody had is one that a doubt keeps; and what moved murkily may have been anywhere.
            || self.store.has_unsettled(slot_id(slot))
            || self.rows.iter().any(|row| row.murky)
    }

    /// Whether a change of a booking is under way.
    fn is_busy(&self, row: usize) -> bool {
        self.attempts.iter().any(|attempt| attempt.asks.row() == Some(row))
    }

    fn is_own(&self, id: &str, who: usize) -> bool {
        id.parse::<usize>().is_ok_and(|at| self.rows.get(at).is_some_and(|row| row.who == who))
    }

    fn place(&self, slot: usize, who: usize) -> Wanted {
        Wanted {
            slot: slot_id(slot),
            capacity: self.capacity,
            keep: Keep::For(Duration::from_secs(1 << 30)),
            witness: ScopeId([who as u8 + 1; 16]),
            asleep: false,
            booking: None,
            instead_of: None,
            was_released: false,
            looks: false,
            name: "slot".into(),
            label: "".into(),
            parts: [Part([slot as u8; 16])].as_slice().into(),
        }
    }

    fn fresh_token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    fn fresh_record(&mut self) -> RecordId {
        self.next += 1;
        let mut id = [0xff; 32];
        id[..16].copy_from_slice(&self.next.to_be_bytes());
        RecordId(id)
    }
}
