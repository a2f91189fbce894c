//! What the server knows of itself and of the queries it runs, for the pages that say so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::Administer;

/// Names and texts of settings.
pub type Settings = Vec<(&'static str, String)>;

/// The server itself; cheap to clone.
#[derive(Clone)]
pub struct ServerInfo {
    /// When it started, milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// The settings in force.
    pub settings: Arc<dyn Fn() -> Settings + Send + Sync>,
    /// How long a query may take before it is logged; `None` logs none.
    pub slow_query: Option<Duration>,
    /// Queries that run or wait.
    pub running: Arc<RunningQueries>,
    /// For administrators; `None` when that is off.
    pub admin: Option<Arc<dyn Administer>>,
}

impl Default for ServerInfo {
    fn default() -> Self {
        Self {
            started_ms: 0,
            settings: Arc::new(Settings::new),
            slow_query: Some(Duration::from_secs(5)),
            running: Arc::default(),
            admin: None,
        }
    }
}

/// A query that runs or waits.
#[derive(Debug)]
pub struct RunningQuery {
    /// Its text, cut.
    pub text: String,
    /// First time, last time and step, milliseconds; the step of an instant query is 0.
    pub times: (i64, i64, i64),
    /// Who asks: names and values of headers.
    pub asker: Vec<(&'static str, String)>,
    /// When it came.
    pub since: Instant,
}

/// The queries that run or wait.
#[derive(Debug, Default)]
pub struct RunningQueries {
    next: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<RunningQuery>>>,
}

impl RunningQueries {
    /// Adds a query until the returned number is removed.
    pub fn add(&self, query: Arc<RunningQuery>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.all.lock().insert(number, query);
        number
    }

    /// Takes a query off the list.
    pub fn remove(&self, number: u64) {
        self.all.lock().remove(&number);
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<(u64, Arc<RunningQuery>)> {
        self.all.lock().iter().map(|(number, query)| (*number, query.clone())).collect()
    }
}
