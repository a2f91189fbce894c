//! Blocks of the Prometheus TSDB, read day by day and sent as remote write. A block of many days is
//! gone through once for each of its days, so that what the server has in memory at a time, and the
//! parts that it writes of it, are of one day.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::http::Url;
use super::order::{RETRY_FOR, RETRY_PAUSE, TransferError, file_error, say};
use crate::base::disk::{Disk as _, ReadFile, RealDisk};
use crate::model::batch::SeriesBatch;
use crate::model::labels::Labels;
use crate::wire::decompress::compress_snappy;
use crate::wire::error::WireError;
use crate::wire::prometheus_out::put_series;
use crate::wire::tsdb::chunk::{self, Point};
use crate::wire::tsdb::index::{self, ChunkRef, Symbols, Toc};
use crate::wire::tsdb::meta::{self, Meta, Tombstones};

const DAY_MS: i64 = 86_400_000;
/// Bytes of the index that are read at once.
const WINDOW_BYTES: usize = 1 << 20;
/// Bytes that are read of a chunk before its length is known.
const CHUNK_BYTES: usize = 4 << 10;
/// A request of this many bytes before compression, or samples, is sent.
const REQUEST_BYTES: usize = 1 << 20;
const REQUEST_SAMPLES: u64 = 50_000;
/// So many floats or histograms of a series, or those of one chunk more, go into a request at once.
const SERIES_SAMPLES: usize = 20_000;
const SERIES_HISTOGRAMS: usize = 100;

/// Sends all blocks below `path`; true when every sample was taken.
pub(super) fn import(path: &Path, url: &Url) -> Result<bool, TransferError> {
    let mut blocks = Vec::new();
    for folder in folders(path)? {
        blocks.push(Block::open(&folder)?);
    }
    blocks.sort_by_key(|block| block.meta.min_t);
    if blocks.is_empty() {
        return Err(TransferError::NoBlocks(path.to_owned()));
    }
    let samples: u64 = blocks.iter().map(|block| block.meta.stats.samples).sum();
    say(&format!("{} blocks with {samples} samples", blocks.len()));
    let mut sender = Sender::new(url, samples);
    for (at, block) in blocks.iter().enumerate() {
        sender.what = format!("block {} of {}, {}", at + 1, blocks.len(), block.meta.ulid);
        for day in block.days() {
            block.read(day, &mut sender)?;
        }
    }
    sender.finish()
}

/// The folders of blocks: `path` itself, or those in it.
fn folders(path: &Path) -> Result<Vec<PathBuf>, TransferError> {
    if path.join("meta.json").is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = RealDisk.list(path).map_err(file_error("list", path))?;
    let inside = entries.into_iter().filter(|entry| entry.is_dir).map(|entry| path.join(entry.name));
    Ok(inside.filter(|folder| folder.join("meta.json").is_file()).collect())
}

struct Block {
    meta: Meta,
    index: (PathBuf, Arc<dyn ReadFile>),
    toc: Toc,
    symbols: Symbols,
    chunks: Vec<(PathBuf, Arc<dyn ReadFile>)>,
    tombstones: Tombstones,
}

fn wrong(path: &Path) -> impl FnOnce(WireError) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::Block { path, source }
}

fn open(path: &Path) -> Result<(PathBuf, Arc<dyn ReadFile>), TransferError> {
    Ok((path.to_owned(), RealDisk.open(path).map_err(file_error("open", path))?))
}

