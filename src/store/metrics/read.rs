//! Samples of series of one part: finds the blocks of a series in a time range and decodes them.
//! Flow: [`PartScan::read`] is asked for one series after the other, best in order; it keeps the
//! frames it is at, and adds what it finds to [`Gathered`].
//! Invariants: blocks of one series come in time order and do not overlap, as they were written.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::{floats, histograms, pack};
use super::layout::{Block, DataFrame, TimesFrame};
use super::rows::Rows;
use super::segment::Part;
use crate::base::limits::QueryBudget;
use crate::model::histogram::Histogram;
use crate::model::sample::HistogramSample;
use crate::model::time::RangeMs;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::StoreError;

/// Names a column of times: source, group, number.
pub type ColumnKey = (u32, u32, u32);

/// A run of times of one series.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where the column comes from, when other series may have it, too.
    pub key: Option<ColumnKey>,
    /// The column.
    pub times: Arc<Vec<i64>>,
    /// The places in it.
    pub range: Range<usize>,
}

impl Piece {
    /// The times.
    pub fn times(&self) -> &[i64] {
        self.times.get(self.range.clone()).unwrap_or_default()
    }
}

/// Samples of one series, as they are found.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Times of the floats.
    pub pieces: Vec<Piece>,
    /// The floats.
    pub values: Vec<f64>,
    /// Their starts; empty or as many as floats.
    pub starts: Vec<i64>,
    /// The histograms.
    pub histograms: Vec<HistogramSample>,
    /// Something came that is not later than all before.
    pub disordered: bool,
    newest: Option<i64>,
    newest_histogram: Option<i64>,
}

impl Gathered {
    /// Drops everything and keeps the memory.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.values.clear();
        self.starts.clear();
        self.histograms.clear();
        (self.disordered, self.newest, self.newest_histogram) = (false, None, None);
    }

    /// Samples so far.
    pub fn count(&self) -> usize {
        self.values.len() + self.histograms.len()
    }

    /// Takes note of a run of floats, whose values are added already; `starts` are as many or none.
    pub fn add(&mut self, piece: Piece, starts: &[i64]) {
        let Some((first, last)) = piece.times().first().copied().zip(piece.times().last().copied()) else { return };
        self.disordered |= self.newest.is_some_and(|newest| first <= newest);
        self.newest = Some(last);
        if !starts.is_empty() || !self.starts.is_empty() {
            self.starts.resize(self.values.len() - piece.times().len(), 0);
            self.starts.extend_from_slice(starts);
            self.starts.resize(self.values.len(), 0);
        }
        self.pieces.push(piece);
    }

    /// Adds a histogram.
    pub fn add_histogram(&mut self, sample: HistogramSample) {
        self.disordered |= self.newest_histogram.is_some_and(|newest| sample.t <= newest);
        self.newest_histogram = Some(sample.t);
        self.histograms.push(sample);
    }
}

impl Gathered {
    /// Leaves out samples of some times; for what came from one part or head, and is in order.
    pub fn leave_out(&mut self, ranges: &[RangeMs]) {
        if ranges.is_empty() {
            return;
        }
        let stays = |t: i64| !ranges.iter().any(|range| range.contains(t));
        self.histograms.retain(|sample| stays(sample.t));
        let times: Vec<i64> = self.pieces.iter().flat_map(|piece| piece.times()).copied().collect();
        if times.iter().all(|t| stays(*t)) {
            return;
        }
        let kept = |at: &usize| times.get(*at).is_some_and(|t| stays(*t));
        let places: Vec<usize> = (0..times.len()).filter(kept).collect();
        self.values = places.iter().filter_map(|at| self.values.get(*at)).copied().collect();
        self.starts = places.iter().filter_map(|at| self.starts.get(*at)).copied().collect();
        let times: Vec<i64> = places.iter().filter_map(|at| times.get(*at)).copied().collect();
        self.pieces.clear();
        if !times.is_empty() {
            self.pieces.push(Piece { key: None, range: 0..times.len(), times: Arc::new(times) });
        }
    }

    /// Moves everything behind what `to` has, as from another source.
    pub fn append_to(&mut self, to: &mut Self) {
        let mut from = 0;
        for piece in self.pieces.drain(..) {
            let range = from..from + piece.times().len();
            from = range.end;
            to.values.extend_from_slice(self.values.get(range.clone()).unwrap_or_default());
            to.add(piece, self.starts.get(range).unwrap_or_default());
        }
        self.histograms.drain(..).for_each(|sample| to.add_histogram(sample));
        self.clear();
    }

