//! What the gateways agreed on: that nothing is missing in a certain life of a server. A claim names the agreement that it
//! relies on, and the store grants none under another: a gateway that was away while the others agreed has to say first
//! what it knows.

use super::part::Part;
use std::sync::{Arc, PoisonError, RwLock};

/// No agreement: a name that no store gives one, nor to its lack (`enter.lua`).
const NONE: &[u8] = b"none";

/// The agreement of each part that this gateway is in. At most one entry a part.
#[derive(Default)]
pub(super) struct Agreements {
    entered: RwLock<Vec<Option<Agreement>>>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Agreement {
    /// The life of the server that it is about.
    life: Arc<str>,
    /// The store's name for it.
    name: Arc<[u8]>,
}

// === impl Agreements ===

impl Agreements {
    /// This gateway has said all that it knows, and everybody goes on.
    pub(super) fn enter(&self, part: Part, life: &Arc<str>, name: &[u8]) {
        let mut entered = self.entered.write().unwrap_or_else(PoisonError::into_inner);
        let at = usize::from(part.0);
        if entered.len() <= at {
            entered.resize(at + 1, None);
        }
        let known = entered[at].as_ref().is_some_and(|known| known.life == *life && *known.name == *name);
        if !known {
            entered[at] = Some(Agreement { life: life.clone(), name: name.into() });
        }
    }

    /// What a claim says to a server in this life; [`NONE`] where that is not the life that was agreed on.
    pub(super) fn name(&self, part: Part, life: &str) -> Arc<[u8]> {
        let entered = self.entered.read().unwrap_or_else(PoisonError::into_inner);
        let agreed = entered.get(usize::from(part.0)).and_then(Option::as_ref);
        let agreed = agreed.filter(|agreed| *agreed.life == *life);
        agreed.map_or_else(|| NONE.into(), |agreed| agreed.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreement_holds_for_its_part_and_its_life_alone() {
        let agreements = Agreements::default();
        agreements.enter(Part(1), &"a".into(), b"a@1");
        assert_eq!(&*agreements.name(Part(1), "a"), b"a@1");
        assert_eq!(&*agreements.name(Part(0), "a"), NONE);
        assert_eq!(&*agreements.name(Part(1), "b"), NONE);
        agreements.enter(Part(1), &"a".into(), b"a@2");
        assert_eq!(&*agreements.name(Part(1), "a"), b"a@2");
    }
}
