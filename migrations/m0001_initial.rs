//! Step 1: an empty data directory becomes one of format 1.

use std::path::Path;

use super::{MigrateError, Migration};

/// The first format: `wal/`, `metrics/`, `logs/`, `traces/`, `text/`; `catalog/` is made by its owner.
pub(super) const STEP: Migration =
    Migration { to: 1, name: "initial", summary: "lays out an empty data directory", run };

fn run(dir: &Path) -> Result<(), MigrateError> {
    for folder in ["wal/metrics", "wal/logs", "wal/traces", "metrics", "logs", "traces", "text"] {
        let path = dir.join(folder);
        std::fs::create_dir_all(&path).map_err(|source| MigrateError::Io { path, source })?;
    }
    Ok(())
}
