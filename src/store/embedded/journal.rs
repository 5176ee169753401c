//! Notes of what a command changed.
use super::index::{Entry, Index};
use super::waiters::Attempt;
use super::{AttemptEnd, StoreError};
use crate::domain::client::ScopeId;
use crate::domain::ledger::{RecordId, TargetId};
use crate::domain::time::Millis;
use std::sync::Arc;

/// Notes what a command changed.
pub(super) enum Journal {}

impl Journal {
    pub(super) fn reserve_claim(&mut self) -> Result<(), StoreError> {
        match *self {}
    }
    pub(super) fn room_for_note(&mut self) -> Result<(), StoreError> {
        match *self {}
    }
    pub(super) fn fits_answer(&self, _len: usize) -> bool {
        match *self {}
    }
    pub(super) fn began(&mut self, _id: RecordId, _entry: &mut Entry) {
        match *self {}
    }
    pub(super) fn changed(&mut self, _id: RecordId, _entry: &mut Entry, _logged: bool, _ended: bool) {
        match *self {}
    }
    pub(super) fn removed(&mut self, _id: RecordId, _entry: &Entry, _note: bool) {
        match *self {}
    }
    pub(super) fn named(&mut self, _id: RecordId, _names: TargetId) {
        match *self {}
    }
    pub(super) fn aliased(&mut self, _from: ScopeId, _to: ScopeId, _until: Millis) {
        match *self {}
    }
    pub(super) fn tell(&mut self, _attempt: Arc<Attempt>, _end: AttemptEnd) {
        match *self {}
    }
    pub(super) fn commit(&mut self, _index: &mut Index, _lazily: bool) -> Option<u64> {
        match *self {}
    }
}