/// Up to `count` bytes at a place; fewer where the file ends.
fn bytes_at(file: &(PathBuf, Arc<dyn ReadFile>), offset: u64, count: usize) -> Result<Vec<u8>, TransferError> {
    let read = || {
        let left = file.1.bytes()?.saturating_sub(offset);
        let mut bytes = vec![0; count.min(usize::try_from(left).unwrap_or(usize::MAX))];
        file.1.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    read().map_err(file_error("read", &file.0))
}

fn small_file(path: &Path) -> Result<Vec<u8>, TransferError> {
    let file = open(path)?;
    let too_large = WireError::TooLarge { what: "bytes of the file", limit: meta::FILE_BYTES_MAX };
    let bytes = bytes_at(&file, 0, meta::FILE_BYTES_MAX as usize + 1)?;
    if bytes.len() as u64 > meta::FILE_BYTES_MAX { Err(wrong(path)(too_large)) } else { Ok(bytes) }
}

impl Block {
    fn open(folder: &Path) -> Result<Self, TransferError> {
        let path = folder.join("meta.json");
        let meta = Meta::decode(&small_file(&path)?).map_err(wrong(&path))?;
        let path = folder.join("tombstones");
        let tombstones = match path.exists() {
            true => meta::tombstones(&small_file(&path)?).map_err(wrong(&path))?,
            false => Tombstones::new(),
        };
        let path = folder.join("index");
        let index = open(&path)?;
        index::check_head(&bytes_at(&index, 0, index::HEAD_BYTES)?).map_err(wrong(&path))?;
        let file_bytes = index.1.bytes().map_err(file_error("read", &path))?;
        let toc = bytes_at(&index, file_bytes.saturating_sub(index::TOC_BYTES as u64), index::TOC_BYTES)?;
        let toc = Toc::decode(&toc, file_bytes).map_err(wrong(&path))?;
        let symbols = Self::symbols(&index, toc.symbols)?;
        let folder = folder.join("chunks");
        let mut chunks = Vec::new();
        for entry in RealDisk.list(&folder).map_err(file_error("list", &folder))? {
            let path = folder.join(&entry.name);
            if entry.name.bytes().all(|byte| byte.is_ascii_digit()) {
                let file = open(&path)?;
                chunk::check_head(&bytes_at(&file, 0, chunk::FILE_HEAD_BYTES)?).map_err(wrong(&path))?;
                chunks.push(file);
            }
        }
        Ok(Self { meta, index, toc, symbols, chunks, tombstones })
    }

    fn symbols(index: &(PathBuf, Arc<dyn ReadFile>), offset: u64) -> Result<Symbols, TransferError> {
        let head = bytes_at(index, offset, 4)?;
        let head = head.try_into().unwrap_or([0xFF; 4]);
        let bytes = Symbols::section_bytes(head).map_err(wrong(&index.0))?;
        Symbols::decode(bytes_at(index, offset, bytes as usize)?).map_err(wrong(&index.0))
    }

    /// The days that it spans, each as first and last millisecond.
    fn days(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (min_t, end) = (self.meta.min_t, self.meta.max_t);
        let (first, last) = (min_t.div_euclid(DAY_MS), end.saturating_sub(1).div_euclid(DAY_MS));
        // A block that reaches over midnight by little is not worth a second pass.
        let step = if end.saturating_sub(min_t) <= DAY_MS { 2 } else { 1 };
        (first..=last).step_by(step).map(move |day| {
            let start = day.saturating_mul(DAY_MS);
            (start.max(min_t), start.saturating_add(step as i64 * DAY_MS).min(end) - 1)
        })
    }

    /// Sends the samples of a day, series by series.
    fn read(&self, day: (i64, i64), sender: &mut Sender<'_>) -> Result<(), TransferError> {
        let mut window = (0, Vec::new());
        let mut offset = self.toc.series.next_multiple_of(index::SERIES_ALIGN);
        while offset < self.toc.series_end {
            // The length first, then the whole, from bytes read ahead.
            let head = self.window(&mut window, offset, 10)?;
            let bytes = index::entry_bytes(head).map_err(wrong(&self.index.0))?;
            if bytes == 0 {
                break;
            }
            let entry = self.window(&mut window, offset, bytes)?;
            let series = index::series(entry, &self.symbols).map_err(wrong(&self.index.0))?;
            let deleted = self.tombstones.get(&(offset / index::SERIES_ALIGN)).map_or(&[][..], Vec::as_slice);
            let chunks = series.chunks.iter().filter(|own| own.min_t <= day.1 && day.0 <= own.max_t);
            let labels = match Labels::from_pairs(series.labels) {
                Ok(labels) => labels,
                Err(error) => return Err(wrong(&self.index.0)(WireError::malformed("TSDB block", error.to_string()))),
            };
            let mut batch = SeriesBatch { labels, ..SeriesBatch::default() };
            for own in chunks {
                self.chunk(own, day, deleted, &mut batch)?;
                if batch.samples.len() >= SERIES_SAMPLES || batch.histograms.len() >= SERIES_HISTOGRAMS {
                    sender.add(&mut batch)?;
                }
            }
            sender.add(&mut batch)?;
            offset = (offset + bytes as u64).next_multiple_of(index::SERIES_ALIGN);
        }
        Ok(())
    }

    /// Bytes of the index, read ahead.
    fn window<'w>(&self, window: &'w mut (u64, Vec<u8>), offset: u64, count: usize) -> Result<&'w [u8], TransferError> {
        let inside = offset.checked_sub(window.0).and_then(|from| usize::try_from(from).ok());
        let mut from = inside.filter(|from| from.saturating_add(count) <= window.1.len());
        if from.is_none() {
            *window = (offset, bytes_at(&self.index, offset, count.max(WINDOW_BYTES))?);
            from = Some(0);
        }
        let rest = window.1.get(from.unwrap_or_default()..).unwrap_or_default();
        Ok(rest.get(..count.min(rest.len())).unwrap_or_default())
    }

    fn chunk(
        &self,
        place: &ChunkRef,
        day: (i64, i64),
        deleted: &[(i64, i64)],
        batch: &mut SeriesBatch,
    ) -> Result<(), TransferError> {
        let Some(file) = self.chunks.get(place.file as usize) else {
            let what = format!("there is no file {} of chunks", place.file + 1);
            return Err(wrong(&self.index.0)(WireError::malformed("TSDB block", what)));
        };
        let mut frame = bytes_at(file, u64::from(place.offset), CHUNK_BYTES)?;
        let bytes = chunk::frame_bytes(&frame).map_err(wrong(&file.0))?;
        if bytes > frame.len() {
            frame = bytes_at(file, u64::from(place.offset), bytes)?;
        }
        frame.truncate(bytes);
        let wanted =
            |t: i64| day.0 <= t && t <= day.1 && !deleted.iter().any(|(first, last)| *first <= t && t <= *last);
        let read = chunk::decode(&frame, &mut |point| match point {
            Point::Float(sample) if wanted(sample.t) => batch.samples.push(sample),
            Point::Histogram(sample) if wanted(sample.t) => batch.histograms.push(sample),
            Point::Float(_) | Point::Histogram(_) => {}
        });
        read.map_err(wrong(&file.0))
    }
}