    /// Moves everything behind what was written earlier; [`Rows::settle`] then sorts it out.
    pub fn add_to(&mut self, rows: &mut Rows) {
        let mut from = 0;
        for piece in &self.pieces {
            let to = from + piece.times().len();
            rows.extend(piece.times(), self.values.get(from..to).unwrap_or_default());
            from = to;
        }
        // A sample written later without a start has none, also where the one before had.
        let has_starts = !self.starts.is_empty() || self.histograms.iter().any(|sample| sample.start != 0);
        if has_starts || rows.starts() > 0 {
            let times = self.pieces.iter().flat_map(|piece| piece.times());
            let starts = self.starts.iter().copied().chain(std::iter::repeat(0));
            times.zip(starts).for_each(|(t, start)| rows.push_start(*t, start));
            self.histograms.iter().for_each(|sample| rows.push_start(sample.t, sample.start));
        }
        self.histograms.drain(..).for_each(|sample| rows.push_histogram(sample));
        self.clear();
    }
}

/// Memory that reading uses again and again.
#[derive(Debug, Default)]
pub struct Work {
    numbers: Vec<i64>,
    starts: Vec<i64>,
}

struct GroupScan {
    /// Place of the group in the directory.
    group: usize,
    /// Place of the current frame in the group, with its content unless it is damaged.
    data: Option<(usize, Option<Arc<DataFrame>>)>,
    /// The block behind the one read last.
    near: usize,
    times: Option<(u64, Option<Arc<TimesFrame>>)>,
}

/// Reads series of one part in a time range.
pub struct PartScan<'a> {
    part: &'a Part,
    source: u32,
    range: RangeMs,
    groups: Vec<GroupScan>,
    budget: &'a QueryBudget,
    held: usize,
}

impl Drop for PartScan<'_> {
    fn drop(&mut self) {
        self.budget.release(self.held);
    }
}

impl<'a> PartScan<'a> {
    /// Begins to read; `source` is the part's place among its like.
    pub fn new(part: &'a Part, source: u32, range: RangeMs, budget: &'a QueryBudget) -> Self {
        let groups = part.directory().groups.iter().enumerate();
        let groups = groups.filter(|(_, group)| range.overlaps(group.span.0, group.span.1));
        let groups = groups.map(|(group, _)| GroupScan { group, data: None, near: 0, times: None });
        Self { part, source, range, groups: groups.collect(), budget, held: 0 }
    }

    /// Adds the samples of a series.
    ///
    /// # Errors
    /// [`StoreError::Limit`], [`StoreError::Io`].
    pub fn read(&mut self, series: u32, work: &mut Work, out: &mut Gathered) -> Result<(), StoreError> {
        for at in 0..self.groups.len() {
            self.read_group(at, series, work, out)?;
        }
        Ok(())
    }

    fn read_group(&mut self, at: usize, series: u32, work: &mut Work, out: &mut Gathered) -> Result<(), StoreError> {
        let part = self.part;
        let Some(own) = self.groups.get(at) else { return Ok(()) };
        let Some(group) = part.directory().groups.get(own.group) else { return Ok(()) };
        let near = own.data.as_ref().map_or(0, |(place, _)| *place);
        // Mostly the frame read last, or the next one.
        let stays = group.data.get(near).is_some_and(|frame| frame.series.0 < series && series <= frame.series.1);
        let first = if stays { near } else { group.data.partition_point(|frame| frame.series.1 < series) };
        let refs = group.data.iter().enumerate().skip(first);
        for (place, frame) in refs.take_while(|(_, frame)| frame.series.0 <= series) {
            if self.range.overlaps(frame.span.0, frame.span.1) {
                self.enter(at, place, frame.offset)?;
                self.read_frame(at, series, work, out)?;
            }
        }
        Ok(())
    }

    /// Makes a frame the current one of its group.
    fn enter(&mut self, at: usize, place: usize, offset: u64) -> Result<(), StoreError> {
        let Some(own) = self.groups.get_mut(at) else { return Ok(()) };
        if own.data.as_ref().is_some_and(|(current, _)| *current == place) {
            return Ok(());
        }
        self.budget.check()?;
        let frame = self.part.data_frame(offset)?;
        let bytes = |frame: &Option<Arc<DataFrame>>| frame.as_ref().map_or(0, |frame| frame.bytes());
        let (more, less) = (bytes(&frame), own.data.as_ref().map_or(0, |(_, frame)| bytes(frame)));
        self.budget.charge(more)?;
        self.budget.release(less);
        self.held = self.held + more - less;
        (own.data, own.near) = (Some((place, frame)), 0);
        Ok(())
    }

