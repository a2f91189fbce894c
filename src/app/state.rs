//! The state of the server that its own pages show and change.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

use crate::base::counters::Counters;
use crate::base::in_flight::InFlight;
use crate::base::memory::MemoryBudget;
use crate::receive::RefusedLately;

use super::config::Config;
use super::connections::Connections;
use super::rates::Rates;
use super::readiness::Readiness;
use super::services::Services;
use super::telemetry::Telemetry;

/// What the pages of the server need; cheap to clone.
#[derive(Clone)]
pub(super) struct ServerState {
    pub(super) readiness: Arc<Readiness>,
    /// Set when the store is open.
    pub(super) services: Arc<OnceLock<Services>>,
    pub(super) counters: Counters,
    /// What came to the wrong door lately.
    pub(super) astray: Arc<RefusedLately>,
    /// What comes in, by the second.
    pub(super) rates: Arc<Rates>,
    /// What is in force; a reload changes it.
    pub(super) config: Arc<Mutex<Config>>,
    /// The process's own log; a server within a test has none.
    pub(super) telemetry: Option<Telemetry>,
    pub(super) started: Instant,
    /// When the process started, in seconds since the Unix epoch.
    pub(super) started_at: u64,
    /// Bodies that are being received.
    pub(super) in_flight: Arc<InFlight>,
    /// Open connections of all listeners.
    pub(super) connections: Arc<Connections>,
    /// Bytes that `--memory-limit` comes to.
    pub(super) memory_limit: u64,
    /// The account of them.
    pub(super) memory: Arc<MemoryBudget>,
    /// What is resident beyond the account: measured as long as this is here.
    pub(super) _outside: Option<Arc<MemoryBudget>>,
}
