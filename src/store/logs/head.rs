//! Lines in memory: per stream an open buffer, and sealed chunks that are sorted and compressed.
//! Flow: `push` appends to the open buffer; at [`OPEN_BYTES_MAX`] it is sealed and a new one begun.
//! Invariants: an open buffer only grows, and a sealed one is replaced, never changed, so a reader
//! that holds it with a number of rows reads the same rows at any later time. A sealed chunk is in
//! time order and holds a row once; chunks may overlap in time, the earlier one came first.
//! Locks: a shard, then a stream's data, then an open buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;

use super::rows::{Rows, merge, put_metadata, put_times, read_metadata, read_times};
use crate::model::labels::Labels;
use crate::store::codec::{Malformed, Reader};

/// An open buffer of this size is sealed.
const OPEN_BYTES_MAX: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };
const SHARDS: usize = 16;
/// zstd's level for sealed chunks; they are compressed again, and better, when they go to a part.
const LEVEL: i32 = -1;
/// What a stream takes besides its lines, roughly.
const STREAM_BYTES: usize = 400;

/// Rows of one stream, compressed.
pub(super) struct Sealed {
    /// First and last time, both inclusive.
    pub(super) span: (i64, i64),
    /// Rows.
    pub(super) rows: usize,
    /// Bytes of lines.
    pub(super) text_bytes: usize,
    times: Packed,
    text: Packed,
    metadata: Option<Packed>,
}

/// Bytes, compressed unless that makes them longer, with their length before.
struct Packed {
    bytes: Box<[u8]>,
    raw: usize,
}

impl Packed {
    fn new(raw: &[u8]) -> Self {
        let packed = zstd::bulk::compress(raw, LEVEL).ok().filter(|packed| packed.len() < raw.len());
        let bytes = packed.unwrap_or_else(|| raw.to_vec()).into_boxed_slice();
        Self { bytes, raw: raw.len() }
    }

    fn open(&self) -> Result<Vec<u8>, Malformed> {
        if self.bytes.len() == self.raw {
            return Ok(self.bytes.to_vec());
        }
        zstd::bulk::decompress(&self.bytes, self.raw).map_err(|_| Malformed("a chunk in memory does not decompress"))
    }
}

impl Sealed {
    /// Seals rows that are in order and not empty.
    fn new(rows: &Rows, span: (i64, i64)) -> Self {
        let mut times = Vec::new();
        put_times(&mut times, &rows.times, &rows.line_bytes);
        let metadata = (!rows.metadata.is_empty()).then(|| {
            let mut bytes = Vec::new();
            put_metadata(&mut bytes, &rows.metadata);
            Packed::new(&bytes)
        });
        Self {
            span,
            rows: rows.len(),
            text_bytes: rows.text.len(),
            times: Packed::new(&times),
            text: Packed::new(rows.text.as_bytes()),
            metadata,
        }
    }

    /// The rows, with the columns asked for.
    ///
    /// # Errors
    /// [`Malformed`] when memory is damaged.
    pub(super) fn read(&self, text: bool, metadata: bool) -> Result<Rows, Malformed> {
        let (times, line_bytes) = read_times(&mut Reader::new(&self.times.open()?))?;
        let mut rows = Rows { times, line_bytes, ..Rows::default() };
        if text {
            rows.text = String::from_utf8(self.text.open()?).map_err(|_| Malformed("text is not UTF-8"))?;
        }
        if metadata && let Some(packed) = &self.metadata {
            rows.metadata = read_metadata(&mut Reader::new(&packed.open()?), rows.len())?;
        }
        Ok(rows)
    }

    fn memory(&self) -> usize {
        let metadata = self.metadata.as_ref().map_or(0, |packed| packed.bytes.len());
        self.times.bytes.len() + self.text.bytes.len() + metadata + 160
    }
}

/// Rows as they came.
#[derive(Default)]
pub(super) struct Open {
    rows: Rows,
    span: Option<(i64, i64)>,
    bytes: usize,
}

/// The part of an open buffer that was there at some moment.
#[derive(Clone)]
pub(super) struct OpenView {
    open: Arc<Mutex<Open>>,
    /// Rows.
    pub(super) rows: usize,
    /// Bytes of lines.
    pub(super) text_bytes: usize,
    /// First and last time, both inclusive.
    pub(super) span: (i64, i64),
}

impl OpenView {
    /// The rows, in order, each once.
    pub(super) fn read(&self) -> Rows {
        let rows = self.open.lock().rows.head(self.rows);
        merge(vec![rows])
    }
}

