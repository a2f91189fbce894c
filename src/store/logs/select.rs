//! Reading: chunks of streams from heads and parts as one.
//! Flow: every chunk of a head and every run of a part that can have rows in range is a source;
//! the sources of a stream that overlap in time form a group, which is cut into windows of time so
//! that a read stays small; a window reads its sources when it is asked to, and merges them.
//! Invariants: windows of one stream do not overlap; sources are in the order they came. What was not
//! asked for is not read, unless it takes lines and metadata to tell what came twice. A damaged source
//! counts as empty and is named in the log, so that the rest of an answer is not lost with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::AHashMap;

use super::LogsStore;
use super::cache::FrameCache;
use super::kind::{Chunk, LogsKind};
use super::part::{LogsPart, Run};
use super::rows::{ROW_BYTES, Rows, interleave, merge, needs_text};
use crate::base::counters::Cell;
use crate::base::limits::QueryBudget;
use crate::model::batch::Signal;
use crate::model::labels::Labels;
use crate::model::log::{LogRows, TextColumn};
use crate::model::matcher::{Matcher, all_match};
use crate::model::time::RangeNs;
use crate::store::error::StoreError;
use crate::store::lane::View;
use crate::store::waist::{LineHints, LogChunk, LogColumns, LogStats, SelectLogs};

/// A group with more bytes of lines is cut into windows of about this many.
const WINDOW_BYTES: usize = if cfg!(test) { 8 << 10 } else { 4 << 20 };
/// What the handle of a source takes, roughly.
const SOURCE_BYTES: usize = 128;

/// Rows of one stream that lie together.
#[derive(Clone)]
enum Source {
    Head(Chunk),
    Part(Arc<LogsPart>, Run),
}

impl Source {
    fn span(&self) -> (i64, i64) {
        match self {
            Self::Head(chunk) => chunk.span(),
            Self::Part(_, run) => run.span,
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Head(chunk) => chunk.rows(),
            Self::Part(_, run) => run.rows as usize,
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Head(chunk) => chunk.text_bytes(),
            Self::Part(_, run) => run.text_bytes as usize,
        }
    }

    fn read(&self, text: bool, metadata: bool, shared: &Shared) -> Result<Rows, StoreError> {
        let read = match self {
            Self::Head(chunk) => chunk
                .read(text, metadata)
                .map_err(|error| StoreError::Damaged { path: "memory".into(), what: error.to_string() }),
            Self::Part(part, run) => part.read(run, text, metadata, &shared.cache),
        };
        match read {
            Err(error @ StoreError::Damaged { .. }) => {
                shared.damaged.inc();
                if !shared.told.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "a block of lines cannot be read and is left out of answers");
                }
                Ok(Rows::default())
            }
            read => read,
        }
    }
}

struct Shared {
    cache: Arc<FrameCache>,
    damaged: Cell,
    /// One line in the log per select is enough.
    told: AtomicBool,
}

type Sources = AHashMap<Labels, Vec<Source>>;

/// Remembers which label sets match, so that one that is in many parts is asked once.
struct Matching<'a> {
    matchers: &'a [Matcher],
    known: AHashMap<Labels, bool>,
}

impl<'a> Matching<'a> {
    fn new(matchers: &'a [Matcher]) -> Self {
        Self { matchers, known: AHashMap::new() }
    }

    fn test(&mut self, labels: &Labels) -> bool {
        if self.matchers.is_empty() {
            return true;
        }
        if let Some(known) = self.known.get(labels) {
            return *known;
        }
        let matches = all_match(self.matchers, labels);
        self.known.insert(labels.clone(), matches);
        matches
    }
}

