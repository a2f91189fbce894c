//! What has to be read or written for a start is tried again for a moment before it is an error: the system
//! may have been short of something.

use std::thread;
use std::time::Duration;

use super::error::StoreError;

/// Pauses between the tries.
const PAUSES_MS: [u64; 4] = [1, 10, 50, 200];

/// Tries again for a moment what fails, but not what is damaged.
///
/// # Errors
/// The last one.
pub(in crate::store) fn patiently<T>(mut work: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for pause in PAUSES_MS {
        match work() {
            Err(error) if !error.is_damage() => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "tried again in a moment");
                thread::sleep(Duration::from_millis(pause));
            }
            done => return done,
        }
    }
    work()
}
