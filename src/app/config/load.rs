//! A configuration from its sources: the default, and what the strongest source says of each name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::invocation::Invocation;
use super::listeners::{Extra, Place};
use super::origin::{ConfigError, Origin};
use super::settings::{SETTINGS, Setting};
use super::sources;
use super::value::Amount;
use super::values::{Config, LogFormat};
use crate::base::in_flight;
use crate::query;
use crate::store::metrics;
use crate::store::stores::Retention;
use crate::store::wal::Fsync;

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
            memory_limit: Amount::Percent(50.0),
            disk_limit: Amount::Percent(80.0),
            metrics: metrics::Options::default(),
            wal_fsync: Fsync::Interval,
            query: query::Options::default(),
            query_memory_max: Amount::Bytes(query::Options::default().memory_max),
            slow_query: Some(Duration::from_secs(5)),
            type_and_unit_labels: false,
            bodies: in_flight::Options::default(),
            run_as: None,
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
            effective: SETTINGS
                .iter()
                .map(|setting| (setting.name, (setting.default.to_owned(), Origin::Default)))
                .collect(),
            invocation: Invocation::default(),
            warnings: Vec::new(),
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
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let mut config = Self::default();
        for found in sources::collect(&invocation, &mut problems, &mut warnings) {
            match (found.setting.set)(&mut config, &found.text) {
                Ok(()) => drop(config.effective.insert(found.setting.name, (found.text, found.origin))),
                Err(problem) => {
                    let key = found.setting.name.to_owned();
                    problems.push(ConfigError::BadValue { origin: found.origin, key, problem });
                }
            }
        }
        config.invocation = invocation;
        config.warnings = warnings.iter().map(ToString::to_string).collect();
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
