//! How the program was called: enough to read its configuration, now and at a reload.

use std::path::PathBuf;

use crate::app::transfer::Transfer;

/// What the program is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// Serve: the default.
    #[default]
    Serve,
    /// Say which version this is.
    Version,
    /// Say what is configured and where it comes from.
    CheckConfig,
    /// Rebuild the indexes from parts and write-ahead log, then stop.
    Repair,
    /// Ask the running server whether it is well.
    Healthcheck,
    /// Send files to a running server.
    Import,
    /// Write what a running server has to a file.
    Export,
}

/// How the program was called: enough to read its configuration, now and at a reload.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// `--config`.
    pub file: Option<PathBuf>,
    /// What `import` and `export` are asked for.
    pub transfer: Transfer,
    /// Flags given: name and value.
    pub flags: Vec<(String, String)>,
    /// `TRILITH_*` variables.
    pub variables: Vec<(String, String)>,
}
