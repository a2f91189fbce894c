//! What the server is told: flags, `TRILITH_*` variables and one YAML file set the same names.
//! Flow: `sources` collects (name, text, origin) from each source; the highest origin of a name
//! wins (flag, then variable, then file, then default); its row in `SETTINGS` reads the text.
//! Invariants: an unknown name or a bad value in any source is an error, also when another source
//! overrides it; nothing is guessed. Only an unknown variable is no more than a warning.

mod file;
mod invocation;
mod listeners;
mod load;
mod origin;
mod settings;
mod sources;
mod tips;
mod value;
mod values;
mod words;

pub use invocation::{Command, Invocation};
pub use listeners::{Extra, Place};
pub use origin::{ConfigError, Origin};
pub use settings::{SETTINGS, Setting};
pub use sources::variables;
pub use value::Amount;
pub use values::{Config, LogFormat};
pub use words::command_line;

#[cfg(test)]
mod tests;
