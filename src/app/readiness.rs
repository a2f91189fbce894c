//! What the server can do now: starting (replaying its log), ready, stopping. Every request is
//! routed by it, so that health checks answer from the first moment to the last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use parking_lot::Mutex;

use crate::store::env::Progress;

use super::listener::ListenerKind;

/// What the server can do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The store is being opened; so much of its log is replayed, in percent.
    Starting { percent: u64 },
    /// The store cannot be opened just now, and why.
    NotOpen { why: String },
    /// Everything is answered.
    Ready,
    /// Nothing new is taken.
    Stopping,
}

impl Phase {
    /// Why requests are not answered, for people; `None` when they are.
    pub(super) fn reason(&self) -> Option<String> {
        match self {
            Self::Starting { percent } => Some(format!("starting: replaying the write-ahead log, {percent} % done")),
            Self::NotOpen { why } => Some(format!("waiting: {why}")),
            Self::Ready => None,
            Self::Stopping => Some("stopping".to_owned()),
        }
    }

    /// How far the replay is, as Prometheus's API says it.
    pub(super) fn replay(&self) -> serde_json::Value {
        let (max, current, state) = match self {
            Self::Starting { percent } => (100, *percent, "in progress"),
            Self::NotOpen { .. } => (100, 0, "waiting"),
            Self::Ready | Self::Stopping => (0, 0, "done"),
        };
        serde_json::json!({"status": "success", "data": {"min": 0, "max": max, "current": current, "state": state}})
    }
}

/// The routers of a phase, one for each listener.
pub(super) type Routers = Box<dyn Fn(ListenerKind) -> Router + Send + Sync>;

/// Shared by all listeners and the tasks that move the server along.
pub(super) struct Readiness {
    /// What the store has replayed so far.
    progress: Arc<Progress>,
    stopping: AtomicBool,
    /// Why the store cannot be opened just now.
    not_open: Mutex<Option<String>>,
    /// Routers of the ready server; set once, when the store is open.
    ready: OnceLock<Routers>,
    /// Routers of a server that only says how it is.
    waiting: OnceLock<Routers>,
}

impl Readiness {
    /// A server that starts.
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self {
            progress,
            stopping: AtomicBool::new(false),
            not_open: Mutex::default(),
            ready: OnceLock::new(),
            waiting: OnceLock::new(),
        }
    }

    /// Sets what answers while starting and stopping.
    pub(super) fn set_waiting(&self, routers: Routers) {
        let _ = self.waiting.set(routers);
    }

    /// Says why the store cannot be opened just now, or that this is over.
    pub(super) fn set_not_open(&self, why: Option<String>) {
        *self.not_open.lock() = why;
    }

    /// Lets requests through.
    pub(super) fn set_ready(&self, routers: Routers) {
        let _ = self.ready.set(routers);
    }

    /// Lets no request through any more.
    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Where the server is.
    pub(super) fn phase(&self) -> Phase {
        if self.stopping.load(Ordering::SeqCst) {
            return Phase::Stopping;
        }
        if self.ready.get().is_some() {
            return Phase::Ready;
        }
        match self.not_open.lock().clone() {
            Some(why) => Phase::NotOpen { why },
            None => Phase::Starting { percent: self.progress.percent() },
        }
    }

    /// What answers a request at `kind` now.
    pub(super) fn router(&self, kind: ListenerKind) -> Router {
        let ready = self.ready.get().filter(|_| !self.stopping.load(Ordering::SeqCst));
        ready.or_else(|| self.waiting.get()).map_or_else(Router::new, |routers| routers(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_is_ready_and_stops() {
        let progress = Arc::new(Progress::default());
        let readiness = Readiness::new(progress.clone());
        progress.total.store(200, Ordering::Relaxed);
        progress.done.store(84, Ordering::Relaxed);
        assert!(readiness.phase().reason().unwrap().contains("42 %"));
        assert_eq!(readiness.phase().replay()["data"]["current"], 42);
        readiness.set_not_open(Some("the disk fails".into()));
        assert_eq!(readiness.phase().reason().unwrap(), "waiting: the disk fails");
        readiness.set_not_open(None);
        assert!(readiness.phase().reason().unwrap().contains("42 %"));
        readiness.set_ready(Box::new(|_| Router::new()));
        assert_eq!(readiness.phase().reason(), None);
        assert_eq!(readiness.phase().replay()["data"]["state"], "done");
        readiness.set_stopping();
        assert_eq!(readiness.phase(), Phase::Stopping);
    }
}
