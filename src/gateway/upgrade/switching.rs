//! How far a client's connection is on its way to another protocol.

use super::Switch;
use std::cell::Cell;

/// See the module.
#[derive(Default)]
pub struct Switching {
    stage: Cell<Stage>,
    /// What the connection is joined with when its present answer's head has gone out.
    to: Cell<Option<Box<Switch>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// It speaks HTTP.
    #[default]
    Http,
    /// A backend is asked whether it switches.
    Offered,
    /// It has agreed: nothing more is read as a request.
    Agreed,
}

/// An offer to a backend, as long as that has not answered.
pub struct Offer<'c>(&'c Switching);

// === impl Switching ===

impl Switching {
    /// A backend is asked, as long as what is returned lives.
    pub fn offer(&self) -> Offer<'_> {
        self.stage.set(Stage::Offered);
        Offer(self)
    }

    /// It has agreed.
    pub fn agreed(&self, switch: Switch) {
        self.stage.set(Stage::Agreed);
        self.to.set(Some(Box::new(switch)));
    }

    /// Whether it speaks HTTP, and will with what it reads next.
    pub fn speaks_http(&self) -> bool {
        self.stage.get() == Stage::Http
    }

    /// Whether nothing more is read as a request.
    pub fn is_agreed(&self) -> bool {
        self.stage.get() == Stage::Agreed
    }

    /// What it is joined with.
    pub fn take(&self) -> Option<Box<Switch>> {
        self.to.take()
    }
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        if !self.0.is_agreed() {
            self.0.stage.set(Stage::Http);
        }
    }
}
