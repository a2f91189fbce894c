//! A part of metrics, open for reading: data frames with series sorted by their labels, postings
//! frames, and a directory that says which series and label pairs lie in which frame.
//! Flow: matchers are looked up in the postings frames that can hold them, then only data frames
//! with matching series and times are read. Only the directory stays in memory.
//! Invariants: a data frame can be read without anything else; so when directory or postings are
//! damaged, data frames are searched one by one, and a damaged data frame costs its own samples
//! alone. Damage is logged and counted once for each frame.
//! Bytes: docs/format/metrics.md.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::postings::{Ids, Postings, Visit, matched};
use super::record::{take_exemplar, take_labels, take_metadata};
use crate::base::counters::Cell;
use crate::base::limits::QueryBudget;
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::{Matcher, all_match};
use crate::model::time::RangeMs;
use crate::store::StoreError;
use crate::store::codec::{Malformed, Reader, put_bytes, put_signed, put_str, put_varint};
use crate::store::part::{FrameRef, PartReader};

/// Frame of series and their samples.
pub const FRAME_DATA: u8 = 1;
/// Frame of label pairs and their series.
pub const FRAME_POSTINGS: u8 = 2;
/// Frame that tells what lies in the others.
pub const FRAME_DIRECTORY: u8 = 3;
/// Frame of exemplars.
pub const FRAME_EXEMPLARS: u8 = 4;
/// Frame of metadata.
pub const FRAME_METADATA: u8 = 5;
/// Bytes after which a frame is closed.
pub const FRAME_BYTES: usize = 256 << 10;
/// Bytes of a label value that the directory keeps.
const KEY_BYTES: usize = 64;
const VERSION: u8 = 1;

/// What a visitor of a frame says: go on, or the frame is damaged, or the query has to end.
pub type Visited = Result<Result<(), Malformed>, StoreError>;

type VisitEntry<'a> = dyn FnMut(&Entry<'_>) -> Visited + 'a;
type VisitLabeled<'a> = dyn FnMut(&Labels, &Entry<'_>) -> Visited + 'a;

/// Samples of one series in a data frame: some floats, or some histograms.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The labels, as `record::put_labels` writes them.
    pub labels: &'a [u8],
    /// Whether the samples are histograms.
    pub histograms: bool,
    /// First and last time.
    pub span: (i64, i64),
    /// Samples.
    pub count: usize,
    /// Their bytes, as `chunk::column` or `chunk::histogram` writes them.
    pub data: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Appends the entry to a data frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.labels);
        out.push(u8::from(self.histograms));
        put_signed(out, self.span.0);
        put_varint(out, self.span.1.wrapping_sub(self.span.0) as u64);
        put_varint(out, self.count as u64);
        put_bytes(out, self.data);
    }

    fn take(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let labels = reader.bytes()?;
        let histograms = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("unknown kind of samples")),
        };
        let first = reader.signed()?;
        let last = first.wrapping_add(reader.varint()? as i64);
        let count = reader.count(usize::MAX)?;
        Ok(Self { labels, histograms, span: (first, last), count, data: reader.bytes()? })
    }

    /// The labels.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse_labels(&self) -> Result<Labels, Malformed> {
        take_labels(&mut Reader::new(self.labels))
    }
}

/// Where a data frame lies and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRef {
    /// Offset of the frame.
    pub offset: u64,
    /// Number of its first entry in the part.
    pub first: u32,
    /// First and last time of its samples.
    pub span: (i64, i64),
}

/// Where a postings frame lies and with what it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostingsRef {
    /// Offset of the frame.
    pub offset: u64,
    /// Its first name.
    pub name: String,
    /// The beginning of the first value of that name.
    pub value: Vec<u8>,
}

/// What lies where in a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Entries of all data frames.
    pub entries: u32,
    /// Data frames, by number of their first entry.
    pub data: Vec<DataRef>,
    /// Postings frames, by name and value.
    pub postings: Vec<PostingsRef>,
}

/// The beginning of a value, as the directory keeps it.
pub fn key(value: &str) -> &[u8] {
    value.as_bytes().get(..KEY_BYTES).unwrap_or(value.as_bytes())
}

