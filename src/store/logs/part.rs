//! An open log part: its streams and runs in memory, its packs on disk.
//! Flow: opening reads the index frames; packs that no readable index frame lists are found by
//! reading their times frames. Reading a run reads one to three frames, by way of the cache.
//! Invariants: what does not decode is an error that names the part, never a wrong row.
//! Bytes: docs/format/logs.md.

use ahash::{AHashMap, AHashSet};

use super::cache::FrameCache;
use super::pack::{INDEX, LINES, METADATA, TIMES};
use super::rows::{Rows, read_labels, read_metadata, read_times};
use crate::model::labels::Labels;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::StoreError;
use crate::store::part::{FrameRef, PartReader};
use crate::store::text::narrow::PartText;

/// Frames of one pack; one that is damaged or gone is missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pack {
    /// Its number in the part.
    pub(super) number: u32,
    times: FrameRef,
    lines: Option<FrameRef>,
    metadata: Option<FrameRef>,
}

/// Rows of one stream in one pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Which of the part's streams.
    pub(super) stream: u32,
    /// Which of the part's packs.
    pub(super) pack: u32,
    /// First and last time, both inclusive.
    pub(super) span: (i64, i64),
    /// Rows.
    pub(super) rows: u32,
    /// Bytes of lines.
    pub(super) text_bytes: u32,
    /// Where its times begin, behind the pack's number and count of runs.
    times_at: u32,
    /// Where its lines begin, behind the pack's number.
    text_at: u32,
}

/// An open part.
pub(super) struct LogsPart {
    reader: PartReader,
    /// Streams; one may come more than once.
    pub(super) streams: Vec<Labels>,
    /// Packs, by number.
    pub(super) packs: Vec<Pack>,
    /// Runs, in the order written.
    pub(super) runs: Vec<Run>,
    /// Its text index, when it has one.
    pub(super) text: PartText,
}

fn small(value: u64) -> Result<u32, Malformed> {
    u32::try_from(value).map_err(|_| Malformed("number too large"))
}

#[derive(Default)]
struct Opening {
    streams: Vec<Labels>,
    packs: Vec<Pack>,
    runs: Vec<Run>,
    damage: Option<String>,
}

impl LogsPart {
    /// Opens a part. `intern` gives the one copy of a label set. The second half of the answer says
    /// what could not be read, if anything.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn open(
        reader: PartReader,
        intern: impl Fn(Labels) -> Labels,
    ) -> Result<(Self, Option<String>), StoreError> {
        let mut opening = Opening::default();
        let by_offset: AHashMap<u64, FrameRef> = reader.frames().iter().map(|frame| (frame.offset, *frame)).collect();
        for frame in reader.frames().iter().filter(|frame| frame.kind == INDEX) {
            match reader.read(*frame) {
                Ok(payload) => {
                    if let Err(Malformed(what)) = opening.add_index(&payload, &by_offset) {
                        opening.damage = Some(format!("an index frame is malformed: {what}"));
                    }
                }
                Err(StoreError::Damaged { what, .. }) => opening.damage = Some(what),
                Err(error) => return Err(error),
            }
        }
        opening.salvage(&reader)?;
        opening.streams.iter_mut().for_each(|labels| *labels = intern(std::mem::take(labels)));
        let Opening { streams, packs, runs, damage } = opening;
        Ok((Self { reader, streams, packs, runs, text: PartText::default() }, damage))
    }

    /// The container.
    pub(super) fn reader(&self) -> &PartReader {
        &self.reader
    }

    /// Memory that it takes while it is open, in bytes, beside its container and the texts of labels.
    pub(super) fn memory(&self) -> usize {
        self.streams.capacity() * size_of::<Labels>()
            + self.packs.capacity() * size_of::<Pack>()
            + self.runs.capacity() * size_of::<Run>()
    }

    /// The stream of a run.
    pub(super) fn labels(&self, run: &Run) -> Option<&Labels> {
        self.streams.get(run.stream as usize)
    }

    /// Bytes of all lines.
    pub(super) fn text_bytes(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.text_bytes)).sum()
    }

    /// The rows of a run, with the columns asked for.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when a frame of the pack is.
    pub(super) fn read(&self, run: &Run, text: bool, metadata: bool, cache: &FrameCache) -> Result<Rows, StoreError> {
        let pack = self.packs.get(run.pack as usize).ok_or_else(|| self.reader.damaged("a run without its pack"))?;
        let damaged = |Malformed(what): Malformed| self.reader.damaged(format!("pack {}: {what}", pack.number));
        let payload = cache.read(&self.reader, pack.times)?;
        let (mut rows, metadata_at) = run.times(pack, &payload).map_err(damaged)?;
        if text {
            let frame = pack.lines.ok_or_else(|| self.reader.damaged("the lines of a pack are missing"))?;
            rows.text = run.text(pack, &cache.read(&self.reader, frame)?, &rows).map_err(damaged)?;
            if !rows.cuts_no_character() {
                return Err(damaged(Malformed("a line ends inside a character")));
            }
        }
        if let Some(at) = metadata_at.filter(|_| metadata) {
            let frame = pack.metadata.ok_or_else(|| self.reader.damaged("the metadata of a pack is missing"))?;
            let payload = cache.read(&self.reader, frame)?;
            rows.metadata = run.metadata(pack, &payload, at).map_err(damaged)?;
        }
        Ok(rows)
    }
}

