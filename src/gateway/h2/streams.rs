//! The streams of one connection, as the worker's sweep sees them: HTTP/1.1 has one exchange at a time, and what is too slow
//! ends with its connection; here one that is too slow ends alone.

use super::body::{Held, StreamBody};
use super::upload::{UploadWatch, Watched};
use crate::gateway::body::ResponseBody;
use crate::gateway::clock;
use crate::gateway::stall::Patience;
use crate::journal::Journal;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The bodies that are under way on one connection, in both directions.
pub struct Streams {
    answers: RefCell<Slab<Rc<Held>>>,
    uploads: RefCell<Slab<Rc<Watched>>>,
    /// Since when the client has been told that the connection ends.
    farewell: Cell<Option<Instant>>,
    journal: Arc<Journal>,
}

// === impl Streams ===

impl Streams {
    /// None yet.
    pub fn new(journal: Arc<Journal>) -> Streams {
        let (answers, uploads) = (RefCell::default(), RefCell::default());
        Streams { answers, uploads, farewell: Cell::new(None), journal }
    }

    /// Takes an answer under watch.
    pub(super) fn watch(self: &Rc<Streams>, body: ResponseBody) -> StreamBody {
        let held = Held::new(body);
        let index = self.answers.borrow_mut().insert(held.clone());
        StreamBody::new(self.clone(), index, held)
    }

    /// Takes a request's body under watch.
    pub fn watch_upload(self: &Rc<Streams>) -> UploadWatch {
        let watched = Rc::new(Watched::default());
        let index = self.uploads.borrow_mut().insert(watched.clone());
        UploadWatch::new(self.clone(), index, watched)
    }

    pub(super) fn forget_answer(&self, index: usize) {
        self.answers.borrow_mut().try_remove(index);
    }

    pub(super) fn forget_upload(&self, index: usize) {
        self.uploads.borrow_mut().try_remove(index);
    }

    /// Ends what is slower than `patience` has: bodies that only trickle in, and answers that are not taken, behind which a
    /// place at the backend is held.
    pub fn sweep(&self, now: Instant, patience: Patience) {
        for (_, upload) in self.uploads.borrow().iter() {
            upload.sweep(now, patience);
        }
        let overdue = |held: &&Rc<Held>| held.is_overdue(now, patience.write);
        let overdue: Vec<_> =
            self.answers.borrow().iter().map(|(_, held)| held).filter(overdue).cloned().collect();
        for _ in overdue.iter().filter(|held| held.cut_off()) {
            self.journal.metrics().doors.http2_cut();
        }
    }

    /// The client is told that the connection ends.
    pub fn farewell(&self) {
        if self.farewell.get().is_none() {
            self.farewell.set(Some(clock::recent()));
        }
    }

    /// Whether it was told so longer than `patience` ago.
    pub fn farewell_is_over(&self, now: Instant, patience: Duration) -> bool {
        self.farewell.get().is_some_and(|since| now.saturating_duration_since(since) > patience)
    }
}