impl Directory {
    /// Appends the directory.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(out, u64::from(self.entries));
        put_varint(out, self.data.len() as u64);
        for data in &self.data {
            put_varint(out, data.offset);
            put_varint(out, u64::from(data.first));
            put_signed(out, data.span.0);
            put_varint(out, data.span.1.wrapping_sub(data.span.0) as u64);
        }
        put_varint(out, self.postings.len() as u64);
        for postings in &self.postings {
            put_varint(out, postings.offset);
            put_str(out, &postings.name);
            put_bytes(out, &postings.value);
        }
    }

    /// Reads a directory.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let small = |_| Malformed("series number too large");
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(Malformed("a directory of another version"));
        }
        let mut directory = Self { entries: u32::try_from(reader.varint()?).map_err(small)?, ..Self::default() };
        for _ in 0..reader.count(bytes.len())? {
            let (offset, first) = (reader.varint()?, u32::try_from(reader.varint()?).map_err(small)?);
            let start = reader.signed()?;
            let span = (start, start.wrapping_add(reader.varint()? as i64));
            directory.data.push(DataRef { offset, first, span });
        }
        for _ in 0..reader.count(bytes.len())? {
            let offset = reader.varint()?;
            let (name, value) = (reader.str()?.to_owned(), reader.bytes()?.to_vec());
            directory.postings.push(PostingsRef { offset, name, value });
        }
        Ok(directory)
    }
}

/// A part of metrics.
pub struct Part {
    reader: PartReader,
    directory: Option<Directory>,
    /// Directory or postings turned out to be damaged.
    index_lost: AtomicBool,
    /// Frames known to be damaged, by offset.
    lost: Mutex<BTreeSet<u64>>,
    damaged: Cell,
}

impl Part {
    /// Opens a part; one with a damaged directory is searched frame by frame.
    pub fn open(reader: PartReader, damaged: Cell) -> Self {
        let mut part =
            Self { reader, directory: None, index_lost: AtomicBool::new(false), lost: Mutex::default(), damaged };
        let frame = part.reader.frames().iter().rev().find(|frame| frame.kind == FRAME_DIRECTORY).copied();
        let directory = frame.ok_or_else(|| part.reader.damaged("its directory is missing")).and_then(|frame| {
            let bytes = part.reader.read(frame)?;
            Directory::decode(&bytes).map_err(|Malformed(what)| part.reader.damaged(what))
        });
        match directory {
            Ok(directory) => part.directory = Some(directory),
            Err(error) => part.lose_index(&error),
        }
        part
    }

    /// Its container.
    pub fn reader(&self) -> &PartReader {
        &self.reader
    }

    /// Whether it may have something in `range`.
    pub fn overlaps(&self, range: RangeMs) -> bool {
        range.overlaps(self.reader.info().min_t, self.reader.info().max_t)
    }

    fn lose_index(&self, error: &StoreError) {
        if !self.index_lost.swap(true, Ordering::Relaxed) {
            self.damaged.inc();
            tracing::error!(%error, path = ?self.reader.path(), "the index of a part is damaged; its data is searched instead");
        }
    }

    fn lose_frame(&self, offset: u64, what: &str) {
        if self.lost.lock().insert(offset) {
            self.damaged.inc();
            tracing::error!(path = ?self.reader.path(), offset, what, "a frame of a part is damaged and left out");
        }
    }

    /// The payload of a frame, or none when it is damaged. Its bytes are charged until `work` ends.
    fn with_frame(
        &self,
        offset: u64,
        budget: &QueryBudget,
        work: impl FnOnce(&[u8]) -> Visited,
    ) -> Result<(), StoreError> {
        budget.check()?;
        let Some(frame) = self.find(offset) else {
            self.lose_frame(offset, "it is missing");
            return Ok(());
        };
        let bytes = frame.raw as usize + frame.stored as usize;
        budget.charge(bytes)?;
        match self.reader.read(frame) {
            Ok(payload) => {
                if let Err(Malformed(what)) = work(&payload)? {
                    self.lose_frame(offset, what);
                }
            }
            Err(error) => self.lose_frame(offset, &error.to_string()),
        }
        budget.release(bytes);
        Ok(())
    }

    fn find(&self, offset: u64) -> Option<FrameRef> {
        let frames = self.reader.frames();
        frames.binary_search_by_key(&offset, |frame| frame.offset).ok().and_then(|at| frames.get(at)).copied()
    }

    /// The entries that satisfy `matchers`, or none when there is no index to tell.
    fn matched(
        &self,
        matchers: &[Matcher],
        budget: &QueryBudget,
    ) -> Result<Option<(&Directory, RoaringBitmap)>, StoreError> {
        let Some((directory, postings)) = self.postings(budget) else { return Ok(None) };
        Ok(self.trusted(matched(&postings, matchers, budget))?.map(|found| (directory, found)))
    }

    fn postings<'a, 'b>(&'a self, budget: &'b QueryBudget) -> Option<(&'a Directory, PartPostings<'a, 'b>)> {
        let directory = self.directory.as_ref().filter(|_| !self.index_lost.load(Ordering::Relaxed))?;
        Some((directory, PartPostings { part: self, directory, budget }))
    }

