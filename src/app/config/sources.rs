//! Flags, variables and the file, as (setting, text, origin), the weakest first.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};

use super::file;
use super::invocation::{Command, Invocation};
use super::origin::{ConfigError, Origin};
use super::settings::{SETTINGS, Setting};
use crate::app::transfer::{Kind, Transfer};

/// What every variable begins with.
const PREFIX: &str = "TRILITH_";

const CONFIG: &str = "config";

const COMMANDS: &[(&str, Command, &str)] = &[
    ("check-config", Command::CheckConfig, "say what is configured, and where each value comes from"),
    ("repair", Command::Repair, "rebuild the indexes from the data, with the server stopped"),
    ("healthcheck", Command::Healthcheck, "ask the running server whether it is well (for containers)"),
    ("import", Command::Import, "send OpenMetrics, Prometheus text or TSDB blocks to the running server"),
    ("export", Command::Export, "write samples of the running server to a file, as OpenMetrics"),
];

/// A value for a setting.
pub(super) struct Found {
    pub(super) setting: &'static Setting,
    pub(super) text: String,
    pub(super) origin: Origin,
}

fn parser() -> clap::Command {
    let mut parser = clap::Command::new("trilith")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Metrics, logs and traces in one binary, answered over the APIs a stock Grafana speaks")
        .override_usage("trilith [COMMAND] [--config FILE] [FLAGS]   (no command: it serves)")
        .after_help(
            "Each flag is also a variable (--data-dir: TRILITH_DATA_DIR) and a key of the file (data-dir: DIR).",
        )
        .disable_help_subcommand(true)
        .max_term_width(120)
        .arg(Arg::new(CONFIG).long(CONFIG).value_name("FILE").global(true).help("a YAML file with the same names"));
    for setting in SETTINGS {
        let mut arg = Arg::new(setting.name).long(setting.name).global(true);
        if setting.is_switch() {
            arg = arg.action(ArgAction::SetTrue).help(setting.help);
        } else {
            let value = clap::builder::OsStringValueParser::new();
            arg = arg.value_name(setting.value).value_parser(value);
            arg = arg.help(format!("{} [{}]", setting.help, setting.default));
        }
        parser = parser.arg(arg);
    }
    for (name, _, about) in COMMANDS {
        let command = clap::Command::new(*name).about(*about);
        parser = parser.subcommand(match *name {
            "import" => command.args(import_args()),
            "export" => command.args(export_args()),
            _ => command,
        });
    }
    parser
}

fn url_arg() -> Arg {
    Arg::new("url").long("url").value_name("URL").help("the server, such as http://127.0.0.1:9090 [that of --listen]")
}

fn import_args() -> [Arg; 3] {
    let kinds = Kind::NAMES.map(|(name, _)| name);
    let path = clap::builder::ValueParser::path_buf();
    [
        Arg::new("kind").value_name("KIND").required(true).value_parser(kinds).help("what it is"),
        Arg::new("path").value_name("PATH").required(true).value_parser(path).help(
            "the file, - for standard input; for tsdb a block, or the folder with the blocks (data of Prometheus)",
        ),
        url_arg(),
    ]
}

fn export_args() -> [Arg; 5] {
    let path = clap::builder::ValueParser::path_buf();
    [
        Arg::new("path").value_name("FILE").required(true).value_parser(path).help("the file, - for standard output"),
        Arg::new("match").long("match").value_name("SELECTOR").action(ArgAction::Append).help("which series [all]"),
        Arg::new("start").long("start").value_name("TIME").help("first time, seconds or RFC 3339 [the beginning]"),
        Arg::new("end").long("end").value_name("TIME").help("last time [the end]"),
        url_arg(),
    ]
}

fn transfer(matches: &ArgMatches) -> Transfer {
    let text = |name| matches.try_get_one::<String>(name).ok().flatten().cloned();
    let named = text("kind").unwrap_or_default();
    let kind = Kind::NAMES.into_iter().find(|(name, _)| *name == named).map_or(Kind::default(), |(_, kind)| kind);
    let selectors = matches.try_get_many::<String>("match").ok().flatten();
    Transfer {
        kind,
        path: matches.try_get_one::<PathBuf>("path").ok().flatten().cloned().unwrap_or_default(),
        url: text("url"),
        matches: selectors.map(|all| all.cloned().collect()).unwrap_or_default(),
        start: text("start"),
        end: text("end"),
    }
}

/// The `TRILITH_*` variables of this process. A name or value that is not UTF-8 is kept readable,
/// so that the error about it can name it.
pub fn variables() -> Vec<(String, String)> {
    let text = |raw: OsString| raw.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// Reads the command line; `variables` are the process's `TRILITH_*` variables.
///
/// # Errors
/// What clap has to say, help and version among it.
pub fn command_line(
    args: impl IntoIterator<Item = OsString>,
    variables: Vec<(String, String)>,
) -> Result<Invocation, clap::Error> {
    let matches = parser().try_get_matches_from(args)?;
    let named = matches.subcommand_name();
    let command = COMMANDS.iter().find(|(name, ..)| Some(*name) == named).map_or(Command::Serve, |row| row.1);
    // Global arguments given after a command's name are found in its own matches.
    let inner = matches.subcommand().map_or(&matches, |(_, inner)| inner);
    let file = inner.get_one::<String>(CONFIG).map(PathBuf::from);
    let flags = SETTINGS.iter().filter_map(|setting| Some((setting.name.to_owned(), flag(inner, setting)?))).collect();
    Ok(Invocation { command, file, transfer: transfer(inner), flags, variables })
}

fn flag(matches: &ArgMatches, setting: &Setting) -> Option<String> {
    if setting.is_switch() {
        return matches.get_flag(setting.name).then(|| "true".to_owned());
    }
    matches.get_one::<OsString>(setting.name).map(|text| text.to_string_lossy().into_owned())
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
