//! The write-ahead log of one signal: segments of records, each with a crc32c.
//! Flow: [`Wal::append`] writes a record at the end of the newest segment with one system call;
//! [`Wal::sync`], called by the lane's thread, makes it survive a power cut; [`Wal::rotate`] starts
//! a new segment so that the old ones can be removed once their records lie in parts.
//! Invariants: a record is whole or absent; after a failed write the next record begins a new segment;
//! a torn tail or a damaged record costs that record alone, since each begins with a marker. A sync that
//! has failed is never tried again on the same segment: the system may have dropped the pages and call
//! the next sync a success. The segment is sealed and *doubted*: nothing is appended until what it holds
//! lies in parts, and its owner, who has it in memory, writes it there at once.
//! Each such failure is logged and counted here, whoever asked for the sync: what was acknowledged may be
//! lost if the process dies before it is written.
//! Locks: `syncing`, then `writer`, then what the `turn` of an append takes.
//! Bytes: docs/format/wal.md.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::codec::Reader;
use super::error::{StoreError, io_error};
use crate::base::counters::{Cell, Counters};
use crate::base::disk::{AppendFile, Disk};
use crate::model::batch::Signal;

/// The folder of segments whose rows could not be written as parts.
pub const ASIDE: &str = "aside";
const FILE_MAGIC: [u8; 8] = *b"TRILWAL\x01";

/// Bytes of a segment that holds nothing.
pub const EMPTY_BYTES: u64 = FILE_MAGIC.len() as u64;
const MARKER: [u8; 4] = *b"\xF7TLW";
const HEAD_BYTES: usize = 12;
/// What the store is doing while a segment is doubted, as in "the store is ...; retry".
const WRITING_ANEW: &str = "writing anew what the disk failed to sync";
/// Largest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// When an append is on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fsync {
    /// Within a second; the lane's thread syncs.
    #[default]
    Interval,
    /// Before the append returns.
    Always,
}

/// How a log behaves.
#[derive(Clone, Copy, Debug)]
pub struct WalOptions {
    /// A segment that has reached this size is followed by a new one.
    pub segment_bytes_max: u64,
    /// When an append is on the medium.
    pub fsync: Fsync,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, fsync: Fsync::Interval }
    }
}

/// One segment found at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number; later ones are larger.
    pub seq: u64,
    /// Its size.
    pub bytes: u64,
}

/// What replay met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records read.
    pub records: u64,
    /// Bytes of all segments read.
    pub bytes: u64,
    /// Bytes that were no readable record: a torn tail, or damage.
    pub bytes_lost: u64,
}

struct Writer {
    /// None while it could not be made.
    file: Option<Arc<dyn AppendFile>>,
    seq: u64,
    /// Bytes of whole records in the file.
    good: u64,
    /// A write failed: what `encode` noted as written is not, so the segment takes no more records.
    closed: bool,
    buffer: Vec<u8>,
}

/// A write-ahead log, open for appending.
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WalOptions,
    writer: Mutex<Writer>,
    syncing: Mutex<()>,
    /// Bytes appended and bytes synced since the log was opened, over all segments.
    appended: AtomicU64,
    synced: AtomicU64,
    /// The newest segment that a sync has failed on; 0 when none has, or all they held lies in parts.
    doubted: AtomicU64,
    /// Segments up to this one are to go and may still be there; 0 when none.
    leftover: AtomicU64,
    sync_failures: Cell,
}

/// The counter of syncs of a signal's log that failed.
pub fn sync_failures(counters: &Counters, signal: Signal) -> Cell {
    let help = "Syncs of the write-ahead log that failed; what they were for is written to parts at once.";
    counters.counter("trilith_wal_sync_failures_total", help, &[("signal", signal.name())])
}

fn segment_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:016x}.wal"))
}

/// The segments in `dir`, oldest first.
///
/// # Errors
/// [`StoreError::Io`].
pub fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<Segment>, StoreError> {
    let entries = disk.list(dir).map_err(io_error("list", dir))?;
    Ok(entries
        .into_iter()
        .filter_map(|entry| {
            let seq = u64::from_str_radix(entry.name.strip_suffix(".wal")?, 16).ok()?;
            Some(Segment { seq, bytes: entry.bytes })
        })
        .collect())
}