impl LogsStore {
    /// The sources of matching streams with rows in range, each stream's in the order they came.
    fn sources(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        hints: &LineHints,
        budget: &QueryBudget,
    ) -> Result<Sources, StoreError> {
        let mut found = Sources::new();
        let view = self.lane.whole_view()?;
        let mut matching = Matching::new(matchers);
        for part in view.parts.iter() {
            budget.check()?;
            let info = part.0.reader().info();
            if range.overlaps(info.min_t, info.max_t) || part.0.reader().salvaged().is_some() {
                part_sources(&part.0, &mut matching, range, hints, budget, &mut found)?;
            }
        }
        for head in &view.heads {
            budget.check()?;
            for stream in head.streams() {
                if !all_match(matchers, &stream.labels) {
                    continue;
                }
                let mut chunks = Chunk::of(&stream);
                chunks.retain(|chunk| range.overlaps(chunk.span().0, chunk.span().1));
                if !chunks.is_empty() {
                    budget.charge(chunks.len() * SOURCE_BYTES)?;
                    found.entry(stream.labels.clone()).or_default().extend(chunks.into_iter().map(Source::Head));
                }
            }
        }
        Ok(found)
    }

    /// Label sets of matching streams in parts and heads that may have lines in range.
    fn matching_labels(
        &self,
        view: &View<LogsKind>,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
        mut visit: impl FnMut(&Labels),
    ) -> Result<(), StoreError> {
        let mut matching = Matching::new(matchers);
        for part in view.parts.iter() {
            budget.check()?;
            let mut last = u32::MAX;
            for run in part.0.runs.iter().filter(|run| range.overlaps(run.span.0, run.span.1)) {
                if run.stream != last
                    && let Some(labels) = part.0.labels(run)
                    && matching.test(labels)
                {
                    visit(labels);
                }
                last = run.stream;
            }
        }
        self.head_labels(view, matchers, range, budget, visit)
    }

    fn head_labels(
        &self,
        view: &View<LogsKind>,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
        mut visit: impl FnMut(&Labels),
    ) -> Result<(), StoreError> {
        for head in &view.heads {
            budget.check()?;
            for stream in head.streams().iter().filter(|stream| all_match(matchers, &stream.labels)) {
                if Chunk::of(stream).iter().any(|chunk| range.overlaps(chunk.span().0, chunk.span().1)) {
                    visit(&stream.labels);
                }
            }
        }
        Ok(())
    }

    /// Without matchers, names and values of parts come from the catalog: `listed` asks it, and a
    /// part it does not answer for is read.
    fn collect(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
        listed: impl Fn(&LogsPart) -> Option<Vec<String>>,
        own: impl Fn(&Labels, &mut dyn FnMut(&str)),
    ) -> Result<Vec<String>, StoreError> {
        let mut found = std::collections::BTreeSet::new();
        let view = self.lane.whole_view()?;
        let mut charged = Ok(());
        let mut add = |text: &str| {
            if charged.is_ok() && !found.contains(text) {
                charged = budget.charge(text.len() + 48);
                found.insert(text.to_owned());
            }
        };
        if !matchers.is_empty() {
            self.matching_labels(&view, matchers, range, budget, |labels| own(labels, &mut add))?;
        } else {
            for part in view.parts.iter() {
                budget.check()?;
                let info = part.0.reader().info();
                if !range.overlaps(info.min_t, info.max_t) {
                    continue;
                }
                match listed(&part.0) {
                    Some(texts) => texts.iter().for_each(|text| add(text)),
                    None => part.0.streams.iter().for_each(|labels| own(labels, &mut add)),
                }
            }
            self.head_labels(&view, matchers, range, budget, |labels| own(labels, &mut add))?;
        }
        charged?;
        Ok(found.into_iter().collect())
    }
}

fn part_sources(
    part: &Arc<LogsPart>,
    matching: &mut Matching<'_>,
    range: RangeNs,
    hints: &LineHints,
    budget: &QueryBudget,
    found: &mut Sources,
) -> Result<(), StoreError> {
    let without = part.packs_without(&hints.contains);
    let (mut last, mut wanted) = (u32::MAX, false);
    for run in &part.runs {
        if !range.overlaps(run.span.0, run.span.1) {
            continue;
        }
        let Some(labels) = part.labels(run) else { continue };
        if run.stream != last {
            (last, wanted) = (run.stream, matching.test(labels));
        }
        let number = part.packs.get(run.pack as usize).map_or(0, |pack| pack.number);
        if wanted && !without.as_ref().is_some_and(|without| without.contains(number)) {
            budget.charge(SOURCE_BYTES)?;
            found.entry(labels.clone()).or_default().push(Source::Part(part.clone(), *run));
        }
    }
    Ok(())
}

