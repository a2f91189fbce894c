//! Where a value came from, and what is wrong with one: every problem names its place and the nearest right name.

use std::fmt;
use std::path::PathBuf;

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
