//! Which samples count no more though parts still hold them: deleted ones, and those that are past the
//! retention of their series.
//! Flow: a delete adds a [`Tombstone`], durable before it is answered; selects and merges ask a
//! [`Sieve`] for each part or head which times of a series to leave out. A merge leaves them out for
//! good and notes in its part up to which tombstone; one that no part needs any more is forgotten.
//! Invariants: a tombstone speaks of the parts that were there when it came, by their seq; the head
//! is flushed before, so samples that come later are never hidden.
//! Locks: `state`, for a look or an exchange. Bytes: docs/format/tombstones.md.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::base::counters::Cell;
use crate::base::disk::Disk;
use crate::model::labels::Labels;
use crate::model::matcher::{MatchOp, Matcher, all_match};
use crate::model::time::RangeMs;
use crate::store::codec::{Malformed, Reader, put_signed, put_str, put_varint};
use crate::store::error::{StoreError, io_error};
use crate::store::part::PartReader;

const FILE: &str = "tombstones";
const MAGIC: [u8; 8] = *b"TRILTOMB";
const VERSION: u8 = 1;
/// Most deletions that wait for their samples to go.
pub const TOMBSTONES_MAX: usize = 1_000;

/// Samples that were deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// Its number; later ones are larger, and none comes twice.
    pub id: u64,
    /// The newest seq of the parts that it speaks of.
    pub seq: u64,
    /// The times.
    pub range: RangeMs,
    /// The series: those that satisfy all of them.
    pub matchers: Vec<Matcher>,
}

impl Tombstone {
    /// Whether it speaks of a part and is not done with there.
    pub fn concerns(&self, part: &PartReader) -> bool {
        let info = part.info();
        let done = part.merged().is_some_and(|merged| merged.mark >= self.id);
        info.seq <= self.seq && !done && self.range.overlaps(info.min_t, info.max_t)
    }
}

/// How long the samples of some series are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The series: those that satisfy all of them.
    pub matchers: Vec<Matcher>,
    /// How long; `None` is forever.
    pub keep: Option<Duration>,
}

/// How long samples are kept. Of the rules the first that fits a series counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retention {
    /// For some series.
    pub rules: Vec<Rule>,
    /// For all others; `None` is forever.
    pub others: Option<Duration>,
}

impl Retention {
    /// The longest that any sample is kept; `None` is forever.
    pub fn longest(&self) -> Option<Duration> {
        self.rules.iter().map(|rule| rule.keep).chain([self.others]).try_fold(Duration::ZERO, |a, b| Some(a.max(b?)))
    }

    /// The shortest that any sample is kept; `None` is forever.
    pub fn shortest(&self) -> Option<Duration> {
        self.rules.iter().map(|rule| rule.keep).chain([self.others]).flatten().min()
    }