/// The segments that were [set aside](Wal::set_aside_upto), oldest first.
///
/// # Errors
/// [`StoreError::Io`].
pub fn segments_aside(disk: &dyn Disk, dir: &Path) -> Result<Vec<Segment>, StoreError> {
    let aside = dir.join(ASIDE);
    match disk.exists(&aside) {
        Ok(true) => segments(disk, &aside),
        Ok(false) => Ok(Vec::new()),
        Err(error) => Err(io_error("look at", &aside)(error)),
    }
}

/// The bytes of a segment.
///
/// # Errors
/// [`StoreError::Io`].
pub fn read(disk: &dyn Disk, dir: &Path, segment: &Segment) -> Result<Vec<u8>, StoreError> {
    let path = segment_path(dir, segment.seq);
    disk.read(&path).map_err(io_error("read", &path))
}

/// Waits until a segment that was found at start is on the medium.
///
/// # Errors
/// [`StoreError::Io`].
pub fn sync_segment(disk: &dyn Disk, dir: &Path, segment: &Segment) -> Result<(), StoreError> {
    let path = segment_path(dir, segment.seq);
    disk.append(&path).and_then(|file| file.sync()).map_err(io_error("sync", &path))
}

/// Hands every readable record in the bytes of a segment to `visit`, in the order written.
pub fn replay(bytes: &[u8], mut visit: impl FnMut(&[u8])) -> Replayed {
    let mut report = Replayed { bytes: bytes.len() as u64, ..Replayed::default() };
    let mut rest = bytes.strip_prefix(&FILE_MAGIC).unwrap_or(bytes);
    while !rest.is_empty() {
        if let Some(payload) = record(rest) {
            visit(payload);
            report.records += 1;
            rest = rest.get(HEAD_BYTES + payload.len()..).unwrap_or_default();
        } else {
            let next = rest.get(1..).and_then(|later| memchr::memmem::find(later, &MARKER));
            let skip = next.map_or(rest.len(), |at| at + 1);
            report.bytes_lost += skip as u64;
            rest = rest.get(skip..).unwrap_or_default();
        }
    }
    report
}

/// The payload of the record that `bytes` begin with, if it is whole.
fn record(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    if reader.take(4).ok()? != MARKER {
        return None;
    }
    let (len, crc) = (reader.u32().ok()?, reader.u32().ok()?);
    let payload = reader.take(len as usize).ok()?;
    let found = crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), payload);
    (found == crc).then_some(payload)
}

