//! The command line as read, variables and the file, as (setting, text, origin), the weakest first.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file;
use super::invocation::Invocation;
use super::origin::{ConfigError, Origin};
use super::settings::{SETTINGS, Setting};

/// What every variable begins with.
const PREFIX: &str = "TRILITH_";

/// The name of the flag and variable that name the file.
pub(super) const CONFIG: &str = "config";

/// A value for a setting.
pub(super) struct Found {
    pub(super) setting: &'static Setting,
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// The `TRILITH_*` variables of this process. A name or value that is not UTF-8 is kept readable,
/// so that the error about it can name it.
pub fn variables() -> Vec<(String, String)> {
    let text = |raw: OsString| raw.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// The variable of a setting.
fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('-', "_").to_ascii_uppercase())
}

/// Everything that is set, the weakest source first. A variable of a name that no setting has is a warning, for it
/// need not be meant for us: Kubernetes gives every container `TRILITH_PORT` and others for a Service named trilith.
pub(super) fn collect(
    invocation: &Invocation,
    problems: &mut Vec<ConfigError>,
    warnings: &mut Vec<ConfigError>,
) -> Vec<Found> {
    let mut all = Vec::new();
    let from_variable = || {
        let mut named = invocation.variables.iter().filter(|(name, _)| *name == variable(CONFIG));
        named.next().map(|(_, value)| PathBuf::from(value))
    };
    if let Some(path) = invocation.file.clone().or_else(from_variable) {
        from_file(path, &mut all, problems);
    }
    from_variables(&invocation.variables, &mut all, warnings);
    for (name, text) in &invocation.flags {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else { continue };
        all.push(Found { setting, text: text.clone(), origin: Origin::Flag(name.clone()) });
    }
    all
}

fn from_file(path: PathBuf, all: &mut Vec<Found>, problems: &mut Vec<ConfigError>) {
    let entries = match file::read(&path) {
        Ok(entries) => entries,
        Err(problem) => return problems.push(problem),
    };
    let mut seen: Vec<(&'static str, usize)> = Vec::new();
    for file::Entry { key, text, line } in entries {
        let origin = Origin::File { path: path.clone(), line };
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) else {
            let nearest = nearest(&key, SETTINGS.iter().map(|setting| setting.name.to_owned()));
            problems.push(ConfigError::UnknownKey { origin, key, nearest });
            continue;
        };
        if let Some((_, first)) = seen.iter().find(|(name, _)| *name == setting.name) {
            problems.push(ConfigError::Twice { origin, key, first: *first });
            continue;
        }
        seen.push((setting.name, line));
        all.push(Found { setting, text, origin });
    }
}

fn from_variables(variables: &[(String, String)], all: &mut Vec<Found>, warnings: &mut Vec<ConfigError>) {
    for (name, text) in variables {
        if *name == variable(CONFIG) {
            continue;
        }
        let origin = Origin::Variable(name.clone());
        match SETTINGS.iter().find(|setting| variable(setting.name) == *name) {
            Some(setting) => all.push(Found { setting, text: text.clone(), origin }),
            None => {
                let names = SETTINGS.iter().map(|setting| variable(setting.name)).chain([variable(CONFIG)]);
                let nearest = nearest(name, names);
                warnings.push(ConfigError::UnknownKey { origin, key: name.clone(), nearest });
            }
        }
    }
}

/// The name most like `key`, if any is like it at all.
fn nearest(key: &str, names: impl Iterator<Item = String>) -> Option<String> {
    // Long keys are cut: the comparison takes time by the product of the lengths.
    let key: String = key.chars().take(64).collect();
    let scored = names.map(|name| (strsim::jaro_winkler(&key, &name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.75).then_some(best.1)
}