/// Rows of one stream in a window of time.
struct Window {
    labels: Labels,
    /// First and last time that the window gives, both inclusive.
    span: (i64, i64),
    range: RangeNs,
    sources: Vec<Source>,
    shared: Arc<Shared>,
}

/// Divides the sources of a stream into windows.
fn windows(
    labels: &Labels,
    sources: &[Source],
    range: RangeNs,
    shared: &Arc<Shared>,
    out: &mut Vec<Box<dyn LogChunk>>,
) {
    let mut order: Vec<(usize, &Source)> = sources.iter().enumerate().collect();
    order.sort_by_key(|(_, source)| source.span().0);
    let mut rest = order.as_slice();
    while let Some((_, first)) = rest.first() {
        let mut end = first.span().1;
        let overlaps = |(_, source): &&(usize, &Source)| {
            let overlaps = source.span().0 <= end;
            end = if overlaps { end.max(source.span().1) } else { end };
            overlaps
        };
        let count = rest.iter().take_while(overlaps).count().max(1);
        let (group, later) = rest.split_at(count);
        for span in cuts(group, end) {
            let inside = |source: &Source| source.span().0 <= span.1 && source.span().1 >= span.0;
            let mut own: Vec<(usize, &Source)> = group.iter().filter(|(_, source)| inside(source)).copied().collect();
            own.sort_by_key(|(at, _)| *at);
            let sources = own.into_iter().map(|(_, source)| source.clone()).collect();
            if range.overlaps(span.0, span.1) {
                out.push(Box::new(Window { labels: labels.clone(), span, range, sources, shared: shared.clone() }));
            }
        }
        rest = later;
    }
}

/// Where a group, sorted by beginnings, is cut: at the beginning of a source, about every
/// [`WINDOW_BYTES`].
fn cuts(group: &[(usize, &Source)], end: i64) -> Vec<(i64, i64)> {
    let mut spans = Vec::new();
    let Some((_, first)) = group.first() else { return spans };
    let (mut start, mut bytes) = (first.span().0, 0);
    for (_, source) in group {
        if bytes > WINDOW_BYTES && source.span().0 > start {
            spans.push((start, source.span().0 - 1));
            (start, bytes) = (source.span().0, 0);
        }
        bytes += source.text_bytes() + source.rows() * ROW_BYTES;
    }
    spans.push((start, end));
    spans
}

impl Window {
    fn load(
        &self,
        text: bool,
        metadata: bool,
        budget: &QueryBudget,
        charged: &mut usize,
    ) -> Result<Vec<Rows>, StoreError> {
        let min = self.span.0.max(self.range.start);
        let max = self.span.1.min(self.range.end.saturating_sub(1));
        let mut loaded = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            budget.check()?;
            let reading = source.rows() * ROW_BYTES + if text { source.text_bytes() } else { 0 };
            budget.charge(reading)?;
            *charged += reading;
            let rows = source.read(text, metadata, &self.shared)?;
            let rows = if text { rows.between(min, max) } else { rows.without_text().between(min, max) };
            let kept = rows.bytes();
            if kept > reading {
                budget.charge(kept - reading)?;
            } else {
                budget.release(reading - kept);
            }
            *charged = *charged + kept - reading;
            loaded.push(rows);
        }
        Ok(loaded)
    }

    fn rows(&self, columns: LogColumns, budget: &QueryBudget, charged: &mut usize) -> Result<Rows, StoreError> {
        let mut loaded = self.load(columns.lines, columns.metadata, budget, charged)?;
        let mut whole = columns.lines && columns.metadata;
        if !whole && needs_text(&loaded, true) {
            loaded = self.load(true, true, budget, charged)?;
            whole = true;
        }
        budget.charge(if loaded.len() > 1 { loaded.iter().map(Rows::bytes).sum() } else { 0 })?;
        *charged += if loaded.len() > 1 { loaded.iter().map(Rows::bytes).sum() } else { 0 };
        Ok(if whole { merge(loaded) } else { interleave(loaded) })
    }
}