    /// The first time of a series that counts, milliseconds since the Unix epoch.
    pub fn start(&self, labels: &Labels, now_ms: i64) -> i64 {
        let rule = self.rules.iter().find(|rule| all_match(&rule.matchers, labels));
        start(rule.map_or(self.others, |rule| rule.keep), now_ms)
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    /// The number of the next tombstone.
    next: u64,
    tombstones: Arc<Vec<Arc<Tombstone>>>,
    retention: Arc<Retention>,
    /// Raised with each change of the retention.
    version: u64,
}

/// What counts no more, of one store.
pub struct Keep {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: RwLock<State>,
    /// The last write failed: the file may hold another list than `state`, until it is written again.
    doubted: AtomicBool,
}

impl Keep {
    /// Reads the tombstones in the folder of the parts. A file that cannot be read is moved aside and
    /// said to be damaged: what it hid is seen again.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, damaged: &Cell) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let mut state = State { next: 1, ..State::default() };
        match disk.read(&path) {
            Ok(bytes) => match decode(&bytes) {
                Ok((next, tombstones)) => (state.next, state.tombstones) = (next, Arc::new(tombstones)),
                Err(Malformed(what)) => {
                    let aside = dir.join("tombstones.damaged");
                    damaged.inc();
                    tracing::error!(what, moved_to = ?aside, "the list of deleted samples cannot be read; they are seen again");
                    disk.rename(&path, &aside).map_err(io_error("rename", &path))?;
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read", &path)(error)),
        }
        Ok(Self { disk, dir: dir.to_owned(), state: RwLock::new(state), doubted: AtomicBool::new(false) })
    }

    /// Makes sure that numbers of tombstones to come are larger than `mark`, which a part has noted.
    pub fn past(&self, mark: u64) {
        let mut state = self.state.write();
        state.next = state.next.max(mark.saturating_add(1));
    }

    /// Notes a deletion in all parts up to `seq`; it is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is deleted.
    pub fn delete(&self, matchers: &[Matcher], range: RangeMs, seq: u64) -> Result<(), StoreError> {
        let mut state = self.state.write();
        if state.tombstones.len() >= TOMBSTONES_MAX {
            return Err(StoreError::NotReady("still deleting what it was told before"));
        }
        let tombstone = Tombstone { id: state.next, seq, range, matchers: matchers.to_vec() };
        let mut tombstones = state.tombstones.to_vec();
        tombstones.push(Arc::new(tombstone));
        if let Err(error) = self.write(state.next + 1, &tombstones) {
            // The list may have its name all the same: the next start would delete what was refused.
            if let Err(error) = self.write(state.next, &state.tombstones) {
                tracing::error!(%error, "cannot take back a deletion that failed; it is tried again after the next merge");
            }
            return Err(error);
        }
        state.next += 1;
        state.tombstones = Arc::new(tombstones);
        Ok(())
    }

    /// Forgets tombstones that `needed` says no to, and writes the list again after a write that failed.
    ///
    /// # Errors
    /// [`StoreError::Io`]: all are kept.
    pub fn forget(&self, needed: impl Fn(&Tombstone) -> bool) -> Result<(), StoreError> {
        let mut state = self.state.write();
        let kept: Vec<_> = state.tombstones.iter().filter(|own| needed(own)).cloned().collect();
        if kept.len() < state.tombstones.len() || self.doubted.load(Ordering::Relaxed) {
            self.write(state.next, &kept)?;
            state.tombstones = Arc::new(kept);
        }
        Ok(())
    }

    /// All tombstones, oldest first.
    pub fn tombstones(&self) -> Arc<Vec<Arc<Tombstone>>> {
        self.state.read().tombstones.clone()
    }

    /// The number of the newest tombstone there was.
    pub fn newest(&self) -> u64 {
        self.state.read().next.saturating_sub(1)
    }

    /// Changes how long samples are kept.
    pub fn set_retention(&self, retention: Retention) {
        let mut state = self.state.write();
        if *state.retention != retention {
            state.retention = Arc::new(retention);
            state.version += 1;
        }
    }

    /// How long samples are kept.
    pub fn retention(&self) -> Arc<Retention> {
        self.state.read().retention.clone()
    }

    /// What to leave out now. Whoever reads parts asks this before it looks which there are: what is
    /// forgotten meanwhile is gone from the parts that come later alone.
    pub fn sieves(&self, now_ms: i64) -> Sieves {
        Sieves { state: self.state.read().clone(), now_ms, from: i64::MIN }
    }

    /// The file, for a snapshot.
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    fn write(&self, next: u64, tombstones: &[Arc<Tombstone>]) -> Result<(), StoreError> {
        let (path, tmp) = (self.dir.join(FILE), self.dir.join("tombstones.tmp"));
        let written = || {
            let file = self.disk.append(&tmp)?;
            file.truncate(0)?;
            file.write_all(&encode(next, tombstones))?;
            file.sync()?;
            self.disk.rename(&tmp, &path)?;
            self.disk.sync_dir(&self.dir)
        };
        let written = written();
        self.doubted.store(written.is_err(), Ordering::Relaxed);
        written.map_err(io_error("write", &path))
    }
}

/// What to leave out of all parts and heads at some time.
#[derive(Clone, Debug)]
pub struct Sieves {
    state: State,
    now_ms: i64,
    from: i64,
}

impl Sieves {
    /// What to leave out of a part, or of a head.
    pub fn of(&self, part: Option<&PartReader>) -> Sieve {
        let concerns = |own: &&Arc<Tombstone>| part.is_some_and(|part| own.concerns(part));
        let tombstones = self.state.tombstones.iter().filter(concerns).cloned().collect();
        Sieve { tombstones, retention: self.retention().cloned(), now_ms: self.now_ms, from: self.from }
    }

    /// What to leave out besides: everything before `from`.
    pub fn from(self, from: i64) -> Self {
        Self { from, ..self }
    }

    /// The deletions, oldest first.
    pub fn tombstones(&self) -> &[Arc<Tombstone>] {
        &self.state.tombstones
    }

