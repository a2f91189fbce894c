//! Step 1: an empty data directory becomes one of format 1.

use std::path::Path;
use std::sync::Arc;

use super::{MigrateError, Migration};
use crate::base::disk::Disk;
use crate::store::error::io_error;
use crate::store::patience::patiently;

/// The first format: `wal/`, `metrics/`, `logs/`, `traces/`, `text/`; `catalog/` is made by its owner.
pub(super) const STEP: Migration =
    Migration { to: 1, name: "initial", summary: "lays out an empty data directory", run };

fn run(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(), MigrateError> {
    for folder in ["wal/metrics", "wal/logs", "wal/traces", "metrics", "logs", "traces", "text"] {
        let path = dir.join(folder);
        patiently(|| disk.create_dir_all(&path).map_err(io_error("create", &path)))?;
    }
    Ok(())
}
