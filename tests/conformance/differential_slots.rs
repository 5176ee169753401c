//! Random commands about slots on a store with real Redis behind it, and on the small store that the simulation is run on,
//! which is made of the domain's own functions: the same outcomes, and the same holds after every step.

use super::bench::Bench;
use super::differential::each_history;
use super::support::*;
use crate::simulation::slots::store::{KEEP, Machine, Said, Store as Model};
use crate::simulation::slots::world::LEASE;
use oncegate::domain::client::ScopeId;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{Doubt, Outcome, Token};
use oncegate::domain::slot::{
    Booking, BookingId, End, HoldKey, HoldState, Keep, Known, Part, SlotId, Taken, Wanted,
};
use oncegate::domain::time::Millis;
use oncegate::store::slots::{HoldListing, HoldView};
use oncegate::store::{ClaimRequest, Claimed, Completion, Free, Held, Settle, Settled, Settlement};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const IN_DOUBT_FOR: Duration = Duration::from_secs(1 << 20);

#[derive(Clone, Debug)]
enum Do {
    /// Record `n` asks for a place in each slot of the set, on behalf of one of two callers.
    Book {
        n: u8,
        slots: [bool; 3],
        hold: u16,
        sent: bool,
        who: u8,
    },
    Change {
        n: u8,
        booking: u8,
        to: u8,
        how: How,
    },
    MarkSent {
        n: u8,
    },
    Complete {
        n: u8,
        done: bool,
        names: Option<u8>,
        frees: Option<(u8, bool)>,
    },
    Abandon {
        n: u8,
    },
    Doubt {
        n: u8,
    },
    Release {
        booking: u8,
        remember: bool,
    },
    /// The backend has no more what holds the slot: as it is, or as it was.
    Vacate {
        slot: u8,
        stale: bool,
    },
    Settle {
        n: u8,
        executed: bool,
    },
    Ask {
        slot: u8,
    },
    Pass {
        millis: u8,
    },
}

/// How a booking changes.
#[derive(Clone, Copy, Debug)]
enum How {
    /// To another slot, or none.
    Moves,
    /// It comes back to its slot.
    Resumes,
    /// It keeps its slot.
    Looks,
    /// The caller knows nothing of what it holds.
    Unseen,
    /// The caller takes it for paused where it is not, and the other way round.
    Stale,
}

fn step() -> impl Strategy<Value = Do> {
    let (n, booking, slot) = (1..6_u8, 1..4_u8, 1..4_u8);
    let how = prop_oneof![
        3 => Just(How::Moves), 1 => Just(How::Resumes), 1 => Just(How::Looks), 1 => Just(How::Unseen), 1 => Just(How::Stale),
    ];
    let frees = prop::option::weighted(0.2, (booking.clone(), any::<bool>()));
    prop_oneof![
        8 => (n.clone(), any::<[bool; 3]>(), 1..40_u16, prop::bool::weighted(0.7), 1..3_u8)
            .prop_map(|(n, slots, hold, sent, who)| Do::Book { n, slots, hold, sent, who }),
        5 => (n.clone(), booking.clone(), slot.clone(), how)
            .prop_map(|(n, booking, to, how)| Do::Change { n, booking, to, how }),
        2 => n.clone().prop_map(|n| Do::MarkSent { n }),
        8 => (n.clone(), prop::bool::weighted(0.8), prop::option::weighted(0.8, booking.clone()), frees)
            .prop_map(|(n, done, names, frees)| Do::Complete { n, done, names, frees }),
        2 => n.clone().prop_map(|n| Do::Abandon { n }),
        2 => n.clone().prop_map(|n| Do::Doubt { n }),
        2 => (booking, any::<bool>()).prop_map(|(booking, remember)| Do::Release { booking, remember }),
        3 => (slot.clone(), prop::bool::weighted(0.2)).prop_map(|(slot, stale)| Do::Vacate { slot, stale }),
        1 => (n, any::<bool>()).prop_map(|(n, executed)| Do::Settle { n, executed }),
        1 => slot.prop_map(|slot| Do::Ask { slot }),
        4 => (1..30_u8).prop_map(|millis| Do::Pass { millis }),
    ]
}

fn booking(n: u8) -> Booking {
    Booking::new(BookingId([n; 16]), &n.to_string())
}

