//! What an operator sees: listings, single records, figures. Asked of the store itself, a page at a time.

use super::Inner;
use super::commands::{doubt, kept_or_tombstone};
use super::part::Part;
use super::reply::Reply;
use super::script::{Call, Script};
use crate::domain::answer::Answer;
use crate::domain::client::ScopeId;
use crate::domain::ledger::RecordId;
use crate::domain::time::Millis;
use crate::store::{About, Figures, Listing, RecordView, StoreError};
use std::collections::BTreeSet;
use std::time::Duration;

/// The most records that one listing gives.
const LISTING_MAX: usize = 1_000;

/// Ids that one script reads: enough to be quick, few enough to hold up nobody.
const IDS_A_SCRIPT: usize = 2_000;

/// Records that one script shows.
const VIEWS_A_SCRIPT: usize = 100;

/// The phases, as scripts and as operators name them.
const SETS: [(&str, &str); 4] = [("q", "queued"), ("s", "sent"), ("d", "done"), ("x", "in-doubt")];

impl Inner {
    /// See [`Store::list`](crate::store::Store::list). The sets are ordered by deadlines, so all their ids are looked
    /// through; only the smallest are kept.
    pub(in crate::store) async fn list(&self, listing: &Listing) -> Result<Vec<RecordView>, StoreError> {
        let limit = listing.limit.clamp(1, LISTING_MAX);
        let mut found = Vec::new();
        let mut after = listing.after;
        // A record may leave its phase between its id's reading and its own.
        while found.len() < limit {
            let ids = self.smallest(listing.phase.as_deref(), after, limit - found.len()).await?;
            let Some(last) = ids.last().copied() else { break };
            let ids: Vec<RecordId> = ids.into_iter().collect();
            let mut views = self.views(&ids).await?;
            views.retain(|view| listing.phase.as_ref().is_none_or(|phase| *phase == view.phase));
            found.append(&mut views);
            after = Some(last);
        }
        Ok(found)
    }

    /// The `most` smallest ids after `after`.
    async fn smallest(
        &self,
        phase: Option<&str>,
        after: Option<RecordId>,
        most: usize,
    ) -> Result<BTreeSet<RecordId>, StoreError> {
        let mut smallest = BTreeSet::new();
        for part in self.wire.parts.all() {
            for (set, _) in SETS.into_iter().filter(|(_, name)| phase.is_none_or(|phase| phase == *name)) {
                let mut at = 0;
                loop {
                    let call = self.about(Script::Ids, part).arg(set).arg(at).arg(IDS_A_SCRIPT);
                    let mut ids = Reply::array(self.run(call).await?)?;
                    let mut count = 0;
                    while let Some(id) = ids.maybe_bytes()? {
                        count += 1;
                        let Ok(id) = <[u8; 32]>::try_from(&id[..]).map(RecordId) else { continue };
                        if after.is_none_or(|after| id > after) {
                            smallest.insert(id);
                        }
                        if smallest.len() > most {
                            smallest.pop_last();
                        }
                    }
                    if count < IDS_A_SCRIPT {
                        break;
                    }
                    at += count;
                }
            }
        }
        Ok(smallest)
    }

    /// The records of these ids, in their order.
    pub(super) async fn views(&self, ids: &[RecordId]) -> Result<Vec<RecordView>, StoreError> {
        let mut views = Vec::new();
        for part in self.wire.parts.all() {
            let here: Vec<&RecordId> = ids.iter().filter(|id| self.wire.parts.of(id) == part).collect();
            for some in here.chunks(VIEWS_A_SCRIPT) {
                let mut call = self.about(Script::Show, part);
                for id in some {
                    call = call.arg(&id.0);
                }
                for view in Reply::array(self.run(call).await?)? {
                    views.push(read_view(Reply::array(view)?)?);
                }
            }
        }
        views.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(views)
    }

    /// See [`Store::show`](crate::store::Store::show).
    pub(in crate::store) async fn show(&self, id: RecordId) -> Result<Option<RecordView>, StoreError> {
        Ok(self.views(&[id]).await?.pop())
    }

    /// See [`Store::made_by`](crate::store::Store::made_by): where this gateway made it, it remembers that.
    pub(in crate::store) async fn made_by(&self, id: RecordId) -> Result<Option<String>, StoreError> {
        match self.recall.made_by(&id, self.clock.now()) {
            Some(known) => Ok(Some(known)),
            None => Ok(self.show(id).await?.map(|view| view.about.request_id)),
        }
    }

    /// See [`Store::answer`](crate::store::Store::answer).
    pub(in crate::store) async fn answer(&self, id: RecordId) -> Result<Option<Answer>, StoreError> {
        let Some(view) = self.show(id).await?.filter(|view| view.phase == "done") else { return Ok(None) };
        let kept = self.fetch(&id).await?;
        Ok(Some(kept_or_tombstone(view.status.map_or(200, u64::from), kept)))
    }

    /// See [`Store::figures`](crate::store::Store::figures): asked now, or as they were last known.
    pub(in crate::store) async fn figures(&self) -> Figures {
        let asked = tokio::time::timeout(FIGURES_PATIENCE, self.count()).await;
        let counted = match asked {
            Ok(Ok(figures)) => figures,
            _ => self.health.figures(),
        };
        Figures { refusing: self.health.refusing(), ..counted }
    }

    /// Counts the records, after letting time pass for those that nobody asks about.
    pub(super) async fn count(&self) -> Result<Figures, StoreError> {
        if let Some(why) = self.health.refusing() {
            return Err(StoreError::Unavailable(why));
        }
        let mut figures = self.health.figures();
        (figures.queued, figures.sent, figures.done, figures.in_doubt) = (0, 0, 0, 0);
        for part in self.wire.parts.all() {
            let mut told = Reply::array(self.run(self.about(Script::Sweep, part)).await?)?;
            self.clock.heard(Millis(told.number()?));
            figures.queued += told.number()?;
            figures.sent += told.number()?;
            figures.done += told.number()?;
            figures.in_doubt += told.number()?;
        }
        figures.slots = self.count_slots().await?;
        self.health.counted(figures.clone());
        Ok(figures)
    }

    /// A call about a part.
    pub(super) fn about(&self, script: Script, part: Part) -> Call {
        Call::of(&self.wire.parts, script, part, self.wire.place.timeout)
    }
}

/// How long a scrape waits for the store.
pub(super) const FIGURES_PATIENCE: Duration = Duration::from_millis(500);

fn read_view(mut fields: Reply) -> Result<RecordView, StoreError> {
    let id = RecordId(fields.exactly()?);
    let phase = match &fields.bytes()?[..] {
        b"q" => "queued",
        b"s" => "sent",
        b"d" => "done",
        _ => "in-doubt",
    };
    let keyed = fields.number()? == 1;
    let scope = ScopeId(fields.exactly()?).to_string();
    let (route, request, request_id) = (fields.text()?, fields.text()?, fields.text()?);
    let about = About { route: route.into(), request, request_id };
    let claimed_at = Millis(fields.number()?);
    let (since, until) = (Millis(fields.number()?), Millis(fields.number()?));
    let why = (phase == "in-doubt").then_some(doubt(&fields.bytes()?));
    let status = u16::try_from(fields.number()?).ok().filter(|_| phase == "done");
    let (id, phase) = (id.to_string(), phase.to_owned());
    Ok(RecordView { id, phase, keyed, scope, about, claimed_at, since, until, why, status })
}