impl Wal {
    /// Starts segment `seq` in `dir`; it must be newer than any there and than any part. When that
    /// fails, on a full disk for one, the next append tries again. `sync_failures` counts them.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: WalOptions, seq: u64, sync_failures: Cell) -> Self {
        let writer = start_segment(&*disk, dir, seq, Vec::new()).unwrap_or_else(|error| {
            tracing::error!(%error, "the log takes nothing until its segment can be made");
            Writer { file: None, seq, good: 0, closed: true, buffer: Vec::new() }
        });
        Self {
            disk,
            dir: dir.to_owned(),
            options,
            writer: Mutex::new(writer),
            syncing: Mutex::new(()),
            appended: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            leftover: AtomicU64::new(0),
            sync_failures,
        }
    }

    /// Appends the record that `encode` writes. `encode` is called under the log's lock with the
    /// number of the segment the record goes to, so what it learns and what it writes are in one
    /// order; it may be called with nothing to write, then no record is made. Once the record is in the
    /// log `turn` is called, still under the lock: who takes a lock in it has that in the order of the log.
    /// Returns what the two returned, and a position for [`sync_through`](Self::sync_through).
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`], [`StoreError::NotReady`] while a segment is doubted:
    /// the record is not in the log.
    pub fn append<R, T>(
        &self,
        encode: impl FnOnce(&mut Vec<u8>, u64) -> R,
        turn: impl FnOnce() -> T,
    ) -> Result<(R, T, u64), StoreError> {
        let mut writer = self.writer.lock();
        self.check()?;
        if writer.closed || writer.good >= self.options.segment_bytes_max {
            self.start_next(&mut writer)?;
        }
        let mut buffer = std::mem::take(&mut writer.buffer);
        buffer.clear();
        buffer.extend_from_slice(&[0; HEAD_BYTES]);
        let answer = encode(&mut buffer, writer.seq);
        let len = buffer.len() - HEAD_BYTES;
        let result = if len == 0 { Ok(()) } else { self.write(&mut writer, &mut buffer, len) };
        buffer.shrink_to(4 << 20);
        writer.buffer = buffer;
        result?;
        Ok((answer, turn(), self.appended.load(Ordering::Acquire)))
    }

    fn write(&self, writer: &mut Writer, buffer: &mut [u8], len: usize) -> Result<(), StoreError> {
        let path = segment_path(&self.dir, writer.seq);
        let Some(size) = u32::try_from(len).ok().filter(|_| len <= RECORD_BYTES_MAX) else {
            writer.closed = true;
            return Err(StoreError::Damaged { path, what: format!("a record of {len} bytes is too large") });
        };
        let payload = buffer.get(HEAD_BYTES..).unwrap_or_default();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&size.to_le_bytes()), payload);
        let parts = MARKER.iter().chain(&size.to_le_bytes()).chain(&crc.to_le_bytes()).copied().collect::<Vec<_>>();
        buffer.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        let Some(file) = writer.file.clone() else { return Err(StoreError::NotReady("without a log")) };
        if let Err(error) = file.write_all(buffer) {
            writer.closed = true;
            // Gives the room back; where that fails too, replay skips the torn tail.
            if let Err(error) = file.truncate(writer.good) {
                tracing::warn!(%error, ?path, "cannot cut off a record that was written in part");
            }
            return Err(io_error("append to", &path)(error));
        }
        writer.good += buffer.len() as u64;
        self.appended.fetch_add(buffer.len() as u64, Ordering::Release);
        Ok(())
    }

    fn start_next(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if let Some(file) = &writer.file
            && self.doubted.load(Ordering::Acquire) < writer.seq
            && let Err(error) = file.sync()
        {
            self.doubt(writer.seq, error);
        }
        // Also when the last one could not be made: what is sealed now has a number of its own.
        let next = start_segment(&*self.disk, &self.dir, writer.seq + 1, std::mem::take(&mut writer.buffer))?;
        *writer = next;
        self.synced.fetch_max(self.appended.load(Ordering::Acquire), Ordering::Release);
        Ok(())
    }

    /// Seals the newest segment and starts the next; returns the number of the sealed one.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`]: nothing has changed.
    pub fn rotate(&self) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock();
        let sealed = writer.seq;
        self.start_next(&mut writer)?;
        Ok(sealed)
    }

    /// Says that nothing in the segments up to and with `seq` is needed any more: it lies in parts.
    pub fn trust_upto(&self, seq: u64) {
        // Whoever has doubted a later one meanwhile is right.
        let _ = self.doubted.fetch_update(Ordering::AcqRel, Ordering::Acquire, |doubted| (doubted <= seq).then_some(0));
    }

    /// The number of the newest segment, which takes records.
    pub fn newest(&self) -> u64 {
        self.writer.lock().seq
    }

    /// Whether a sync has failed on what does not lie in parts yet.
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Acquire) > 0
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_doubted() { Err(StoreError::NotReady(WRITING_ANEW)) } else { Ok(()) }
    }

    /// A sync of a segment up to `seq` has failed, maybe before the log was opened.
    pub fn doubt_upto(&self, seq: u64) {
        self.doubted.fetch_max(seq, Ordering::AcqRel);
    }

    fn doubt(&self, seq: u64, error: io::Error) -> StoreError {
        self.doubt_upto(seq);
        self.sync_failures.inc();
        let path = segment_path(&self.dir, seq);
        tracing::error!(%error, ?path, "a sync of the log failed; what it holds is written to parts at once");
        io_error("sync", &path)(error)
    }

    /// Removes segments up to and with `seq`, whose records lie in parts; the newest first, so that
    /// while the last segment of a flush is there all of its log is.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove_upto(&self, seq: u64) -> Result<(), StoreError> {
        self.trust_upto(seq);
        // What was removed before may not be for good.
        let mut removed = self.leftover.fetch_max(seq, Ordering::AcqRel) > 0;
        let newest = self.newest();
        for segment in segments(&*self.disk, &self.dir)?.into_iter().rev() {
            if segment.seq <= seq && segment.seq < newest {
                let path = segment_path(&self.dir, segment.seq);
                self.disk.remove(&path).map_err(io_error("remove", &path))?;
                removed = true;
            }
        }
        // A log that came back after a power cut would bring back what was deleted from its parts.
        if removed {
            self.disk.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))?;
        }
        // Nothing else removes segments meanwhile.
        let _ = self.leftover.fetch_update(Ordering::AcqRel, Ordering::Acquire, |own| (own <= seq).then_some(0));
        Ok(())
    }

    /// Removes what [`remove_upto`](Self::remove_upto) could not.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove_leftover(&self) -> Result<(), StoreError> {
        match self.leftover.load(Ordering::Acquire) {
            0 => Ok(()),
            seq => self.remove_upto(seq),
        }
    }

    /// Moves the segments up to and with `seq` to a folder of their own, where no replay finds them;
    /// returns that folder.
    ///
    /// # Errors
    /// [`StoreError::Io`]: some of them may have been moved.
    pub fn set_aside_upto(&self, seq: u64) -> Result<PathBuf, StoreError> {
        let aside = self.dir.join(ASIDE);
        self.disk.create_dir_all(&aside).map_err(io_error("create", &aside))?;
        for segment in segments(&*self.disk, &self.dir)?.iter().filter(|segment| segment.seq <= seq) {
            let path = segment_path(&self.dir, segment.seq);
            self.disk.rename(&path, &segment_path(&aside, segment.seq)).map_err(io_error("rename", &path))?;
        }
        for dir in [&aside, &self.dir] {
            self.disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        }
        self.trust_upto(seq);
        Ok(aside)
    }

    /// Waits until everything appended so far is on the medium.
    ///
    /// # Errors
    /// As [`sync_through`](Self::sync_through).
    pub fn sync(&self) -> Result<(), StoreError> {
        self.sync_through(self.appended.load(Ordering::Acquire))
    }

    /// Waits until what an append returned as its position is on the medium. Callers that come
    /// while another syncs share the next sync.
    ///
    /// # Errors
    /// [`StoreError::Io`]: from then on the segment is doubted; [`StoreError::NotReady`] while one is.
    pub fn sync_through(&self, position: u64) -> Result<(), StoreError> {
        self.check()?;
        if self.synced.load(Ordering::Acquire) >= position {
            return Ok(());
        }
        let _one_at_a_time = self.syncing.lock();
        self.check()?;
        if self.synced.load(Ordering::Acquire) >= position {
            return Ok(());
        }
        let (file, seq, upto) = {
            let writer = self.writer.lock();
            (writer.file.clone(), writer.seq, self.appended.load(Ordering::Acquire))
        };
        if let Some(file) = file {
            file.sync().map_err(|error| self.doubt(seq, error))?;
        }
        self.synced.fetch_max(upto, Ordering::Release);
        Ok(())
    }

    /// Whether an append must be synced before it is acknowledged.
    pub fn syncs_always(&self) -> bool {
        self.options.fsync == Fsync::Always
    }

    /// Bytes appended since the log was opened.
    pub fn appended(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }
}

fn start_segment(disk: &dyn Disk, dir: &Path, seq: u64, buffer: Vec<u8>) -> Result<Writer, StoreError> {
    let path = segment_path(dir, seq);
    let file = disk.append(&path).map_err(io_error("create", &path))?;
    let started = file.truncate(0).and_then(|()| file.write_all(&FILE_MAGIC)).and_then(|()| disk.sync_dir(dir));
    started.map_err(io_error("start", &path))?;
    Ok(Writer { file: Some(file), seq, good: FILE_MAGIC.len() as u64, closed: false, buffer })
}

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;