/// A reader behind the pack's number, `at` bytes on.
fn column<'a>(pack: &Pack, payload: &'a [u8], runs: bool, at: u32) -> Result<Reader<'a>, Malformed> {
    let mut reader = Reader::new(payload);
    if reader.varint()? != u64::from(pack.number) {
        return Err(Malformed("a frame belongs to another pack"));
    }
    if runs {
        reader.varint()?;
    }
    reader.take(at as usize)?;
    Ok(reader)
}

impl Run {
    /// Times and lengths, and where the run's metadata begins.
    fn times(&self, pack: &Pack, payload: &[u8]) -> Result<(Rows, Option<u32>), Malformed> {
        let mut reader = column(pack, payload, true, self.times_at)?;
        read_labels(&mut reader)?;
        let metadata_at = small(reader.varint()?)?.checked_sub(1);
        let (times, line_bytes) = read_times(&mut reader)?;
        let ascending = times.windows(2).all(|two| matches!(two, [a, b] if a <= b));
        if times.len() != self.rows as usize || !ascending || (times.first(), times.last()) != self.edges() {
            return Err(Malformed("a run is not what the index says"));
        }
        Ok((Rows { times, line_bytes, ..Rows::default() }, metadata_at))
    }

    fn edges(&self) -> (Option<&i64>, Option<&i64>) {
        (Some(&self.span.0), Some(&self.span.1))
    }