    /// What the index said; none when it turned out to be damaged.
    fn trusted<T>(&self, answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error @ StoreError::Limit(_)) => Err(error),
            Err(error) => {
                self.lose_index(&error);
                Ok(None)
            }
        }
    }

    /// Hands out the entries of matching series that may have samples in `range`, sorted by labels.
    ///
    /// # Errors
    /// [`StoreError::Limit`], or what `visit` returns.
    pub fn visit(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
        visit: &mut VisitEntry<'_>,
    ) -> Result<(), StoreError> {
        let Some((directory, found)) = self.matched(matchers, budget)? else {
            return self.search(matchers, range, budget, &mut |_, entry| visit(entry));
        };
        for (at, data) in directory.data.iter().enumerate() {
            let next = directory.data.get(at + 1).map_or(directory.entries, |next| next.first);
            if !range.overlaps(data.span.0, data.span.1) || found.range(data.first..next).next().is_none() {
                continue;
            }
            self.with_frame(data.offset, budget, |payload| {
                visit_entries(payload, |number, entry| {
                    let hit = found.contains(number) && range.overlaps(entry.span.0, entry.span.1);
                    if hit { visit(entry) } else { Ok(Ok(())) }
                })
            })?;
        }
        Ok(())
    }

    /// As [`visit`](Self::visit), without the index.
    fn search(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
        visit: &mut VisitLabeled<'_>,
    ) -> Result<(), StoreError> {
        for frame in self.reader.frames().iter().filter(|frame| frame.kind == FRAME_DATA) {
            self.with_frame(frame.offset, budget, |payload| {
                visit_entries(payload, |_, entry| {
                    if !range.overlaps(entry.span.0, entry.span.1) {
                        return Ok(Ok(()));
                    }
                    match entry.parse_labels() {
                        Ok(labels) if all_match(matchers, &labels) => visit(&labels, entry),
                        Ok(_) => Ok(Ok(())),
                        Err(malformed) => Ok(Err(malformed)),
                    }
                })
            })?;
        }
        Ok(())
    }

    /// Hands out label pairs, of one name or of all, that matching series have; some more than once.
    ///
    /// # Errors
    /// [`StoreError::Limit`], or what `visit` returns.
    pub fn pairs(
        &self,
        name: Option<&str>,
        matchers: &[Matcher],
        budget: &QueryBudget,
        visit: &mut dyn FnMut(&str, &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Some((_, postings)) = self.postings(budget) {
            let found = if matchers.is_empty() { None } else { Some(matched(&postings, matchers, budget)) };
            let answer = found.transpose().and_then(|found| {
                postings.visit(name, &mut |name, value, ids| {
                    let hit = found.as_ref().map_or(Ok(true), |found| ids.touch(found));
                    if hit.map_err(|Malformed(what)| self.reader.damaged(what))? {
                        visit(name, value)?;
                    }
                    Ok(())
                })
            });
            if self.trusted(answer)?.is_some() {
                return Ok(());
            }
        }
        self.search(matchers, RangeMs::ALL, budget, &mut |labels, _| {
            for (own, value) in labels {
                if name.is_none_or(|name| name == own) {
                    visit(own, value)?;
                }
            }
            Ok(Ok(()))
        })
    }

    /// Hands out exemplars of matching series in `range`.
    ///
    /// # Errors
    /// [`StoreError::Limit`].
    pub fn exemplars(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
        visit: &mut dyn FnMut(&Labels, Exemplar) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for frame in self.reader.frames().iter().filter(|frame| frame.kind == FRAME_EXEMPLARS) {
            self.with_frame(frame.offset, budget, |payload| {
                let mut reader = Reader::new(payload);
                while !reader.is_empty() {
                    let (labels, exemplars) = match take_exemplars(&mut reader) {
                        Ok(taken) => taken,
                        Err(malformed) => return Ok(Err(malformed)),
                    };
                    if all_match(matchers, &labels) {
                        for exemplar in exemplars.into_iter().filter(|exemplar| range.contains(exemplar.t)) {
                            visit(&labels, exemplar)?;
                        }
                    }
                }
                Ok(Ok(()))
            })?;
        }
        Ok(())
    }

    /// The metadata in it.
    pub fn metadata(&self) -> Vec<MetricMetadata> {
        let mut all = Vec::new();
        for frame in self.reader.frames().iter().filter(|frame| frame.kind == FRAME_METADATA) {
            let read = self.with_frame(frame.offset, &QueryBudget::unlimited(), |payload| {
                let mut reader = Reader::new(payload);
                while !reader.is_empty() {
                    match take_metadata(&mut reader) {
                        Ok(metadata) => all.push(metadata),
                        Err(malformed) => return Ok(Err(malformed)),
                    }
                }
                Ok(Ok(()))
            });
            debug_assert!(read.is_ok(), "nothing in it can fail");
        }
        all
    }
}

