//! Slots of a fleet. A claim reserves them and a completion settles them in their own scripts (`commands`); here is what is
//! asked about them besides, and how a gateway says its holds again to a store that has forgotten them.
//!
//! All slots are in one part, beside the records of the routes that bear them.

use super::Inner;
use super::held::{letter, name_of, named, read_hold, read_taken};
use super::reply::{self, Reply};
use super::script::{Call, Script};
use crate::domain::slot::{BookingId, Known, SlotId, Taken, Wanted};
use crate::domain::time::Millis;
use crate::store::slots::{Adopted, Adoption, Free, HoldListing, HoldView, Released, SlotFigures, Which};
use crate::store::{EndIntents, Held, StoreError};
use std::collections::BTreeMap;

/// The most holds that one listing gives.
const LISTING_MAX: usize = 1_000;

/// Holds that one script names, and shows.
const NAMES_A_SCRIPT: usize = 200;

/// Holds that one script adopts, or says again.
pub(super) const HOLDS_A_SCRIPT: usize = 50;

/// Names of holds given back that one script reads.
const FREED_A_SCRIPT: usize = 1_000;

// === impl Inner: slots ===

impl Inner {
    /// See [`Store::release`](crate::store::Store::release).
    pub(in crate::store) async fn release(
        &self,
        frees: Vec<Free>,
        ends: Option<EndIntents>,
    ) -> Result<usize, StoreError> {
        let here = !self.wire.parts.are_several();
        let mut call = self.about_slots(Script::SlotRelease).once().arg(frees.len());
        call = frees.iter().fold(call, Call::free);
        if let Some(ends) = ends.as_ref().filter(|_| here) {
            call = call.ends(ends);
        }
        let mut told = self.known(Reply::array(self.run(call.under_agreement()).await?)?)?;
        let (freed, at) = (told.number()?, Millis(told.number()?));
        if let Some(ends) = &ends {
            self.ended_at(ends, at).await?;
        }
        Ok(usize::try_from(freed).unwrap_or(usize::MAX))
    }

    /// See [`Store::holds_of`](crate::store::Store::holds_of).
    pub(in crate::store) async fn holds_of(&self, booking: BookingId) -> Result<Vec<Known>, StoreError> {
        let told = self.run(self.about_slots(Script::SlotOf).arg(&booking.0)).await?;
        Reply::array(told)?.map(|hold| read_hold(Reply::array(hold)?)).collect()
    }

    /// See [`Store::holders`](crate::store::Store::holders).
    pub(in crate::store) async fn holders(
        &self,
        slot: SlotId,
        most: usize,
    ) -> Result<Vec<Known>, StoreError> {
        let listing = HoldListing { slot: Some(slot), ..HoldListing::default() };
        let names = self.names(&listing, None, most.min(NAMES_A_SCRIPT)).await?;
        let call = names.iter().fold(self.about_slots(Script::SlotShow), |call, name| call.arg(name));
        Reply::array(self.run(call).await?)?.map(|hold| read_hold(Reply::array(hold)?)).collect()
    }

    /// See [`Store::vacate`](crate::store::Store::vacate).
    pub(in crate::store) async fn vacate(&self, seen: &Known) -> Result<Held, StoreError> {
        let Known { slot, hold } = seen;
        let booking = hold.booking.as_ref().map_or(&[][..], |booking| &booking.key.0);
        let call = self.about_slots(Script::SlotVacate).once();
        let call = call.arg(&slot.0).arg(&hold.token.0.to_be_bytes()).arg(hold.since.0).arg(booking);
        let told = Reply::array(self.run(call.under_agreement()).await?)?.next();
        match told.map(|count| reply::number(&count)).transpose()? {
            None => Err(super::commands::amnesia()),
            Some(0) => Ok(Held::No),
            Some(_) => Ok(Held::Yes),
        }
    }

    /// See [`Store::look`](crate::store::Store::look).
    pub(in crate::store) async fn look_at_slot(&self, wanted: &Wanted) -> Result<Option<Taken>, StoreError> {
        // While gateways say again what they know, a slot that is taken may look free.
        if let Some(why) = self.health.refusing() {
            return Err(StoreError::Unavailable(why));
        }
        let told = self.run(self.about_slots(Script::SlotLook).wanted(wanted)).await?;
        let mut told = Reply::array(told)?;
        if told.bytes()? == b"free" { Ok(None) } else { read_taken(&mut told, wanted).map(Some) }
    }

    /// See [`Store::adopt`](crate::store::Store::adopt).
    pub(in crate::store) async fn adopt(&self, adopted: Vec<Adopted>) -> Result<Vec<Adoption>, StoreError> {
        let mut done = Vec::with_capacity(adopted.len());
        for some in adopted.chunks(HOLDS_A_SCRIPT) {
            let mut call = self.about_slots(Script::SlotAdopt).on_bodies(true);
            call = call.arg(self.records_max).arg(some.len());
            for one in some {
                let wanted =
                    Wanted { witness: crate::domain::client::ScopeId([0; 16]), ..one.wanted.clone() };
                let all = one.all.as_ref().map(|all| all.iter().flat_map(|slot| slot.0).collect::<Vec<u8>>());
                let all = all.as_deref().unwrap_or(b"?");
                call = call.arg(&one.token.0.to_be_bytes()).wanted(&wanted).arg(all);
            }
            let told = Reply::array(self.run(call).await?)?;
            for (one, what) in some.iter().zip(told) {
                let what = match &reply::bytes(what)?[..] {
                    b"added" => Adoption::Added,
                    b"over" => Adoption::Over,
                    b"known" => Adoption::Known,
                    b"ended" => Adoption::Ended,
                    _ => {
                        let why = format!("there is no room for more than {} of them", done.len());
                        return Err(StoreError::Full(why));
                    }
                };
                if matches!(what, Adoption::Added | Adoption::Over) {
                    let hold = one.hold(self.clock.now());
                    self.recall.holds.put(Known { slot: one.wanted.slot, hold });
                }
                done.push(what);
            }
        }
        Ok(done)
    }