    fn text(&self, pack: &Pack, payload: &[u8], rows: &Rows) -> Result<String, Malformed> {
        let bytes: usize = rows.line_bytes.iter().map(|bytes| *bytes as usize).sum();
        if bytes != self.text_bytes as usize {
            return Err(Malformed("a run is not what the index says"));
        }
        let text = column(pack, payload, false, self.text_at)?.take(bytes)?;
        let text = std::str::from_utf8(text).map_err(|_| Malformed("text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn metadata(&self, pack: &Pack, payload: &[u8], at: u32) -> Result<Vec<Labels>, Malformed> {
        let mut reader = column(pack, payload, false, at)?;
        read_metadata(&mut reader, self.rows as usize)
    }
}

impl Opening {
    fn add_index(&mut self, payload: &[u8], frames: &AHashMap<u64, FrameRef>) -> Result<(), Malformed> {
        let mut reader = Reader::new(payload);
        let first = small(reader.varint()?)?;
        let packs = reader.count(payload.len())?;
        let streams = self.streams.len() as u32;
        for _ in 0..reader.count(payload.len())? {
            self.streams.push(read_labels(&mut reader)?);
        }
        let find = |offset: u64, kind: u8| frames.get(&offset).copied().filter(|frame| frame.kind == kind);
        for number in 0..packs as u32 {
            let (times, lines, metadata) = (reader.varint()?, reader.varint()?, reader.varint()?);
            let pack = find(times, TIMES).map(|times| Pack {
                number: first.wrapping_add(number),
                times,
                lines: find(lines, LINES),
                metadata: find(metadata, METADATA),
            });
            let mut text_at = 0u32;
            for _ in 0..reader.count(payload.len())? {
                let run = self.read_run(&mut reader, streams, text_at)?;
                text_at = text_at.checked_add(run.text_bytes).ok_or(Malformed("number too large"))?;
                if pack.is_some() {
                    self.runs.push(run);
                }
            }
            self.packs.extend(pack);
        }
        Ok(())
    }

    fn read_run(&self, reader: &mut Reader<'_>, streams: u32, text_at: u32) -> Result<Run, Malformed> {
        let stream = small(reader.varint()?)?.saturating_add(streams);
        if stream as usize >= self.streams.len() {
            return Err(Malformed("a run of a stream that is not listed"));
        }
        let min = reader.signed()?;
        Ok(Run {
            stream,
            pack: self.packs.len() as u32,
            span: (min, min.wrapping_add(reader.varint()? as i64)),
            rows: small(reader.varint()?)?,
            text_bytes: small(reader.varint()?)?,
            times_at: small(reader.varint()?)?,
            text_at,
        })
    }

    /// Finds packs that no index frame lists.
    fn salvage(&mut self, reader: &PartReader) -> Result<(), StoreError> {
        let listed: AHashSet<u64> = self.packs.iter().map(|pack| pack.times.offset).collect();
        let missing = reader.frames().iter().filter(|frame| frame.kind == TIMES && !listed.contains(&frame.offset));
        for times in missing {
            let payload = match reader.read(*times) {
                Ok(payload) => payload,
                Err(StoreError::Damaged { what, .. }) => {
                    self.damage = Some(what);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (streams, packs, runs) = (self.streams.len(), self.packs.len(), self.runs.len());
            if let Err(Malformed(what)) = self.salvage_pack(reader, *times, &payload)? {
                self.damage = Some(format!("a pack that no index lists: {what}"));
                self.streams.truncate(streams);
                self.packs.truncate(packs);
                self.runs.truncate(runs);
            }
        }
        Ok(())
    }

    fn salvage_pack(
        &mut self,
        part: &PartReader,
        times: FrameRef,
        payload: &[u8],
    ) -> Result<Result<(), Malformed>, StoreError> {
        let number = match self.salvage_runs(payload) {
            Ok(number) => number,
            Err(error) => return Ok(Err(error)),
        };
        let (lines, metadata) = (beside(part, times, number, LINES)?, beside(part, times, number, METADATA)?);
        self.packs.push(Pack { number, times, lines, metadata });
        Ok(Ok(()))
    }

    /// Adds the runs of a pack that is to be added; returns its number.
    fn salvage_runs(&mut self, payload: &[u8]) -> Result<u32, Malformed> {
        let mut reader = Reader::new(payload);
        let number = small(reader.varint()?)?;
        let count = reader.count(payload.len())?;
        let start = reader.rest().len();
        let mut text_at = 0u32;
        for _ in 0..count {
            let times_at = (start - reader.rest().len()) as u32;
            let labels = read_labels(&mut reader)?;
            reader.varint()?;
            let (times, line_bytes) = read_times(&mut reader)?;
            let (Some(first), Some(last)) = (times.first(), times.last()) else {
                return Err(Malformed("an empty run"));
            };
            let text_bytes = small(line_bytes.iter().map(|bytes| u64::from(*bytes)).sum())?;
            self.runs.push(Run {
                stream: self.streams.len() as u32,
                pack: self.packs.len() as u32,
                span: (*first, *last),
                rows: times.len() as u32,
                text_bytes,
                times_at,
                text_at,
            });
            self.streams.push(labels);
            text_at = text_at.checked_add(text_bytes).ok_or(Malformed("number too large"))?;
        }
        Ok(number)
    }
}

/// The frame of a kind that belongs to the pack of a times frame: it comes before the next one's.
fn beside(part: &PartReader, times: FrameRef, number: u32, kind: u8) -> Result<Option<FrameRef>, StoreError> {
    let behind = part.frames().iter().skip_while(|frame| frame.offset <= times.offset);
    let own = behind.take_while(|frame| frame.kind != TIMES);
    for frame in own.filter(|frame| frame.kind == kind) {
        match part.read(*frame) {
            Ok(payload) if Reader::new(&payload).varint() == Ok(u64::from(number)) => return Ok(Some(*frame)),
            Ok(_) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