impl LogChunk for Window {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn span(&self) -> (i64, i64) {
        self.span
    }

    fn read(&self, columns: LogColumns, budget: &QueryBudget) -> Result<LogRows, StoreError> {
        let mut charged = 0;
        let rows = self.rows(columns, budget, &mut charged);
        budget.release(charged);
        let rows = rows?;
        budget.touch(rows.len())?;
        let metadata = match (columns.metadata, rows.metadata.is_empty()) {
            (true, true) => vec![Labels::default(); rows.len()],
            (true, false) => rows.metadata,
            (false, _) => Vec::new(),
        };
        let mut lines = TextColumn::default();
        if columns.lines {
            let mut end = 0u32;
            let ends = rows.line_bytes.iter().map(|bytes| {
                end = end.saturating_add(*bytes);
                end
            });
            lines = TextColumn::from_parts(rows.text, ends.collect()).ok_or_else(|| StoreError::Damaged {
                path: "memory".into(),
                what: format!("lines of {} do not fit their lengths", self.labels),
            })?;
        }
        Ok(LogRows { times: rows.times, lines, line_bytes: rows.line_bytes, metadata })
    }
}

impl SelectLogs for LogsStore {
    fn chunks(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        hints: &LineHints,
        budget: &QueryBudget,
    ) -> Result<Vec<Box<dyn LogChunk>>, StoreError> {
        let kind = self.lane.kind();
        let told = AtomicBool::new(false);
        let shared = Arc::new(Shared { cache: kind.cache.clone(), damaged: kind.damaged.clone(), told });
        let mut out = Vec::new();
        for (labels, sources) in self.sources(matchers, range, hints, budget)? {
            windows(&labels, &sources, range, &shared, &mut out);
        }
        Ok(out)
    }

    fn series(&self, matchers: &[Matcher], range: RangeNs, budget: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        let mut found = std::collections::BTreeSet::new();
        let mut charged = Ok(());
        self.matching_labels(&self.lane.whole_view()?, matchers, range, budget, |labels| {
            if charged.is_ok() && !found.contains(labels) {
                charged = budget.charge(SOURCE_BYTES);
                found.insert(labels.clone());
            }
        })?;
        charged?;
        Ok(found.into_iter().collect())
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let listed = |part: &LogsPart| {
            let info = part.reader().info();
            let names = self.lane.env().catalog.label_names(Signal::Logs, (info.seq, info.index))?;
            Some(names.into_iter().collect())
        };
        self.collect(matchers, range, budget, listed, |labels, add| labels.iter().for_each(|(name, _)| add(name)))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let listed = |part: &LogsPart| {
            let info = part.reader().info();
            self.lane.env().catalog.label_values(Signal::Logs, (info.seq, info.index), name)
        };
        self.collect(matchers, range, budget, listed, |labels, add| labels.get(name).into_iter().for_each(add))
    }

    fn stats(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
    ) -> Result<Vec<(Labels, LogStats)>, StoreError> {
        let found = self.sources(matchers, range, &LineHints::default(), budget)?;
        let mut stats: Vec<(Labels, LogStats)> = found
            .into_iter()
            .map(|(labels, sources)| {
                let mut sum = LogStats { streams: 1, chunks: sources.len() as u64, ..LogStats::default() };
                for source in &sources {
                    let share = share_in_range(source.span(), range);
                    sum.bytes += (source.text_bytes() as f64 * share).round() as u64;
                    sum.entries += (source.rows() as f64 * share).round() as u64;
                }
                (labels, sum)
            })
            .collect();
        stats.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(stats)
    }
}

/// How much of a span lies in range, taking rows to be spread evenly; at least something.
fn share_in_range((min, max): (i64, i64), range: RangeNs) -> f64 {
    let inside = (min.max(range.start), max.min(range.end.saturating_sub(1)));
    let length = |(from, to): (i64, i64)| (i128::from(to) - i128::from(from) + 1).max(1) as f64;
    length(inside) / length((min, max))
}