    /// The retention, when some series have one of their own.
    pub fn retention(&self) -> Option<&Arc<Retention>> {
        Some(&self.state.retention).filter(|retention| !retention.rules.is_empty())
    }

    /// For each rule, and at last for all other series, whether a sample of `max_t` is past its
    /// retention; and the version of the retention.
    pub fn periods_over(&self, max_t: i64) -> (u64, Vec<bool>) {
        let Some(retention) = self.retention() else { return (self.state.version, Vec::new()) };
        let keeps = retention.rules.iter().map(|rule| rule.keep).chain([retention.others]);
        (self.state.version, keeps.map(|keep| max_t < start(keep, self.now_ms)).collect())
    }
}

/// The first time that counts of what is kept so long.
fn start(keep: Option<Duration>, now_ms: i64) -> i64 {
    keep.map_or(i64::MIN, |keep| now_ms.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)))
}

/// What to leave out of one source of samples.
#[derive(Clone, Debug)]
pub struct Sieve {
    tombstones: Vec<Arc<Tombstone>>,
    /// Set when some series have a retention of their own.
    retention: Option<Arc<Retention>>,
    now_ms: i64,
    /// What is before is left out of all series.
    from: i64,
}

impl Sieve {
    /// Whether nothing is left out of any series.
    pub fn is_open(&self) -> bool {
        self.tombstones.is_empty() && self.retention.is_none() && self.from == i64::MIN
    }

    /// The deletions: of which series, and which times.
    pub fn deletions(&self) -> impl Iterator<Item = (&[Matcher], RangeMs)> {
        self.tombstones.iter().map(|own| (own.matchers.as_slice(), own.range))
    }

    /// What is past the retention: for each rule, and at last for all other series, of which series,
    /// and which times. Of a series the first that fits it counts.
    pub fn periods(&self) -> Vec<(&[Matcher], Option<RangeMs>)> {
        let Some(retention) = &self.retention else { return Vec::new() };
        let rules = retention.rules.iter().map(|rule| (rule.matchers.as_slice(), rule.keep));
        let past = |keep| {
            let start = start(keep, self.now_ms);
            (start > i64::MIN).then(|| RangeMs { start: i64::MIN, end: start - 1 })
        };
        rules.chain([(&[][..], retention.others)]).map(|(matchers, keep)| (matchers, past(keep))).collect()
    }

    /// The times of a series that are left out.
    pub fn left_out(&self, labels: &Labels) -> Vec<RangeMs> {
        let deleted = self.tombstones.iter().filter(|own| all_match(&own.matchers, labels)).map(|own| own.range);
        let start = self.retention.as_ref().map_or(i64::MIN, |retention| retention.start(labels, self.now_ms));
        let start = start.max(self.from);
        let past = (start > i64::MIN).then(|| RangeMs { start: i64::MIN, end: start - 1 });
        deleted.chain(past).collect()
    }
}

/// Whether `ranges` leave nothing of `range`.
pub fn cover(ranges: &[RangeMs], range: RangeMs) -> bool {
    let mut ranges = ranges.to_vec();
    ranges.sort_by_key(|own| own.start);
    let mut reached = range.start;
    for own in ranges {
        if own.start > reached {
            return false;
        }
        if own.end >= range.end {
            return true;
        }
        reached = reached.max(own.end.saturating_add(1));
    }
    reached > range.end
}

fn encode(next: u64, tombstones: &[Arc<Tombstone>]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    put_varint(&mut out, next);
    put_varint(&mut out, tombstones.len() as u64);
    for own in tombstones {
        put_varint(&mut out, own.id);
        put_varint(&mut out, own.seq);
        put_signed(&mut out, own.range.start);
        put_signed(&mut out, own.range.end);
        put_varint(&mut out, own.matchers.len() as u64);
        for matcher in &own.matchers {
            put_str(&mut out, &matcher.name);
            out.push(match matcher.op {
                MatchOp::Equal => 0,
                MatchOp::NotEqual => 1,
                MatchOp::Regex => 2,
                MatchOp::NotRegex => 3,
            });
            put_str(&mut out, &matcher.value);
        }
    }
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<(u64, Vec<Arc<Tombstone>>), Malformed> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Malformed("the file is too short"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return Err(Malformed("the checksum does not hold"));
    }
    let mut reader = Reader::new(body);
    if reader.take(8)? != MAGIC || reader.byte()? != VERSION {
        return Err(Malformed("written by another version"));
    }
    let next = reader.varint()?;
    let mut tombstones = Vec::new();
    for _ in 0..reader.count(body.len())? {
        tombstones.push(Arc::new(take_tombstone(&mut reader)?));
    }
    // Numbers rise by one with each deletion, so one near the end of the range was never given.
    if next > u64::MAX / 2 || tombstones.iter().any(|own| own.id >= next) || !reader.is_empty() {
        return Err(Malformed("deletions are not numbered in order"));
    }
    Ok((next, tombstones))
}