/// Gathers requests and sends them.
struct Sender<'u> {
    url: &'u Url,
    what: String,
    body: Vec<u8>,
    /// Samples in the body.
    waiting: u64,
    sent: u64,
    stored: u64,
    expected: u64,
    refused: Option<String>,
    shown: Instant,
}

impl<'u> Sender<'u> {
    fn new(url: &'u Url, expected: u64) -> Self {
        let (what, body, shown) = (String::new(), Vec::new(), Instant::now());
        Self { url, what, body, waiting: 0, sent: 0, stored: 0, expected, refused: None, shown }
    }

    /// Takes the samples out of the batch.
    fn add(&mut self, series: &mut SeriesBatch) -> Result<(), TransferError> {
        if series.samples.is_empty() && series.histograms.is_empty() {
            return Ok(());
        }
        put_series(&mut self.body, series);
        self.waiting += (series.samples.len() + series.histograms.len()) as u64;
        series.samples.clear();
        series.histograms.clear();
        if self.body.len() >= REQUEST_BYTES || self.waiting >= REQUEST_SAMPLES {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), TransferError> {
        if self.waiting == 0 {
            return Ok(());
        }
        let packed = compress_snappy(&self.body).unwrap_or_default();
        let begun = Instant::now();
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        loop {
            let reply = self.url.send("POST", "/api/v1/write", &headers, &mut &packed[..]);
            let problem = match reply {
                Ok(mut reply) => match reply.status {
                    200..=299 | 400 => {
                        let count = |name| reply.header(name).and_then(|own| own.parse::<u64>().ok()).unwrap_or(0);
                        self.stored += count("x-prometheus-remote-write-samples-written")
                            + count("x-prometheus-remote-write-histograms-written");
                        if reply.status == 400 && self.refused.is_none() {
                            self.refused = Some(reply.text());
                        }
                        break;
                    }
                    429 | 500..=599 => TransferError::Refused { status: reply.status, text: reply.text() },
                    status => return Err(TransferError::Refused { status, text: reply.text() }),
                },
                Err(error) => error,
            };
            if begun.elapsed() > RETRY_FOR {
                return Err(problem);
            }
            say(&format!("{}; trying again", crate::base::error::chain(&problem)));
            thread::sleep(RETRY_PAUSE);
        }
        self.sent += self.waiting;
        self.waiting = 0;
        self.body.clear();
        if self.shown.elapsed().as_secs() >= 2 {
            self.shown = Instant::now();
            let percent = (self.sent * 100).checked_div(self.expected).unwrap_or(0).min(100);
            say(&format!("{percent} %: {} samples sent; {}", self.sent, self.what));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<bool, TransferError> {
        self.send()?;
        say(&format!("sent {} samples, {} stored", self.sent, self.stored));
        if let Some(refused) = &self.refused {
            say(&format!("not all were taken; the first that was not: {refused}"));
        }
        Ok(self.refused.is_none())
    }
}
