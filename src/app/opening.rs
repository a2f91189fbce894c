//! Opening the store behind the listeners. What the system says may pass: the server then goes on
//! listening, says what is wrong and what to do about it (`/-/ready`, the log at growing intervals,
//! `trilith_condition`), and tries again after pauses that become longer. What cannot pass by itself ends it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::base::disk::Disk;
use crate::base::error::chain;
use crate::store::conditions::{Conditions, NOT_OPEN};
use crate::store::stores::{OpenError, Store, StoreOptions};

use super::readiness::Readiness;

/// Pauses between tries: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why the store is not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOpened {
    #[error("cannot open the data directory {path:?}: {}{}", chain(source), told(source))]
    Failed { path: PathBuf, source: OpenError },
    #[error("the server was stopped before its data directory could be opened")]
    Stopped,
}

/// What to do, where the error does not say so itself.
fn told(error: &OpenError) -> String {
    error.advice().map(|advice| format!("; {advice}")).unwrap_or_default()
}

/// Where and with what a store is opened.
pub(super) struct Opening<'s> {
    /// The file system.
    pub(super) disk: Arc<dyn Disk>,
    /// Is told why it takes so long.
    pub(super) readiness: &'s Readiness,
    /// Shows that the store is not open.
    pub(super) conditions: Conditions,
    /// Turns true when the server stops.
    pub(super) stop: watch::Receiver<bool>,
}

impl Opening<'_> {
    /// Opens the store with what `options` says, for as long as it takes; on a blocking thread.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub(super) fn open(mut self, options: impl Fn(Arc<dyn Disk>) -> StoreOptions) -> Result<Arc<Store>, NotOpened> {
        let (mut pause, mut tries) = (PAUSE_MIN, 1_u64);
        loop {
            let options = options(self.disk.clone());
            let path = options.dir.clone();
            match Store::open(options) {
                Ok(store) => {
                    self.readiness.set_not_open(None);
                    self.conditions.clear(NOT_OPEN, None);
                    return Ok(store);
                }
                Err(source) if !source.is_passing() => return Err(NotOpened::Failed { path, source }),
                Err(source) => self.say(&NotOpened::Failed { path, source }, tries),
            }
            if self.is_stopped_within(pause) {
                return Err(NotOpened::Stopped);
            }
            pause = (2 * pause).min(PAUSE_MAX);
            tries += 1;
        }
    }

    /// Says it in the log at the first try, the second, the fourth and so on.
    fn say(&self, error: &NotOpened, tries: u64) {
        let text = format!("{error}; it is tried again until it can be");
        if tries > 1 && tries.is_power_of_two() {
            tracing::error!(tries, "{text}");
        }
        self.readiness.set_not_open(Some(text.clone()));
        self.conditions.set(NOT_OPEN, None, text);
    }

    fn is_stopped_within(&mut self, pause: Duration) -> bool {
        let stopped = async { tokio::time::timeout(pause, self.stop.wait_for(|stop| *stop)).await.is_ok() };
        Handle::current().block_on(stopped)
    }
}
