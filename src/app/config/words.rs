//! The command line: commands, the flags that each shows in its help, and tips for what people write instead.
//! Every command takes every flag, for one set of flags may be given to several; its help shows those that it goes by.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};

use super::invocation::{Command, Invocation};
use super::settings::{SETTINGS, Setting};
use super::sources::CONFIG;
use super::tips;
use crate::app::transfer::{Kind, Transfer};

/// A command.
struct Word {
    name: &'static str,
    command: Command,
    about: &'static str,
    /// The settings that it goes by; `None` for all.
    takes: Option<&'static [&'static str]>,
}

const fn word(
    name: &'static str,
    command: Command,
    about: &'static str,
    takes: Option<&'static [&'static str]>,
) -> Word {
    Word { name, command, about, takes }
}

const WORDS: &[Word] = &[
    word("serve", Command::Serve, "serve, as without a command", None),
    word("check-config", Command::CheckConfig, "say what is configured, and where each value comes from", None),
    word(
        "repair",
        Command::Repair,
        "rebuild the indexes from the data, with the server stopped",
        Some(&["data-dir", "run-as"]),
    ),
    word(
        "healthcheck",
        Command::Healthcheck,
        "ask the running server whether it is well (for containers)",
        Some(&["listen"]),
    ),
    word(
        "import",
        Command::Import,
        "send OpenMetrics, Prometheus text or TSDB blocks to the running server",
        Some(&["listen"]),
    ),
    word("export", Command::Export, "write samples of the running server to a file, as OpenMetrics", Some(&["listen"])),
    word("version", Command::Version, "say which version this is", Some(&[])),
];

fn parser() -> clap::Command {
    let mut parser = clap::Command::new("trilith")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Metrics, logs and traces in one binary, answered over the APIs a stock Grafana speaks")
        .override_usage("trilith [COMMAND] [--config FILE] [FLAGS]   (no command: it serves)")
        .after_help(
            "Each flag is also a variable (--data-dir: TRILITH_DATA_DIR) and a key of the file (data-dir: DIR).",
        )
        .max_term_width(120)
        .args(flags(None));
    for word in WORDS {
        let command = clap::Command::new(word.name).about(word.about).max_term_width(120).args(flags(word.takes));
        parser = parser.subcommand(match word.command {
            Command::Import => command.args(import_args()),
            Command::Export => command.args(export_args()),
            _ => command,
        });
    }
    parser
}

/// All flags, those shown that are among `shown`; the file's where any is.
fn flags(shown: Option<&'static [&'static str]>) -> Vec<Arg> {
    let hidden = |name: &str| shown.is_some_and(|shown| !shown.contains(&name));
    let file = Arg::new(CONFIG).long(CONFIG).value_name("FILE").help("a YAML file with the same names");
    let file = file.value_parser(clap::builder::OsStringValueParser::new());
    let mut flags = vec![file.hide(shown.is_some_and(<[_]>::is_empty))];
    for setting in SETTINGS {
        let mut arg = Arg::new(setting.name).long(setting.name).hide(hidden(setting.name));
        arg = arg.value_parser(clap::builder::OsStringValueParser::new());
        if setting.is_switch() {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false");
            arg = arg.help(setting.help);
        } else {
            arg = arg.value_name(setting.value).help(format!("{} [{}]", setting.help, setting.default));
        }
        flags.push(arg);
    }
    flags
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

/// Reads the command line; `variables` are the process's `TRILITH_*` variables.
///
/// # Errors
/// What clap has to say, help and version among it.
pub fn command_line(
    args: impl IntoIterator<Item = OsString>,
    variables: Vec<(String, String)>,
) -> Result<Invocation, clap::Error> {
    let outer = parser().try_get_matches_from(args).map_err(tips::add)?;
    let named = outer.subcommand_name();
    let command = WORDS.iter().find(|word| Some(word.name) == named).map_or(Command::Serve, |word| word.command);
    let inner = outer.subcommand().map_or(&outer, |(_, inner)| inner);
    // A flag stands before the command or after it.
    let file = inner.get_one::<OsString>(CONFIG).or_else(|| outer.get_one(CONFIG)).map(PathBuf::from);
    let flag = |setting: &Setting| flag(inner, setting).or_else(|| flag(&outer, setting));
    let flags = SETTINGS.iter().filter_map(|setting| Some((setting.name.to_owned(), flag(setting)?))).collect();
    Ok(Invocation { command, file, transfer: transfer(inner), flags, variables })
}

fn flag(matches: &ArgMatches, setting: &Setting) -> Option<String> {
    matches.get_one::<OsString>(setting.name).map(|text| text.to_string_lossy().into_owned())
}
