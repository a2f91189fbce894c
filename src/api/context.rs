//! What every handler needs, and the way of a query: it waits for a place among those that run, then runs
//! on a blocking thread within its budget.
//! Invariants: the clock of a query starts before the wait; a client that hangs up cancels its query.

use std::sync::Arc;
use std::time::Duration;

use super::flows::Flows;
use super::places::{Asker, Place, Places};
use super::server_info::ServerInfo;
use crate::base::clock::Clock;
use crate::base::counters::Counters;
use crate::base::limits::{LimitError, QueryBudget};
use crate::query::Engine;
use crate::store::SelectLogs;
use crate::store::SelectMetrics;
use crate::store::SelectTraces;

/// What every handler needs; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Series.
    pub metrics: Arc<dyn SelectMetrics>,
    /// Streams.
    pub logs: Arc<dyn SelectLogs>,
    /// Traces.
    pub traces: Arc<dyn SelectTraces>,
    /// Limits of queries.
    pub engine: Engine,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The server's own numbers.
    pub counters: Counters,
    /// Places for running queries.
    pub places: Arc<Places>,
    /// Answers that clients are reading.
    pub flows: Arc<Flows>,
    /// The server itself.
    pub server_info: ServerInfo,
    /// How long each signal is kept, for the endpoints that say so; `None` is forever.
    pub retention_logs: Option<Duration>,
}

tokio::task_local! {
    static ASKER: Asker;
}

/// Answers a request on behalf of who has sent it, of whom the line of queries and answers that flow take note.
pub async fn on_behalf_of<T>(asker: Asker, answer: impl Future<Output = T>) -> T {
    ASKER.scope(asker, answer).await
}

/// Who has sent the request that is being answered.
pub(super) fn asker() -> Asker {
    ASKER.try_with(|asker| *asker).unwrap_or_default()
}

/// Cancels a query when the future that waits for it is dropped, as when the client hangs up.
pub(super) struct CancelOnDrop(Arc<QueryBudget>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A query that may run.
pub(super) struct Admitted {
    pub(super) budget: Arc<QueryBudget>,
    pub(super) guard: CancelOnDrop,
    pub(super) place: Place,
}

impl Context {
    /// Waits for a place among the running queries, within a budget whose clock starts before the wait.
    pub(super) async fn admit(&self, timeout: Option<Duration>) -> Result<Admitted, LimitError> {
        let wait = timeout.map_or(self.engine.options.timeout, |asked| asked.min(self.engine.options.timeout));
        self.admit_to(self.engine.budget(timeout), wait).await
    }

    /// Waits for a place among the running queries, no longer than `wait`.
    pub(super) async fn admit_to(&self, budget: Arc<QueryBudget>, wait: Duration) -> Result<Admitted, LimitError> {
        let guard = CancelOnDrop(budget.clone());
        let place = self.places.place(asker(), self.engine.options.queue_max);
        let Ok(place) = tokio::time::timeout(wait, place).await else {
            let after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            return Err(LimitError::Deadline { after_ms });
        };
        let place = place?;
        // Its time may be over before it begins.
        budget.check()?;
        Ok(Admitted { budget, guard, place })
    }

    /// Runs a query on a blocking thread, once there is a place for it, within a budget whose clock
    /// starts before the wait. A client that hangs up cancels it.
    ///
    /// # Errors
    /// [`LimitError::QueueFull`] when too many wait already, [`LimitError::Deadline`] when no place came
    /// free in time.
    pub async fn run<T, F>(&self, timeout: Option<Duration>, work: F) -> Result<T, LimitError>
    where
        T: Send + 'static,
        F: FnOnce(&Context, &QueryBudget) -> T + Send + 'static,
    {
        let Admitted { budget, guard, place } = self.admit(timeout).await?;
        let context = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let answer = work(&context, &budget);
            drop(place);
            answer
        });
        let answer = answer.await;
        drop(guard);
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(LimitError::Canceled),
        }
    }
}
