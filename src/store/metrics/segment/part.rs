//! An open part: its directory, and its frames by offset.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::base::counters::Cell;
use crate::model::time::RangeMs;
use crate::store::codec::Malformed;
use crate::store::error::StoreError;
use crate::store::metrics::cache::FrameCache;
use crate::store::metrics::layout::{
    DataFrame, DataRef, Directory, FRAME_DATA, FRAME_DIRECTORY, FRAME_SERIES, FRAME_TIMES, GroupRef, SeriesFrame,
    SeriesRef, TimesFrame, TimesRef,
};
use crate::store::part::{FrameRef, PartReader};

/// How much larger times are when they are decoded, for an estimate.
const TIMES_DECODED: u64 = 16;

/// Numbers of parts in this process.
static PARTS: AtomicU64 = AtomicU64::new(0);

/// Why a frame is not read to its end: it is damaged, or the query has to end.
pub enum Halt {
    /// The frame is damaged.
    Malformed(Malformed),
    /// The query ends.
    Store(StoreError),
}

impl From<Malformed> for Halt {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A part of metrics.
pub struct Part {
    pub(super) reader: PartReader,
    number: u64,
    cache: Arc<FrameCache>,
    pub(super) directory: Directory,
    /// Directory or postings turned out to be damaged.
    index_lost: AtomicBool,
    /// Frames known to be damaged, by offset.
    lost: Mutex<BTreeSet<u64>>,
    damaged: Cell,
    scan_bytes: u64,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.cache.forget(self.number);
    }
}