    /// See [`Store::holds`](crate::store::Store::holds).
    pub(in crate::store) async fn holds(&self, listing: &HoldListing) -> Result<Vec<HoldView>, StoreError> {
        let limit = listing.limit.clamp(1, LISTING_MAX);
        let fits = |known: &Known| {
            listing.slot.is_none_or(|slot| slot == known.slot)
                && listing.state.is_none_or(|state| state == known.hold.state)
                && listing.name.as_ref().is_none_or(|name| **name == *known.hold.name)
        };
        let mut after = listing.after.map(name_of);
        let mut views = Vec::new();
        // A hold may leave its state between its name's reading and its own.
        while views.len() < limit {
            let names = self.names(listing, after, NAMES_A_SCRIPT.min(limit - views.len())).await?;
            let Some(last) = names.last().copied() else { break };
            let mut call = self.about_slots(Script::SlotShow);
            for name in &names {
                call = call.arg(name);
            }
            for shown in Reply::array(self.run(call).await?)? {
                let known = read_hold(Reply::array(shown)?)?;
                if fits(&known) {
                    views.push(HoldView::new(known.slot, &known.hold));
                }
            }
            after = Some(last);
        }
        Ok(views)
    }

    /// The first `most` names after `after` of holds that a listing is about, in their order.
    async fn names(
        &self,
        listing: &HoldListing,
        after: Option<[u8; 32]>,
        most: usize,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let call = self
            .about_slots(Script::SlotList)
            .arg(after.as_ref().map_or(&[][..], |after| after))
            .arg(most)
            .arg(listing.state.map_or("", letter))
            .arg(listing.name.as_deref().unwrap_or(""))
            .arg(listing.slot.as_ref().map_or(&[][..], |slot| &slot.0));
        let mut names = Vec::new();
        for name in Reply::array(self.run(call).await?)? {
            names.extend(<[u8; 32]>::try_from(&reply::bytes(name)?[..]).ok());
        }
        names.retain(|name| after.is_none_or(|after| *name > after));
        names.sort_unstable();
        names.truncate(most);
        Ok(names)
    }

    /// See [`Store::release_hold`](crate::store::Store::release_hold).
    pub(in crate::store) async fn release_hold(&self, which: Which) -> Result<Released, StoreError> {
        let call = self.about_slots(Script::SlotGiveBack).once();
        let call = match &which {
            Which::Booking(booking) => call.arg(&booking.0).arg("").arg(""),
            Which::Hold(key) => call.arg("").arg(&key.slot.0).arg(&key.token.0.to_be_bytes()),
        };
        let told = Reply::array(self.run(call).await?)?.next();
        Ok(match told.map(|count| reply::number(&count)).transpose()? {
            None => Released::AtWork,
            Some(0) => Released::NotFound,
            Some(count) => Released::Yes(usize::try_from(count).unwrap_or(usize::MAX)),
        })
    }

    /// How many holds each name has.
    pub(super) async fn count_slots(&self) -> Result<Vec<SlotFigures>, StoreError> {
        let mut told = Reply::array(self.run(self.about_slots(Script::SlotCount)).await?)?;
        let mut figures: BTreeMap<String, [u64; 4]> = BTreeMap::new();
        while let Some(group) = told.maybe_bytes()? {
            let count = told.number()?;
            let Some((state, name)) = group.split_at_checked(1) else { continue };
            let name = String::from_utf8_lossy(name).into_owned();
            figures.entry(name).or_default()[super::held::state(state) as usize] += count;
        }
        Ok(figures.into_iter().map(|(name, holds)| SlotFigures { name, holds }).collect())
    }

    /// Says again some of what this gateway knows of slots. Returns how many of these holds the store had forgotten.
    pub(super) async fn say_holds_again(&self, some: &[Known]) -> Result<u64, StoreError> {
        let call = self.about_slots(Script::SlotRestore).on_bodies(true);
        reply::number(&self.run(some.iter().fold(call, Call::hold)).await?)
    }

    /// A message: a hold was given back, whoever did it.
    pub(super) fn heard_freed(&self, name: &[u8]) {
        if let Some(key) = named(name) {
            self.recall.holds.freed(key);
        }
    }

    /// What was given back while this gateway did not listen.
    pub(super) async fn read_freed(&self) -> Result<(), StoreError> {
        let mut at = 0;
        loop {
            let mut told = Reply::array(self.run(self.about_slots(Script::SlotFreed).arg(at)).await?)?;
            let mut count = 0;
            while let Some(name) = told.maybe_bytes()? {
                count += 1;
                self.heard_freed(&name);
            }
            if count < FREED_A_SCRIPT {
                return Ok(());
            }
            at += count;
        }
    }

    fn about_slots(&self, script: Script) -> Call {
        self.about(script, self.wire.parts.of_bearing())
    }
}
