//! The configuration as read: plain values, without knowledge of where they came from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::invocation::Invocation;
use super::listeners::{Extra, Place};
use super::origin::Origin;
use super::value::Amount;
use crate::app::user::RunAs;
use crate::base::in_flight;
use crate::query;
use crate::store::metrics;
use crate::store::metrics::keep::Rule;
use crate::store::stores::Retention;
use crate::store::wal::Fsync;

/// How log lines of the server look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything the server is told. `Config::default()` is what it does when told nothing.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where data lies.
    pub data_dir: PathBuf,
    /// The main listener.
    pub listen: SocketAddr,
    /// The others; a missing one is [`Place::BesideMain`].
    pub extra: BTreeMap<Extra, Place>,
    /// Turns the four others off whatever `extra` says.
    pub no_extra_listeners: bool,
    /// How long signals are kept.
    pub retention: Retention,
    /// How long the samples of some series are kept instead.
    pub metrics_rules: Vec<Rule>,
    /// Whether series may be deleted and snapshots taken over HTTP.
    pub admin_api: bool,
    /// Memory of the process.
    pub memory_limit: Amount,
    /// Room for data on the file system.
    pub disk_limit: Amount,
    /// Limits of series and labels, among other things that cannot be set from outside.
    pub metrics: metrics::Options,
    /// When the write-ahead log is forced to the medium.
    pub wal_fsync: Fsync,
    /// Limits of queries, but for their memory.
    pub query: query::Options,
    /// Memory of one query, of the process's.
    pub query_memory_max: Amount,
    /// How long a query may take before it is logged.
    pub slow_query: Option<Duration>,
    /// Whether series get `__type__` and `__unit__` labels.
    pub type_and_unit_labels: bool,
    /// Bounds of bodies that are being received; they cannot be set from outside.
    pub bodies: in_flight::Options,
    /// Who to become when root started the server.
    pub run_as: Option<RunAs>,
    /// A level (`info`) or filter (`info,trilith::store=debug`).
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// For each setting: the text that was read and where it came from.
    pub effective: BTreeMap<&'static str, (String, Origin)>,
    /// What was set and has no meaning here, for people.
    pub warnings: Vec<String>,
    /// What to read again at a reload.
    pub invocation: Invocation,
}