impl Part {
    /// Opens a part; the directory is rebuilt when it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(reader: PartReader, cache: Arc<FrameCache>, damaged: Cell) -> Result<Self, StoreError> {
        let mut part = Self {
            reader,
            number: PARTS.fetch_add(1, Ordering::Relaxed),
            cache,
            directory: Directory::default(),
            index_lost: AtomicBool::new(false),
            lost: Mutex::default(),
            damaged,
            scan_bytes: 0,
        };
        let frame = part.reader.frames().iter().rev().find(|frame| frame.kind == FRAME_DIRECTORY).copied();
        let directory = frame.ok_or_else(|| part.reader.damaged("its directory is missing")).and_then(|frame| {
            let bytes = part.reader.read(frame)?;
            Directory::decode(&bytes).map_err(|Malformed(what)| part.reader.damaged(what))
        });
        part.directory = match directory {
            Err(error) if error.is_damage() => {
                part.lose_index(&error);
                part.rebuilt_directory()?
            }
            directory => directory?,
        };
        let groups: u64 = part.directory.groups.iter().map(|group| part.group_bytes(group)).sum();
        part.scan_bytes = groups + part.pairs_bytes();
        Ok(part)
    }

    /// Bytes of memory that merging it takes, by estimate: of each group a frame of blocks and one of times,
    /// decoded, one of label pairs, and the new number of each series.
    pub fn scan_bytes(&self) -> u64 {
        self.scan_bytes
    }

    fn pairs_bytes(&self) -> u64 {
        let raw = |offset: u64| self.find(offset).map_or(0, |frame| u64::from(frame.raw));
        let pairs = self.directory.postings.iter().map(|own| raw(own.offset)).max().unwrap_or_default();
        pairs + 4 * u64::from(self.directory.count)
    }

    fn group_bytes(&self, group: &GroupRef) -> u64 {
        let raw = |offset: u64| self.find(offset).map_or(0, |frame| u64::from(frame.raw));
        let data = group.data.iter().map(|own| raw(own.offset)).max().unwrap_or_default();
        let times = group.times.iter().map(|own| raw(own.offset)).max().unwrap_or_default();
        data + data / 2 + times * TIMES_DECODED
    }

    /// The time from which on it would hold about `bytes` less.
    pub fn cut_time(&self, bytes: u64) -> Option<i64> {
        let stored = |offset: u64| self.find(offset).map_or(0, |frame| u64::from(frame.stored));
        let frames: u64 = self.reader.frames().iter().map(|frame| u64::from(frame.stored)).sum();
        let of_group = |group: &GroupRef| -> u64 {
            let times = group.times.iter().map(|own| stored(own.offset));
            times.chain(group.data.iter().map(|own| stored(own.offset))).sum()
        };
        let in_groups: u64 = self.directory.groups.iter().map(of_group).sum();
        // Label sets and postings become smaller with the samples, more or less.
        let mut left = u128::from(bytes) * u128::from(in_groups) / u128::from(frames.max(1));
        for group in &self.directory.groups {
            let own = u128::from(of_group(group));
            if own > left {
                let (first, last) = group.span;
                let share = u128::from(last.abs_diff(first)) * left / own;
                return Some(first.saturating_add(i64::try_from(share).unwrap_or(i64::MAX)).saturating_add(1));
            }
            left -= own;
        }
        None
    }

    /// Its container.
    pub fn reader(&self) -> &PartReader {
        &self.reader
    }

    /// What lies where.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether it may have something in `range`.
    pub fn overlaps(&self, range: RangeMs) -> bool {
        range.overlaps(self.reader.info().min_t, self.reader.info().max_t)
    }

    /// What the frames say themselves; spans of time are those of the whole part.
    fn rebuilt_directory(&self) -> Result<Directory, StoreError> {
        let span = (self.reader.info().min_t, self.reader.info().max_t);
        let (mut directory, mut groups) = (Directory::default(), BTreeMap::<i64, GroupRef>::new());
        for frame in self.reader.frames() {
            let offset = frame.offset;
            let new = |number| GroupRef { number, span, ..GroupRef::default() };
            match frame.kind {
                FRAME_SERIES => {
                    let Some(series) = self.series_frame(offset)? else { continue };
                    let mut count = series.first;
                    let counted = series.walk(
                        |_| {
                            count = count.saturating_add(1);
                            false
                        },
                        |_, _| Ok::<_, Malformed>(true),
                    );
                    if counted.is_ok() {
                        directory.count = count;
                        directory.series.push(SeriesRef { offset, first: series.first });
                    }
                }
                FRAME_TIMES => {
                    let Some(times) = self.times_frame(offset)? else { continue };
                    groups
                        .entry(times.group)
                        .or_insert_with(|| new(times.group))
                        .times
                        .push(TimesRef { offset, first: times.first });
                }
                FRAME_DATA => {
                    let Some(data) = self.data_frame(offset)? else { continue };
                    let (Some(first), Some(last)) = (data.blocks().first(), data.blocks().last()) else { continue };
                    let own = DataRef { offset, series: (first.series, last.series), span };
                    groups.entry(data.group).or_insert_with(|| new(data.group)).data.push(own);
                }
                _ => {}
            }
        }
        directory.groups = groups.into_values().collect();
        Ok(directory)
    }

    /// Whether directory and postings are whole, as far as is known.
    pub fn has_index(&self) -> bool {
        !self.index_lost.load(Ordering::Relaxed)
    }

    pub(in crate::store::metrics) fn lose_index(&self, error: &StoreError) {
        if !self.index_lost.swap(true, Ordering::Relaxed) {
            self.damaged.inc();
            tracing::error!(%error, path = ?self.reader.path(), "the index of a part is damaged; its data is searched instead");
        }
    }

    /// Whether damage has been met in it.
    pub fn is_damaged(&self) -> bool {
        self.reader.salvaged().is_some() || self.index_lost.load(Ordering::Relaxed) || !self.lost.lock().is_empty()
    }

    /// Notes that a frame is damaged.
    pub fn lose_frame(&self, offset: u64, what: &str) {
        if self.lost.lock().insert(offset) {
            self.damaged.inc();
            tracing::error!(path = ?self.reader.path(), offset, what, "a frame of a part is damaged and left out");
        }
    }

    fn find(&self, offset: u64) -> Option<FrameRef> {
        let frames = self.reader.frames();
        frames.binary_search_by_key(&offset, |frame| frame.offset).ok().and_then(|at| frames.get(at)).copied()
    }

    /// A frame from the cache or the file.
    fn frame<T: Any + Send + Sync>(
        &self,
        offset: u64,
        parse: impl FnOnce(Vec<u8>) -> Result<(T, usize), Malformed>,
    ) -> Result<Arc<T>, StoreError> {
        if let Some(frame) = self.cache.get::<T>((self.number, offset)) {
            return Ok(frame);
        }
        let found = self.find(offset).ok_or_else(|| self.reader.damaged("a frame is missing"))?;
        let payload = self.reader.read(found)?;
        let (frame, bytes) = parse(payload).map_err(|Malformed(what)| self.reader.damaged(what))?;
        let frame = Arc::new(frame);
        self.cache.put((self.number, offset), frame.clone(), bytes);
        Ok(frame)
    }

    /// A frame, or none when it is damaged.
    fn frame_if_whole<T: Any + Send + Sync>(
        &self,
        offset: u64,
        parse: impl FnOnce(Vec<u8>) -> Result<(T, usize), Malformed>,
    ) -> Result<Option<Arc<T>>, StoreError> {
        match self.frame(offset, parse) {
            Ok(frame) => Ok(Some(frame)),
            Err(error) => self.lose(offset, error).map(|()| None),
        }
    }

    /// Notes that a frame is damaged, if that is what `error` says.
    ///
    /// # Errors
    /// Any other error.
    pub(super) fn lose(&self, offset: u64, error: StoreError) -> Result<(), StoreError> {
        if !error.is_damage() {
            return Err(error);
        }
        self.lose_frame(offset, &error.to_string());
        Ok(())
    }

    pub(super) fn series_frame(&self, offset: u64) -> Result<Option<Arc<SeriesFrame>>, StoreError> {
        self.frame_if_whole(offset, |payload| {
            let frame = SeriesFrame::parse(payload)?;
            let bytes = frame.bytes();
            Ok((frame, bytes))
        })
    }

    /// A frame of times, or none when it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn times_frame(&self, offset: u64) -> Result<Option<Arc<TimesFrame>>, StoreError> {
        self.frame_if_whole(offset, |payload| {
            let frame = TimesFrame::parse(&payload)?;
            let bytes = frame.bytes();
            Ok((frame, bytes))
        })
    }

    /// A frame of blocks, or none when it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn data_frame(&self, offset: u64) -> Result<Option<Arc<DataFrame>>, StoreError> {
        self.frame_if_whole(offset, |payload| {
            let frame = DataFrame::parse(payload)?;
            let bytes = frame.bytes();
            Ok((frame, bytes))
        })
    }

    pub(in crate::store::metrics) fn payload(&self, offset: u64) -> Result<Arc<Vec<u8>>, StoreError> {
        self.frame(offset, |payload| {
            let bytes = payload.len();
            Ok((payload, bytes))
        })
    }
}