/// A place of slot `n`; the second slot has two.
fn place(n: u8, hold: u64, who: u8) -> Wanted {
    Wanted {
        slot: SlotId([n; 16]),
        capacity: if n == 2 { 2 } else { 1 },
        keep: Keep::For(Duration::from_millis(hold)),
        witness: ScopeId([who; 16]),
        asleep: false,
        booking: None,
        instead_of: None,
        was_released: false,
        looks: false,
        name: "room".into(),
        label: n.to_string().into(),
        parts: [Part([n; 16])].as_slice().into(),
    }
}

/// Both stores, and the last attempt of each record.
struct Both<'b> {
    bench: &'b mut Bench,
    model: Model<'static>,
    tokens: BTreeMap<u8, Token>,
    last: u128,
}

// === impl Both ===

impl Both<'_> {
    async fn step(&mut self, step: &Do) {
        let now = Millis(self.bench.now);
        self.model.tick(now);
        let of = |n: u8| self.tokens.get(&n).copied().unwrap_or(Token(u128::MAX));
        let store = &self.bench.store;
        match *step {
            Do::Book { n, slots, hold, sent, who } => {
                let slots = (1..4).filter(|slot| slots[*slot as usize - 1]);
                let wanted = slots.map(|slot| place(slot, hold.into(), who)).collect();
                self.claim(n, wanted, sent, now).await;
            }
            Do::Change { n, booking: which, to, how } => {
                let known = self.model.of_booking(booking(which).key, now);
                let mut wanted = Wanted { booking: Some(booking(which)), ..place(to, 60, 1) };
                if let (Some((slot, hold)), false) = (known.first(), matches!(how, How::Unseen)) {
                    let released = hold.state == HoldState::Released;
                    wanted.instead_of = Some(HoldKey { slot: *slot, token: hold.token });
                    wanted.was_released = released;
                    match how {
                        How::Moves | How::Unseen => wanted.asleep = released,
                        How::Resumes => wanted.slot = *slot,
                        How::Looks => (wanted.slot, wanted.looks) = (*slot, true),
                        How::Stale => wanted.was_released = !released,
                    }
                }
                self.claim(n, vec![wanted], true, now).await;
            }
            Do::MarkSent { n } => {
                let expected = self.model.mark_sent(id(n), of(n), now);
                assert_eq!(store.mark_sent(id(n), of(n)).await, Ok(held(expected)));
            }
            Do::Complete { n, done, names, frees } => {
                let (status, end) = if done { (201, End::Held) } else { (500, End::Unsettled) };
                let bookings: Vec<(SlotId, Booking)> = names
                    .into_iter()
                    .flat_map(|of| (1..4).map(move |n| (SlotId([n; 16]), booking(of))))
                    .collect();
                let frees = frees.map(|(which, remember)| (booking(which).key, remember));
                let settlement = (end, bookings.clone());
                let expected = self.model.complete(id(n), of(n), status, settlement, frees, now);
                let completion = Completion {
                    keep: KEEP,
                    slots: Settlement { end, bookings },
                    frees: frees.into_iter().map(|(booking, remember)| Free { booking, remember }).collect(),
                    ..completion(n, of(n).0, answer(status, ""))
                };
                assert_eq!(store.complete(completion).await, Ok(held(expected)));
            }
            Do::Abandon { n } => {
                self.model.abandon(id(n), of(n), now);
                store.abandon(id(n), of(n), None).await.expect("the store works");
            }
            Do::Doubt { n } => {
                self.model.doubt(id(n), of(n), Doubt::TimedOut, now);
                store.doubt(id(n), of(n), Doubt::TimedOut).await.expect("the store works");
            }
            Do::Release { booking: which, remember } => {
                self.model.free(booking(which).key, remember, None, now);
                let free = Free { booking: booking(which).key, remember };
                store.release(vec![free], None).await.expect("the store works");
            }
            Do::Vacate { slot, stale } => {
                let holds = self.model.holds().iter();
                let mut here = holds.filter(|(key, _)| key.slot == SlotId([slot; 16]));
                let Some((key, mut seen)) = here.next().map(|(key, hold)| (*key, hold.clone())) else {
                    return;
                };
                seen.since = Millis(seen.since.0 - u64::from(stale));
                let expected = self.model.vacate(key, &seen, now);
                let known = Known { slot: key.slot, hold: seen };
                assert_eq!(store.vacate(&known).await, Ok(held(expected)));
            }
            Do::Settle { n, executed } => {
                let expected = self.model.resolve(id(n), of(n), executed, now);
                let how = match executed {
                    true => Settle::Executed { answer: answer(200, ""), keep: KEEP, follows: None },
                    false => Settle::NotExecuted,
                };
                let got = store.settle(id(n), how).await.expect("the store works");
                assert_eq!(got == Settled::Yes, expected, "{got:?}");
            }
            Do::Ask { slot } => {
                let wanted = place(slot, 1, 2);
                let expected = self.model.look(&wanted, now);
                same_refusal(store.look(&wanted).await.expect("the store works"), expected);
            }
            Do::Pass { millis } => self.bench.pass(millis.into()),
        }
        self.compare().await;
    }

    async fn claim(&mut self, n: u8, wanted: Vec<Wanted>, sent: bool, now: Millis) {
        self.last += 1;
        let token = Token(self.last);
        let store = &self.bench.store;
        let mut request = ClaimRequest { slots: wanted.clone(), ..claim(store, n, token.0) };
        (request.claim.fingerprint, request.claim.sent) = (Fingerprint([1; 32]), sent);
        (request.claim.lease, request.claim.in_doubt_for) = (LEASE, IN_DOUBT_FOR);
        request.about.request_id = "r".into();
        let expected = self.model.claim(id(n), token, store.owner(), sent, &wanted, now);
        let got = store.claim(request.clone()).await.expect("the store works");
        if matches!(got, Claimed::Granted) {
            // Its reply was lost, and it is sent once more.
            let again = store.claim(request).await.expect("the store works");
            assert!(matches!(again, Claimed::Granted), "{again:?}");
        }
        match (got, expected) {
            (Claimed::SlotTaken(got), Said::Taken(expected)) => same_refusal(Some(got), Some(expected)),
            (Claimed::SlotChanged, Said::Changed) => {}
            (Claimed::Granted, Said::Record(Outcome::Granted)) => drop(self.tokens.insert(n, token)),
            (Claimed::InFlight(_), Said::Record(Outcome::InFlight { .. }))
            | (Claimed::Done(_), Said::Record(Outcome::Done { .. }))
            | (Claimed::InDoubt { .. }, Said::Record(Outcome::InDoubt { .. })) => {}
            (got, Said::Record(expected)) => panic!("{got:?} is not {expected:?}"),
            (got, Said::Taken(expected)) => panic!("{got:?} is not {expected:?}"),
            (got, Said::Changed) => panic!("{got:?}, and the booking has changed"),
        }
    }

    /// What both hold now, as operators and gateways see it.
    async fn compare(&mut self) {
        let now = Millis(self.bench.now);
        self.model.tick(now);
        let holds = self.model.holds();
        let expected: Vec<HoldView> = holds.iter().map(|(key, hold)| HoldView::new(key.slot, hold)).collect();
        let listing = HoldListing { limit: 100, ..Default::default() };
        assert_eq!(self.bench.store.holds(listing).await, Ok(expected));
        for which in 1..4 {
            let known = self.model.of_booking(booking(which).key, now).into_iter();
            let expected: Vec<Known> = known.map(|(slot, hold)| Known { slot, hold }).collect();
            let mut got = self.bench.store.holds_of(booking(which).key).await.expect("the store works");
            got.sort_by_key(Known::key);
            assert_eq!(got, expected, "booking {which}");
        }
    }
}

fn held(yes: bool) -> Held {
    if yes { Held::Yes } else { Held::No }
}

/// Of several own bookings of one instant, which is named is left open.
fn same_refusal(got: Option<Taken>, expected: Option<Taken>) {
    let without_id =
        |taken: Option<Taken>| taken.map(|taken| (taken.id.is_some(), Taken { id: None, ..taken }));
    assert_eq!(without_id(got), without_id(expected));
}

#[test]
fn redis_does_with_slots_what_the_domain_says() {
    each_history(prop::collection::vec(step(), 1..80), async |bench, steps| {
        let (model, tokens) = (Model::new(&Machine::REAL), BTreeMap::new());
        let mut both = Both { bench, model, tokens, last: 0 };
        for step in steps {
            both.step(step).await;
        }
    });
}