    fn read_frame(&mut self, at: usize, series: u32, work: &mut Work, out: &mut Gathered) -> Result<(), StoreError> {
        let Some(own) = self.groups.get_mut(at) else { return Ok(()) };
        let Some((_, Some(frame))) = &own.data else { return Ok(()) };
        let frame = frame.clone();
        let mut place = frame.seek(series, own.near);
        while let Some(block) = frame.blocks().get(place).filter(|block| block.series == series) {
            let read = if block.histograms {
                self.histograms(block, frame.data(place), work, out)?
            } else {
                self.floats(at, block, frame.data(place), work, out)?
            };
            if let Err(Malformed(what)) = read {
                self.lose(at, what);
            }
            place += 1;
        }
        if let Some(own) = self.groups.get_mut(at) {
            own.near = place;
        }
        Ok(())
    }

    fn lose(&self, at: usize, what: &str) {
        let own = self.groups.get(at).and_then(|own| Some((own.group, own.data.as_ref()?.0)));
        let frame = own.and_then(|(group, place)| self.part.directory().groups.get(group)?.data.get(place));
        if let Some(frame) = frame {
            self.part.lose_frame(frame.offset, what);
        }
    }

    /// The times of a block; none when their frame is damaged.
    fn times(&mut self, at: usize, number: u32) -> Result<Option<Arc<Vec<i64>>>, StoreError> {
        let part = self.part;
        let Some(own) = self.groups.get_mut(at) else { return Ok(None) };
        let group = part.directory().groups.get(own.group);
        let Some(frame) = group.and_then(|group| group.times_of(number)) else { return Ok(None) };
        if own.times.as_ref().is_none_or(|(offset, _)| *offset != frame.offset) {
            own.times = Some((frame.offset, part.times_frame(frame.offset)?));
        }
        let Some((_, Some(times))) = &own.times else { return Ok(None) };
        let column = times.column(number).cloned();
        if column.is_none() {
            part.lose_frame(frame.offset, "a column of times is missing");
        }
        Ok(column)
    }

    fn floats(
        &mut self,
        at: usize,
        block: &Block,
        data: &[u8],
        work: &mut Work,
        out: &mut Gathered,
    ) -> Result<Result<(), Malformed>, StoreError> {
        let Some(times) = self.times(at, block.number)? else { return Ok(Ok(())) };
        let range = places(&times, self.range);
        if range.is_empty() {
            return Ok(Ok(()));
        }
        let mut reader = Reader::new(data);
        let before = out.values.len();
        let decoded = floats::decode(&mut reader, times.len(), &mut work.numbers, &mut out.values).and_then(|()| {
            work.starts.clear();
            if block.starts {
                pack::decode(&mut reader, times.len(), &mut work.starts)?;
            }
            if reader.is_empty() { Ok(()) } else { Err(Malformed("bytes behind a block")) }
        });
        if decoded.is_err() {
            out.values.truncate(before);
            return Ok(decoded);
        }
        if range.len() < times.len() {
            out.values.truncate(before + range.end);
            out.values.drain(before..before + range.start);
        }
        let group = self.groups.get(at).map_or(0, |own| own.group as u32);
        let starts = work.starts.get(range.clone()).unwrap_or_default();
        out.add(Piece { key: Some((self.source, group, block.number)), times, range }, starts);
        Ok(Ok(()))
    }

    fn histograms(
        &mut self,
        block: &Block,
        data: &[u8],
        work: &mut Work,
        out: &mut Gathered,
    ) -> Result<Result<(), Malformed>, StoreError> {
        // Most counts are a few bits, but not many have more in common.
        let bytes = 8 * data.len() + block.number as usize * size_of::<Histogram>();
        self.budget.charge(bytes)?;
        let count = block.number as usize;
        let decoded = take_histograms(block.starts, data, count, work);
        let answer = decoded.map(|samples| {
            let own = samples.into_iter().filter(|sample| self.range.contains(sample.t));
            own.for_each(|sample| out.add_histogram(sample));
        });
        self.budget.release(bytes);
        Ok(answer)
    }
}

fn take_histograms(
    has_starts: bool,
    data: &[u8],
    count: usize,
    work: &mut Work,
) -> Result<Vec<HistogramSample>, Malformed> {
    let mut reader = Reader::new(data);
    work.starts.clear();
    if has_starts {
        if count > histograms::SAMPLES_MAX {
            return Err(Malformed("too many histograms in a block"));
        }
        pack::decode(&mut reader, count, &mut work.starts)?;
    }
    let mut samples = histograms::decode(reader.rest(), count, &mut work.numbers)?;
    for (sample, start) in samples.iter_mut().zip(&work.starts) {
        sample.start = *start;
    }
    Ok(samples)
}

/// The places of the times that lie in a range.
pub fn places(times: &[i64], range: RangeMs) -> Range<usize> {
    let start = match times.first() {
        Some(first) if *first >= range.start => 0,
        _ => times.partition_point(|t| *t < range.start),
    };
    let end = match times.last() {
        Some(last) if *last <= range.end => times.len(),
        _ => times.partition_point(|t| *t <= range.end),
    };
    start..end.max(start)
}
