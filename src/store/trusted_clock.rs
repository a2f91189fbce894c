//! The clock that retention, flushes and merges go by: the machine's, unless that has jumped ahead.
//! A clock that is wrong by weeks would have retention remove good data for good. So the time cannot run
//! ahead of what was known (the time noted last, and what has passed since by a clock that nobody turns)
//! by more than [`AHEAD_MS_MAX`]. Beyond that the known time goes on, until the machine's clock is back,
//! most of what is stored is of the new time, or somebody says that the clock is right. A server that
//! was off for weeks is the same picture: its senders' data soon says so.
//! The time is noted in the file `TRUSTED_TIME`; without it the newest data in parts counts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::base::clock::Clock;
use crate::base::disk::Disk;

const FILE: &str = "TRUSTED_TIME";
/// The clock may be so far ahead of the time that is known, in milliseconds.
pub const AHEAD_MS_MAX: i64 = 86_400_000;
/// So long most of what is stored has to be of the new time before it counts.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(600);

/// See above.
pub struct TrustedClock {
    wall: Arc<dyn Clock>,
    began: Instant,
    /// The known time when this one began, in milliseconds; with what has passed since it is the
    /// known time now.
    known_ms: AtomicI64,
    /// Whether the known time comes from anywhere but the machine's clock.
    is_noted: bool,
}

impl TrustedClock {
    /// Begins with the time that is noted in `dir`, or with what `wall` shows.
    pub fn open(wall: Arc<dyn Clock>, disk: &dyn Disk, dir: &Path) -> Self {
        let text = disk.read(&dir.join(FILE)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let noted = text.as_deref().and_then(decode);
        let known_ms = AtomicI64::new(noted.unwrap_or_else(|| wall.now_ms()));
        Self { wall, began: Instant::now(), known_ms, is_noted: noted.is_some() }
    }

    /// Says how new the newest stored data is, when the store is opened: what counts if nothing is noted.
    pub fn data_until(&self, newest_ms: i64) {
        if !self.is_noted {
            self.known_ms.fetch_min(newest_ms, Ordering::Relaxed);
        }
    }

    fn expected_ms(&self) -> i64 {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.known_ms.load(Ordering::Relaxed).saturating_add(passed)
    }

    /// How far the machine's clock is ahead of the known time, in milliseconds, if that is too much.
    pub fn ahead_ms(&self) -> Option<i64> {
        let ahead = self.wall.now_ms().saturating_sub(self.expected_ms());
        (ahead > AHEAD_MS_MAX).then_some(ahead)
    }

    /// What the machine's clock shows, in milliseconds.
    pub fn wall_ms(&self) -> i64 {
        self.wall.now_ms()
    }

    /// Somebody, or the data, says that the machine's clock is right.
    pub fn trust(&self) {
        let ahead = self.wall.now_ms().saturating_sub(self.expected_ms());
        self.known_ms.fetch_add(ahead, Ordering::Relaxed);
    }

    /// Notes the time, for the next start. What is not noted now is noted later.
    pub fn note(&self, disk: &dyn Disk, dir: &Path) {
        let (wall, expected) = (self.wall.now_ms(), self.expected_ms());
        if wall.abs_diff(expected) > AHEAD_MS_MAX.unsigned_abs() {
            return;
        }
        let (tmp, path) = (dir.join(format!("{FILE}.tmp")), dir.join(FILE));
        let noted = || {
            let file = disk.append(&tmp)?;
            file.truncate(0)?;
            file.write_all(encode(wall).as_bytes())?;
            disk.rename(&tmp, &path)
        };
        if let Err(error) = noted() {
            tracing::debug!(%error, ?path, "cannot note the time");
        }
    }
}

impl Clock for TrustedClock {
    fn now_ns(&self) -> i64 {
        let (wall, expected) = (self.wall.now_ns(), self.expected_ms());
        let ahead = wall.div_euclid(1_000_000).saturating_sub(expected) > AHEAD_MS_MAX;
        if ahead { expected.saturating_mul(1_000_000) } else { wall }
    }
}

fn encode(ms: i64) -> String {
    format!("{ms} {:08x}\n", crc32c::crc32c(ms.to_string().as_bytes()))
}

fn decode(text: &str) -> Option<i64> {
    let ms = text.split_once(' ')?.0.parse().ok()?;
    (encode(ms) == text).then_some(ms)
}

/// Whether data confirms the machine's clock: most rows that came since it has jumped are of its time,
/// and that for some while.
pub fn is_confirmed(paused_for: Duration, after: Duration, rows_of_its_time: u64, rows: u64) -> bool {
    paused_for >= after && rows_of_its_time > rows / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::RealDisk;
    use crate::base::support::ManualClock;

    const DAY: i64 = 86_400_000;
    const NOW: i64 = 20_000 * DAY;

    fn clock_at(ms: i64, dir: &Path) -> (ManualClock, TrustedClock) {
        let wall = ManualClock::at_ns(ms * 1_000_000);
        (wall.clone(), TrustedClock::open(Arc::new(wall), &RealDisk, dir))
    }

    #[test]
    fn a_jump_ahead_does_not_count_until_somebody_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (wall, clock) = clock_at(NOW, dir.path());
        wall.set_ns((NOW + DAY / 2) * 1_000_000);
        assert_eq!((clock.now_ms(), clock.ahead_ms()), (NOW + DAY / 2, None));
        wall.set_ns((NOW + 30 * DAY) * 1_000_000);
        assert!((NOW..NOW + DAY / 2).contains(&clock.now_ms()), "{}", clock.now_ms());
        assert!(clock.ahead_ms().unwrap() > 29 * DAY);
        wall.set_ns((NOW - DAY) * 1_000_000);
        assert_eq!((clock.now_ms(), clock.ahead_ms()), (NOW - DAY, None));
        wall.set_ns((NOW + 30 * DAY) * 1_000_000);
        clock.trust();
        assert_eq!((clock.now_ms(), clock.ahead_ms()), (NOW + 30 * DAY, None));
    }

    #[test]
    fn the_time_is_known_after_a_restart_by_its_note_or_by_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let (wall, clock) = clock_at(NOW, dir.path());
        clock.note(&RealDisk, dir.path());
        wall.set_ns((NOW + 3 * DAY) * 1_000_000);
        clock.note(&RealDisk, dir.path());
        drop(clock);
        let (_, clock) = clock_at(NOW + 3 * DAY, dir.path());
        clock.data_until(0);
        assert!((NOW..NOW + DAY).contains(&clock.now_ms()));
        std::fs::write(dir.path().join(FILE), "1234567890123 00000000\n").unwrap();
        let (_, clock) = clock_at(NOW, dir.path());
        clock.data_until(NOW - 2 * DAY);
        assert!((NOW - 2 * DAY..NOW - DAY).contains(&clock.now_ms()));
    }

    #[test]
    fn data_confirms_the_time_when_it_is_most_of_what_comes_for_a_while() {
        let long = Duration::from_secs(600);
        assert!(is_confirmed(long, CONFIRMED_AFTER, 6, 10));
        assert!(!is_confirmed(long / 2, CONFIRMED_AFTER, 10, 10));
        assert!(!is_confirmed(long, CONFIRMED_AFTER, 5, 10));
        assert!(!is_confirmed(long, CONFIRMED_AFTER, 0, 0));
    }
}
