//! The answer of an attempt comes into its record, now or as soon as the store takes it.

use super::Attempt;
use crate::domain::answer::Answer;
use crate::gateway::clock;
use crate::gateway::completion::{Asked, completion, ends_beside};
use crate::gateway::forward::end_intents;
use crate::gateway::worker::Running;
use crate::store::{Completion, Held};
use http::response;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The first pause before an answer that could not be recorded is offered to the store again.
const RECORD_AGAIN: Duration = Duration::from_millis(200);

/// The longest pause between two offers.
const RECORD_AGAIN_MOST: Duration = Duration::from_secs(5);

/// How many answers may wait for the store.
const UNRECORDED_MOST: usize = 1024;

impl Attempt {
    /// Records the answer. Where the store does not take it, the client gets it all the same, marked; it is offered
    /// again while the lease lasts, and until then the record stays *sent*, so nobody executes it a second time.
    /// `Err`: the record was settled meanwhile, with this answer or as not executed.
    pub(super) async fn complete(
        &self,
        answer: Answer,
        head: &response::Parts,
        asked: &Asked,
    ) -> Result<bool, Option<Answer>> {
        if let Some(ends) = ends_beside(&self.exchange, &self.intent, head.status, asked) {
            Box::pin(end_intents(&self.exchange, ends)).await;
        }
        let completion =
            |answer| Box::new(completion(&self.exchange, &self.intent, self.token, answer, head, asked));
        let store = &self.exchange.worker.shared.store;
        match store.complete(completion(answer.clone())).await {
            Ok(Held::Yes) => Ok(true),
            Ok(Held::No) => Err(Box::pin(store.answer(self.intent.id)).await),
            Err(error) => {
                tracing::error!(request_id = ?self.exchange.request_id, %error, "an answer could not be recorded");
                self.record_later(completion(answer));
                Ok(false)
            }
        }
    }

    /// Offers a completion to the store until it takes it. A completion is legal from *in doubt* too, so the lease's end
    /// is no reason to stop; that there are too many of them is.
    fn record_later(&self, completion: Box<Completion>) {
        let worker = &self.exchange.worker;
        if worker.shared.unrecorded.fetch_add(1, Relaxed) >= UNRECORDED_MOST {
            worker.shared.unrecorded.fetch_sub(1, Relaxed);
            tracing::error!(
                "too many answers wait for the store; this one is lost, and its record will be in doubt"
            );
            return;
        }
        let (running, shared) = (Running::new(worker), worker.shared.clone());
        let until = clock::now() + self.idempotency().map_or(Duration::ZERO, |rules| rules.in_doubt_for);
        tokio::task::spawn_local(async move {
            let mut pause = RECORD_AGAIN;
            while clock::now() < until && shared.store.complete(completion.clone()).await.is_err() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECORD_AGAIN_MOST);
            }
            shared.unrecorded.fetch_sub(1, Relaxed);
            drop(running);
        });
    }
}