#[derive(Default)]
struct Data {
    sealed: Vec<Arc<Sealed>>,
    open: Arc<Mutex<Open>>,
}

/// One stream in memory.
pub(super) struct HeadStream {
    /// Who it is.
    pub(super) labels: Labels,
    data: Mutex<Data>,
}

impl HeadStream {
    /// Its chunks, oldest first, and the open buffer unless that is empty.
    pub(super) fn chunks(&self) -> (Vec<Arc<Sealed>>, Option<OpenView>) {
        let data = self.data.lock();
        let view = {
            let open = data.open.lock();
            let (rows, text_bytes) = (open.rows.len(), open.rows.text.len());
            open.span.map(|span| OpenView { open: data.open.clone(), rows, text_bytes, span })
        };
        (data.sealed.clone(), view)
    }

    /// Adds rows; returns by how much the memory taken grew, which may be less than nothing.
    fn push(&self, rows: &Rows) -> isize {
        let Some((min, max)) = rows.span() else { return 0 };
        let mut data = self.data.lock();
        let added = rows.bytes();
        let mut grown = added as isize;
        let full = {
            let mut open = data.open.lock();
            open.rows.extend(rows);
            open.span = Some(open.span.map_or((min, max), |span| (span.0.min(min), span.1.max(max))));
            open.bytes += added;
            (open.bytes >= OPEN_BYTES_MAX).then_some(open.bytes)
        };
        if let Some(bytes) = full {
            let open = std::mem::take(&mut data.open);
            let open = open.lock();
            let rows = merge(vec![open.rows.clone()]);
            let sealed = Sealed::new(&rows, open.span.unwrap_or_default());
            grown += sealed.memory() as isize - bytes as isize;
            data.sealed.push(Arc::new(sealed));
        }
        grown
    }
}

/// All streams in memory.
pub(super) struct Head {
    shards: Vec<Mutex<AHashMap<Labels, Arc<HeadStream>>>>,
    hasher: RandomState,
    streams: AtomicUsize,
    bytes: AtomicUsize,
}

impl Default for Head {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), streams: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }
}

impl Head {
    fn shard(&self, labels: &Labels) -> Option<&Mutex<AHashMap<Labels, Arc<HeadStream>>>> {
        self.shards.get(self.hasher.hash_one(labels) as usize % SHARDS)
    }

    /// Whether it has the stream.
    pub(super) fn knows(&self, labels: &Labels) -> bool {
        self.shard(labels).is_some_and(|shard| shard.lock().contains_key(labels))
    }

    /// Adds rows to a stream, which may be new.
    pub(super) fn push(&self, labels: &Labels, rows: &Rows) {
        let Some(shard) = self.shard(labels) else { return };
        let stream = {
            let mut shard = shard.lock();
            match shard.get(labels) {
                Some(stream) => stream.clone(),
                None => {
                    let stream = Arc::new(HeadStream { labels: labels.clone(), data: Mutex::default() });
                    shard.insert(labels.clone(), stream.clone());
                    self.streams.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(STREAM_BYTES + labels.bytes(), Ordering::Relaxed);
                    stream
                }
            }
        };
        let grown = stream.push(rows);
        if grown >= 0 {
            self.bytes.fetch_add(grown.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(grown.unsigned_abs(), Ordering::Relaxed);
        }
    }

    /// How many streams there are.
    pub(super) fn len(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether there is no stream.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory it takes, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// All streams, in no order.
    pub(super) fn streams(&self) -> Vec<Arc<HeadStream>> {
        self.shards.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(range: std::ops::Range<i64>) -> Rows {
        let mut rows = Rows::default();
        range.for_each(|t| rows.push(t, &format!("line number {t}"), &Labels::default().with("n", &t.to_string())));
        rows
    }

    #[test]
    fn a_reader_sees_its_rows_also_when_the_buffer_is_sealed_meanwhile() {
        let head = Head::default();
        let labels = Labels::default().with("a", "b");
        head.push(&labels, &rows(0..10));
        let (_, open) = head.streams()[0].chunks();
        head.push(&labels, &rows(10..100_000));
        let (sealed, none) = head.streams()[0].chunks();
        assert!(none.is_none());
        assert_eq!(open.unwrap().read(), rows(0..10));
        assert_eq!(sealed[0].read(true, true).unwrap(), rows(0..100_000));
        assert_eq!(sealed[0].span, (0, 99_999));
        assert!(head.bytes() < 4 << 20, "{}", head.bytes());
    }
}