fn take_exemplars(reader: &mut Reader<'_>) -> Result<(Labels, Vec<Exemplar>), Malformed> {
    let labels = take_labels(reader)?;
    let mut exemplars = Vec::new();
    for _ in 0..reader.count(reader.rest().len())? {
        exemplars.push(take_exemplar(reader)?);
    }
    Ok((labels, exemplars))
}

/// Hands out the entries of a data frame with their numbers.
fn visit_entries(payload: &[u8], mut visit: impl FnMut(u32, &Entry<'_>) -> Visited) -> Visited {
    let mut reader = Reader::new(payload);
    let mut next = match reader.varint() {
        Ok(first) => first as u32,
        Err(malformed) => return Ok(Err(malformed)),
    };
    while !reader.is_empty() {
        let visited = match Entry::take(&mut reader) {
            Ok(entry) => visit(next, &entry)?,
            Err(malformed) => Err(malformed),
        };
        if visited.is_err() {
            return Ok(visited);
        }
        next = next.wrapping_add(1);
    }
    Ok(Ok(()))
}

struct PartPostings<'a, 'b> {
    part: &'a Part,
    directory: &'a Directory,
    budget: &'b QueryBudget,
}

impl PartPostings<'_, '_> {
    /// Reads the frames that can hold pairs `from..=to`, as keys.
    fn frames(
        &self,
        from: (&str, &[u8]),
        to: Option<(&str, &[u8])>,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), Malformed>,
    ) -> Result<(), StoreError> {
        let refs = &self.directory.postings;
        for (at, own) in refs.iter().enumerate() {
            let begins_after = to.is_some_and(|to| (own.name.as_str(), own.value.as_slice()) > to);
            let ends_before = refs.get(at + 1).is_some_and(|next| (next.name.as_str(), next.value.as_slice()) < from);
            if begins_after || ends_before {
                continue;
            }
            self.budget.check()?;
            let missing = || self.part.reader.damaged("a postings frame is missing");
            let frame = self.part.find(own.offset).ok_or_else(missing)?;
            let bytes = frame.raw as usize + frame.stored as usize;
            self.budget.charge(bytes)?;
            let payload = self.part.reader.read(frame)?;
            visit(&payload).map_err(|Malformed(what)| self.part.reader.damaged(what))?;
            self.budget.release(bytes);
        }
        Ok(())
    }
}

/// Hands out the pairs of a postings frame until `visit` says no.
fn visit_pairs(
    payload: &[u8],
    mut visit: impl FnMut(&str, &str, Ids<'_>) -> Result<bool, Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        let name = reader.str()?;
        for _ in 0..reader.count(payload.len())? {
            let (value, runs) = (reader.str()?, reader.bytes()?);
            if !visit(name, value, Ids::Runs(runs))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Postings for PartPostings<'_, '_> {
    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.directory.entries);
        all
    }

    fn add(&self, name: &str, value: &str, set: &mut RoaringBitmap) -> Result<(), StoreError> {
        let wanted = (name, key(value));
        self.frames(wanted, Some(wanted), &mut |payload| {
            visit_pairs(payload, |own_name, own_value, ids| {
                if (own_name, own_value) == (name, value) {
                    ids.add_to(set)?;
                }
                Ok((own_name, own_value) < (name, value))
            })
        })
    }

    fn visit(&self, name: Option<&str>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut failure = None;
        // The value of no key is larger than this one.
        let last = [0xFF; KEY_BYTES + 1];
        let from = (name.unwrap_or_default(), &[][..]);
        self.frames(from, name.map(|name| (name, &last[..])), &mut |payload| {
            visit_pairs(payload, |own_name, value, ids| {
                if failure.is_none() && name.is_none_or(|name| name == own_name) {
                    failure = visit(own_name, value, ids).err();
                }
                Ok(failure.is_none() && name.is_none_or(|name| own_name <= name))
            })
        })?;
        failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_directory_comes_back() {
        let directory = Directory {
            entries: 9,
            data: vec![DataRef { offset: 5, first: 0, span: (i64::MIN, i64::MAX) }],
            postings: vec![PostingsRef { offset: 77, name: "a".into(), value: vec![0xff] }],
        };
        let mut bytes = Vec::new();
        directory.encode(&mut bytes);
        assert_eq!(Directory::decode(&bytes), Ok(directory));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoders(bytes: Vec<u8>) {
            let _ = Directory::decode(&bytes);
            let _ = Directory::decode(&[&[VERSION][..], &bytes].concat());
            let _ = visit_pairs(&bytes, |_, _, ids| ids.add_to(&mut RoaringBitmap::new()).map(|()| true));
            let _ = visit_entries(&bytes, |_, entry| Ok(entry.parse_labels().map(|_| ())));
            let _ = take_exemplars(&mut Reader::new(&bytes));
        }
    }
}
