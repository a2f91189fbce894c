//! What the server is told: flags, `TRILITH_*` variables and one YAML file set the same names.
//! Flow: `sources` collects (name, text, origin) from each source; the highest origin of a name
//! wins (flag, then variable, then file, then default); its row in `SETTINGS` reads the text.
//! Invariants: an unknown name or a bad value in any source is an error, also when another source
//! overrides it; nothing is guessed.

mod file;
mod settings;
mod sources;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use settings::{SETTINGS, Setting};
pub use sources::{Command, Invocation, command_line};
pub use value::Amount;

use super::user::RunAs;
use crate::query;
use crate::store::metrics;
use crate::store::metrics::keep::Rule;
use crate::store::stores::Retention;
use crate::store::wal::Fsync;

/// One of the four listeners besides the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extra {
    /// OTLP over gRPC, 4317.
    OtlpGrpc,
    /// OTLP over HTTP, 4318.
    OtlpHttp,
    /// Loki's paths at the root, 3100.
    Loki,
    /// Tempo's paths at the root, 3200.
    Tempo,
}

impl Extra {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OtlpGrpc, Self::OtlpHttp, Self::Loki, Self::Tempo];

    /// The flag that sets its address, without dashes before it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::OtlpGrpc => "listen-otlp-grpc",
            Self::OtlpHttp => "listen-otlp-http",
            Self::Loki => "listen-loki",
            Self::Tempo => "listen-tempo",
        }
    }

    /// The port it has when nothing is said.
    pub fn port(self) -> u16 {
        match self {
            Self::OtlpGrpc => 4317,
            Self::OtlpHttp => 4318,
            Self::Loki => 3100,
            Self::Tempo => 3200,
        }
    }
}

/// Where an extra listener is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the main listener's host, at its own default port.
    #[default]
    BesideMain,
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// How log lines of the server look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a value came from, the strongest last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The YAML file.
    File {
        /// Its path as given.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A `TRILITH_*` variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

impl Origin {
    /// Where `key` stands, naming it once.
    fn with_key(&self, key: &str) -> String {
        match self {
            Self::Flag(_) | Self::Variable(_) => self.to_string(),
            Self::Default | Self::File { .. } => format!("{self}: {key}"),
        }
    }
}

/// What is wrong with a configuration. All problems are found at once.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A name that no setting has.
    #[error("{origin}: unknown key \"{key}\"{}", nearest_hint(.nearest.as_deref()))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// As written.
        key: String,
        /// The nearest right name, as it is written in that source.
        nearest: Option<String>,
    },
    /// A value that its setting cannot have.
    #[error("{}: {problem}", .origin.with_key(.key))]
    BadValue {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A name that the file sets twice.
    #[error("{origin}: {key} is set twice; it is also on line {first}")]
    Twice {
        /// The second place.
        origin: Origin,
        /// The setting.
        key: String,
        /// Line of the first.
        first: usize,
    },
    /// The file is not YAML, or not a mapping of names to values.
    #[error("{origin}: {problem}")]
    File {
        /// Where.
        origin: Origin,
        /// What is wrong.
        problem: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {path:?}: {problem}")]
    Unreadable {
        /// Its path as given.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"))
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
    /// Who to become when root started the server.
    pub run_as: Option<RunAs>,
    /// A level (`info`) or filter (`info,trilith::store=debug`).
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// For each setting: the text that was read and where it came from.
    pub effective: BTreeMap<&'static str, (String, Origin)>,
    /// What to read again at a reload.
    pub invocation: Invocation,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("trilith-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            extra: BTreeMap::new(),
            no_extra_listeners: false,
            retention: Retention::default(),
            metrics_rules: Vec::new(),
            admin_api: false,
            memory_limit: Amount::Percent(60.0),
            disk_limit: Amount::Percent(80.0),
            metrics: metrics::Options::default(),
            wal_fsync: Fsync::Interval,
            query: query::Options::default(),
            query_memory_max: Amount::Bytes(query::Options::default().memory_max),
            slow_query: Some(Duration::from_secs(5)),
            type_and_unit_labels: false,
            run_as: None,
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
            effective: SETTINGS
                .iter()
                .map(|setting| (setting.name, (setting.default.to_owned(), Origin::Default)))
                .collect(),
            invocation: Invocation::default(),
        }
    }
}

impl Config {
    /// A configuration for tests: a data directory, the main listener at a free port of loopback
    /// and no others.
    pub fn for_tests(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            no_extra_listeners: true,
            ..Self::default()
        }
    }

    /// Sets one thing by its name, as a flag would.
    ///
    /// # Errors
    /// What is wrong with the name or the value.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let setting =
            SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| format!("no setting {name}"))?;
        (setting.set)(self, text)?;
        self.effective.insert(setting.name, (text.to_owned(), Origin::Default));
        Ok(())
    }

    /// Reads the sources of `invocation`.
    ///
    /// # Errors
    /// Every problem of every source, in the order file, variables, flags.
    pub fn load(invocation: Invocation) -> Result<Self, Vec<ConfigError>> {
        let mut problems = Vec::new();
        let mut config = Self::default();
        for found in sources::collect(&invocation, &mut problems) {
            match (found.setting.set)(&mut config, &found.text) {
                Ok(()) => drop(config.effective.insert(found.setting.name, (found.text, found.origin))),
                Err(problem) => {
                    let key = found.setting.name.to_owned();
                    problems.push(ConfigError::BadValue { origin: found.origin, key, problem });
                }
            }
        }
        config.invocation = invocation;
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Where an extra listener is, or `None` when it is off.
    pub fn address(&self, extra: Extra) -> Option<SocketAddr> {
        if self.no_extra_listeners {
            return None;
        }
        match self.extra.get(&extra).copied().unwrap_or_default() {
            Place::BesideMain => Some(SocketAddr::new(self.listen.ip(), extra.port())),
            Place::At(address) => Some(address),
            Place::Off => None,
        }
    }

    /// Names of settings whose value differs in `other`.
    pub fn changed(&self, other: &Self) -> Vec<&'static Setting> {
        let text = |config: &Self, name| config.effective.get(name).map(|(text, _)| text.clone());
        SETTINGS.iter().filter(|setting| text(self, setting.name) != text(other, setting.name)).collect()
    }
}

/// The `TRILITH_*` variables of this process. A name or value that is not UTF-8 is kept readable,
/// so that the error about it can name it.
pub fn variables() -> Vec<(String, String)> {
    let text = |raw: OsString| raw.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| name.starts_with(sources::PREFIX)).collect()
}

#[cfg(test)]
mod tests;