fn take_tombstone(reader: &mut Reader<'_>) -> Result<Tombstone, Malformed> {
    let (id, seq) = (reader.varint()?, reader.varint()?);
    let range = RangeMs { start: reader.signed()?, end: reader.signed()? };
    let mut matchers = Vec::new();
    for _ in 0..reader.count(reader.rest().len())? {
        let name = reader.str()?.to_owned();
        let op = match reader.byte()? {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(Malformed("unknown matcher")),
        };
        matchers.push(Matcher::new(name, op, reader.str()?).map_err(|_| Malformed("not a regular expression"))?);
    }
    Ok(Tombstone { id, seq, range, matchers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::RealDisk;
    use proptest::prelude::*;

    fn keep(dir: &Path) -> Keep {
        Keep::open(Arc::new(RealDisk), dir, &Cell::default()).unwrap()
    }

    fn matcher(op: MatchOp, value: &str) -> Matcher {
        Matcher::new("job", op, value).unwrap()
    }

    #[test]
    fn tombstones_come_back_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let own = keep(dir.path());
        let matchers = [matcher(MatchOp::Regex, "a.*"), matcher(MatchOp::NotEqual, "ab")];
        own.delete(&matchers, RangeMs { start: -5, end: i64::MAX }, 7).unwrap();
        own.delete(&[], RangeMs::ALL, 9).unwrap();
        own.forget(|tombstone| tombstone.seq < 9).unwrap();
        let again = keep(dir.path());
        assert_eq!(*again.tombstones(), *own.tombstones());
        assert_eq!(again.tombstones()[0].matchers, matchers);
        assert_eq!(again.newest(), 2);
        again.past(40);
        again.delete(&[], RangeMs::ALL, 9).unwrap();
        assert_eq!(again.newest(), 41);
    }

    #[test]
    fn a_damaged_list_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path()).delete(&[], RangeMs::ALL, 1).unwrap();
        let mut bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        bytes[9] ^= 1;
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        assert!(keep(dir.path()).tombstones().is_empty());
        assert!(dir.path().join("tombstones.damaged").exists());
    }

    #[test]
    fn the_first_rule_that_fits_counts_and_others_have_the_general_one() {
        let dir = tempfile::tempdir().unwrap();
        let own = keep(dir.path());
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let rule = |op, value, keep| Rule { matchers: vec![matcher(op, value)], keep };
        let rules = vec![
            rule(MatchOp::Equal, "gold", None),
            rule(MatchOp::Regex, "g.*", seconds(1)),
            rule(MatchOp::Equal, "debug", seconds(2)),
        ];
        let retention = Retention { rules, others: seconds(10) };
        assert_eq!(retention.longest(), None);
        assert_eq!(Retention { rules: Vec::new(), ..retention.clone() }.longest(), seconds(10));
        assert!(own.sieves(0).of(None).is_open());
        own.set_retention(retention);
        assert_eq!(own.sieves(100_000).periods_over(98_500).1, [false, true, false, false]);
        let sieve = own.sieves(100_000).of(None);
        let start = |job: &str| {
            let labels = Labels::from_pairs([("job", job)]).unwrap();
            sieve.left_out(&labels).first().map(|range| range.end + 1)
        };
        assert_eq!(
            [start("gold"), start("grey"), start("debug"), start("x")],
            [None, Some(99_000), Some(98_000), Some(90_000)]
        );
    }

    #[test]
    fn ranges_cover_what_they_cover_together() {
        let range = |start, end| RangeMs { start, end };
        assert!(cover(&[range(5, 9), range(0, 4)], range(0, 9)));
        assert!(!cover(&[range(6, 9), range(0, 4)], range(0, 9)));
        assert!(!cover(&[], range(0, 0)) && cover(&[RangeMs::ALL], RangeMs::ALL));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let mut whole = [&MAGIC[..], &[VERSION], &bytes].concat();
            whole.extend_from_slice(&crc32c::crc32c(&whole).to_le_bytes());
            let _ = decode(&whole);
        }
    }
}
