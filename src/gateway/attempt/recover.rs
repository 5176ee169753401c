//! What is there already is fetched: after a definite "exists already", and to settle an outcome in doubt.

use super::{Answered, Attempt, Ended, Kept};
use crate::config::{InDoubtRule, Recover};
use crate::domain::conflict::Evidence;
use crate::domain::event::{Event, Recovery};
use crate::gateway::clock;
use crate::gateway::recover::{Question, record_found};
use std::pin::{Pin, pin};
use std::time::Duration;

/// No question takes longer, whatever its deadlines say.
const ASKED_MOST: Duration = Duration::from_secs(3600);

/// What came of asking about an attempt of which nobody knows.
pub(super) enum Settled {
    /// Its own answer came meanwhile.
    Late(Box<Answered>),
    /// What it wants is there.
    Found(Box<Answered>),
    /// Nothing, and its own answer may still come.
    Open,
    /// Nothing, and there is no exchange any more whose answer might still come.
    Ended,
}

// === impl Attempt: what is there already ===

impl Attempt {
    fn recover(&self) -> Option<&Recover> {
        self.exchange.guard()?.recover.as_ref()
    }

    /// Whether the backend says that what this write wants is there: by the signs of `[route.recover]`, or because it met
    /// the same conflict in the last attempt too.
    pub(super) fn exists_already(&self, answered: &Answered, conflict: bool) -> bool {
        self.recover().is_some_and(|recover| {
            let (Kept::Whole(body) | Kept::TooLarge(body, _)) = &answered.body;
            conflict || recover.signs.fit(answered.head.status, &answered.head.headers, body)
        })
    }

    /// The answer with what exists in place of the error, where the backend has it.
    pub(super) async fn existing(&self) -> Option<Answered> {
        let question = self.question()?;
        let asked = self.holding_the_lease(clock::now() + ASKED_MOST, pin!(question.ask())).await;
        let Some(Evidence::Found(text)) = asked else { return None };
        self.tell_recovered(Recovery::Existing);
        Some(Answered { is_of_before: true, ..found(text) })
    }

    /// Nobody knows how the exchange ended, and the route says whom to ask. `exchanging`: the exchange, where its answer may
    /// still come.
    pub(super) async fn settled_by_asking(
        &self,
        exchanging: Option<Pin<&mut impl Future<Output = Ended>>>,
    ) -> Settled {
        let asks = self.exchange.guard().is_some_and(|guard| guard.rules.in_doubt == InDoubtRule::Recover);
        let Some(question) = asks.then(|| self.question()).flatten() else { return Settled::Open };
        let settled = async {
            match exchanging {
                None => self.found_by(question.ask().await, Settled::Ended),
                Some(exchanging) => tokio::select! {
                    biased;
                    ended = exchanging => match ended {
                        Ended::Answered(late) => Settled::Late(late),
                        // Asked anew: the effect of what has just ended may not have been there before.
                        Ended::NotSent(_) | Ended::Unknown(..) => {
                            self.found_by(question.ask().await, Settled::Ended)
                        }
                    },
                    evidence = question.ask() => self.found_by(evidence, Settled::Open),
                },
            }
        };
        let settled = self.holding_the_lease(clock::now() + ASKED_MOST, pin!(settled)).await;
        // Whether the exchange has ended after so long is not known, and whoever has ended is not waited for.
        settled.unwrap_or(Settled::Ended)
    }

    /// What is settled by `evidence`; `otherwise` where it shows nothing.
    fn found_by(&self, evidence: Evidence, otherwise: Settled) -> Settled {
        match evidence {
            Evidence::Found(text) => {
                self.tell_recovered(Recovery::Executed);
                Settled::Found(Box::new(found(text)))
            }
            Evidence::Absent | Evidence::Nothing(_) => otherwise,
        }
    }

    fn question(&self) -> Option<Question<'_>> {
        let original = self.original.as_ref()?;
        Question::new(&self.exchange, self.recover()?, &original.parts, &original.body)
    }

    fn tell_recovered(&self, how: Recovery) {
        self.exchange.shared().journal.event(Event::Recovered {
            route: self.exchange.rules().name.clone(),
            id: self.intent.id,
            request_id: self.exchange.request_id.to_str().unwrap_or_default().into(),
            how,
        });
    }
}

/// The record that was found, as the backend's answer to this write.
fn found(text: bytes::Bytes) -> Answered {
    let (head, body) = record_found(text);
    Answered { head, body: Kept::Whole(body), upstream: None, is_of_before: false }
}
