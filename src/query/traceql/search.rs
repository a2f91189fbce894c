//! Search: the newest traces that a query finds. Flow: blocks, newest first, give candidates by the
//! query's own filters; each candidate is joined from all blocks and judged as a whole; the search
//! ends when no block that is left can hold a newer trace than those found. Where that does not
//! happen soon, the candidates of all blocks are collected first and joined in bulk (`assemble`).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::assemble::{Open, SINGLE_MAX, gather, whole};
use super::ast::SpansetExpr;
use super::ast::{Expr, Field, Intrinsic, Query, Stage};
use super::error::QueryError;
use super::eval::Around;
use super::hints::Drivers;
use super::spanset::{self, Spanset};
use super::view::TraceView;
use crate::base::limits::QueryBudget;
use crate::model::span::{Attrs, Span, SpanId, StatusCode, TraceId, attrs_bytes};
use crate::model::time::RangeNs;
use crate::query::pace::{Held, Pace};
use crate::store::SelectTraces;

/// Memory that a remembered trace id takes, in bytes.
const SEEN_BYTES: usize = 64;

/// Memory of a named value beside its texts, in bytes.
const ENTRY_BYTES: usize = 96;

/// Most traces of a search that are looked up one by one, however many are asked for.
const SINGLE_OF_MANY_MAX: usize = 1_000;

/// What is searched.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// The query.
    pub query: Query,
    /// Traces overlap this, in nanoseconds, both ends inclusive; `None` is all time.
    pub range: Option<(i64, i64)>,
    /// Least and most duration of a trace, in nanoseconds, both inclusive.
    pub duration: (Option<i64>, Option<i64>),
    /// Most traces in the answer.
    pub limit: usize,
    /// Most spans of a span set in the answer.
    pub spans_per_set: usize,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct SearchResult {
    /// The newest traces, newest first.
    pub traces: Vec<FoundTrace>,
    /// Traces joined and judged.
    pub inspected_traces: u64,
    /// Spans read.
    pub inspected_spans: u64,
    /// Blocks in range.
    pub blocks: u64,
    /// Memory that the traces take, in bytes.
    pub bytes: usize,
}

/// A trace that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundTrace {
    /// Its id.
    pub id: TraceId,
    /// Service and name of its root; `None` when no root was received.
    pub root: Option<(String, String)>,
    /// Earliest start, in nanoseconds since the Unix epoch.
    pub start: i64,
    /// Nanoseconds to the latest end.
    pub duration_ns: i64,
    /// What matched; never empty.
    pub sets: Vec<FoundSet>,
    /// Spans and failed spans of each service.
    pub services: BTreeMap<String, (u32, u32)>,
}

/// A span set that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundSet {
    /// Spans in the set.
    pub matched: usize,
    /// What the pipeline computed of it.
    pub attributes: Attrs,
    /// Its first spans.
    pub spans: Vec<FoundSpan>,
}

/// A span that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundSpan {
    /// Its id.
    pub id: SpanId,
    /// Its name.
    pub name: String,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start: i64,
    /// Nanoseconds it took.
    pub duration_ns: i64,
    /// What the query names of it.
    pub attributes: Attrs,
}

/// Searches.
///
/// # Errors
/// [`QueryError`]: the store failed, the budget is used up, or the query is one for metrics.
pub fn search(
    store: &dyn SelectTraces,
    request: &SearchRequest,
    budget: &QueryBudget,
) -> Result<SearchResult, QueryError> {
    if request.query.metric.is_some() {
        return Err(QueryError::Invalid("a metrics query has no traces: ask /api/metrics/query_range".to_owned()));
    }
    let drivers = Drivers::of(&request.query);
    let blocks = store.blocks(request.range_ns(), &drivers.hints(), budget)?;
    let mut singly = request.limit.saturating_mul(2).clamp(SINGLE_MAX, SINGLE_OF_MANY_MAX);
    let wanted = drivers.wanted([]);
    let mut open = Open::new();
    let mut search = Search {
        request,
        shown: shown_fields(&request.query),
        seen: HashSet::new(),
        sizes: Vec::new(),
        held: Held::new(budget),
        result: SearchResult { blocks: blocks.len() as u64, ..SearchResult::default() },
    };
    for block in blocks {
        let (_, latest) = block.span();
        if search.oldest_of_enough().is_some_and(|oldest| oldest >= latest) {
            break;
        }
        budget.check()?;
        let spans = block.read(&wanted, budget)?;
        let candidates = search.candidates(&drivers, &spans, block.span(), budget)?;
        drop(spans);
        for (id, newest) in candidates {
            if search.oldest_of_enough().is_some_and(|oldest| oldest >= newest) {
                continue;
            }
            budget.charge(SEEN_BYTES)?;
            search.seen.insert(id);
            if singly > 0 {
                singly -= 1;
                let (trace, _held) = whole(store, id, budget)?;
                search.judge(&trace, budget)?;
            } else {
                open.insert(id, newest);
            }
        }
    }
    while !open.is_empty() {
        let gathered = gather(store, &mut open, request.range_ns(), budget)?;
        for trace in &gathered.traces {
            search.judge(trace, budget)?;
        }
        if let Some(oldest) = search.oldest_of_enough() {
            open.retain(|_, newest| *newest > oldest);
        }
    }
    // What was found is held until the query's budget is dropped.
    search.result.bytes = search.held.bytes();
    search.held.keep();
    Ok(search.result)
}

impl SearchRequest {
    fn range_ns(&self) -> RangeNs {
        self.range.map_or(RangeNs::ALL, |(start, end)| RangeNs { start, end: end.saturating_add(1) })
    }

    fn lasts(&self, duration_ns: i64) -> bool {
        self.duration.0.is_none_or(|least| least <= duration_ns)
            && self.duration.1.is_none_or(|most| duration_ns <= most)
    }

    fn overlaps(&self, start: i64, end: i64) -> bool {
        self.range.is_none_or(|(from, to)| from <= end && start <= to)
    }
}

struct Search<'a> {
    /// Memory of what was found.
    held: Held<'a>,
    /// The same for each trace of the result.
    sizes: Vec<usize>,
    request: &'a SearchRequest,
    shown: Vec<&'a Field>,
    /// Traces judged already.
    seen: HashSet<TraceId>,
    result: SearchResult,
}

impl Search<'_> {
    /// The start of the oldest trace found, once there are enough.
    fn oldest_of_enough(&self) -> Option<i64> {
        let full = self.result.traces.len() >= self.request.limit;
        self.result.traces.last().filter(|_| full).map(|trace| trace.start)
    }

    /// Traces not judged yet with a span that some driver may match and one in range, and a time
    /// that their start is not after; newest first. A block often holds far more than the range.
    fn candidates(
        &mut self,
        drivers: &Drivers<'_>,
        spans: &[Span],
        bounds: (i64, i64),
        budget: &QueryBudget,
    ) -> Result<Vec<(TraceId, i64)>, QueryError> {
        budget.touch(spans.len())?;
        self.result.inspected_spans += spans.len() as u64;
        let pace = Pace::new(budget);
        let mut found: HashMap<TraceId, i64> = HashMap::new();
        for span in spans {
            pace.go(64)?;
            if let Some(start) = found.get_mut(&span.trace_id) {
                *start = span.start.min(*start);
            } else if !self.seen.contains(&span.trace_id) && drivers.may_match(span, &pace) {
                found.insert(span.trace_id, span.start);
            }
        }
        pace.result()?;
        if self.request.range.is_some_and(|(start, end)| bounds.0 < start || end < bounds.1) {
            let in_range = spans.iter().filter(|span| self.request.overlaps(span.start, span.end));
            let in_range: HashSet<TraceId> = in_range.map(|span| span.trace_id).collect();
            found.retain(|id, _| in_range.contains(id));
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable_by_key(|(id, start)| (std::cmp::Reverse(*start), *id));
        Ok(found)
    }

    /// Keeps a whole trace when it is in range, matches, and is among the newest.
    fn judge(&mut self, trace: &TraceView, budget: &QueryBudget) -> Result<(), QueryError> {
        self.result.inspected_traces += 1;
        let in_range = self.request.overlaps(trace.start(), trace.end());
        if trace.spans.is_empty() || !in_range || !self.request.lasts(trace.duration_ns()) {
            return Ok(());
        }
        let sets = spanset::run(&self.request.query.stages, trace, budget)?;
        if sets.is_empty() {
            return Ok(());
        }
        let before = self.held.bytes();
        let found = self.describe(trace, &sets, &Pace::new(budget))?;
        let at = self.result.traces.partition_point(|own| (own.start, found.id) > (found.start, own.id));
        self.result.traces.insert(at, found);
        self.sizes.insert(at, self.held.bytes() - before);
        if self.result.traces.len() > self.request.limit {
            self.result.traces.pop();
            self.held.give_back(self.sizes.pop().unwrap_or_default());
        }
        Ok(())
    }

    fn describe(&self, trace: &TraceView, sets: &[Spanset], pace: &Pace<'_>) -> Result<FoundTrace, QueryError> {
        let mut services: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for span in &trace.spans {
            pace.go(64)?;
            let service = span.resource.service_name();
            if !services.contains_key(service) {
                self.held.add(service.len() + ENTRY_BYTES)?;
                services.insert(service.to_owned(), (0, 0));
            }
            if let Some((spans, errors)) = services.get_mut(service) {
                *spans += 1;
                *errors += u32::from(span.status == StatusCode::Error);
            }
        }
        let root = trace.root().map(|root| (root.resource.service_name(), root.name.as_str()));
        self.held.add(size_of::<FoundTrace>() + root.map_or(0, |(service, name)| service.len() + name.len()))?;
        Ok(FoundTrace {
            id: trace.id(),
            root: root.map(|(service, name)| (service.to_owned(), name.to_owned())),
            start: trace.start(),
            duration_ns: trace.duration_ns(),
            sets: sets.iter().map(|set| self.describe_set(trace, set, pace)).collect::<Result<_, _>>()?,
            services,
        })
    }

    fn describe_set(&self, trace: &TraceView, set: &Spanset, pace: &Pace<'_>) -> Result<FoundSet, QueryError> {
        self.held.add(size_of::<FoundSet>() + attrs_bytes(&set.attributes))?;
        let mut spans = Vec::new();
        for at in set.spans.iter().take(self.request.spans_per_set) {
            let around = Around::within(trace, *at);
            pace.go(64 * (1 + self.shown.len()))?;
            self.held.add(size_of::<FoundSpan>() + around.span.name.len())?;
            let mut attributes = Attrs::new();
            for field in &self.shown {
                // A resource's value is shown with each of its spans.
                let Some(value) = around.field(field).to_attr() else { continue };
                self.held.add(ENTRY_BYTES + field.key().len() + value.bytes())?;
                attributes.push((field.key().to_owned(), value));
            }
            spans.push(FoundSpan {
                id: around.span.span_id,
                name: around.span.name.clone(),
                start: around.span.start,
                duration_ns: around.span.duration_ns(),
                attributes,
            });
        }
        Ok(FoundSet { matched: set.spans.len(), attributes: set.attributes.clone(), spans })
    }
}

/// The fields that a query names, once each, without those that every found span has anyway.
fn shown_fields(query: &Query) -> Vec<&Field> {
    let mut shown: Vec<&Field> = Vec::new();
    let mut known: HashSet<&str> = HashSet::new();
    fields_of_stages(&query.stages, &mut |field| {
        let had_anyway = matches!(
            field.intrinsic(),
            Some(Intrinsic::Name | Intrinsic::Duration | Intrinsic::SpanId | Intrinsic::TraceId)
        );
        if !had_anyway && known.insert(field.key()) {
            shown.push(field);
        }
    });
    shown
}

fn fields_of_stages<'a>(stages: &'a [Stage], visit: &mut dyn FnMut(&'a Field)) {
    for stage in stages {
        match stage {
            Stage::Spanset(expr) => fields_of_spanset(expr, visit),
            Stage::Scalar { of: Some(expr), .. } | Stage::By { expr, .. } => Expr::each_field(expr, visit),
            Stage::Select(fields) => fields.iter().for_each(&mut *visit),
            Stage::Scalar { of: None, .. } | Stage::Coalesce => {}
        }
    }
}

fn fields_of_spanset<'a>(expr: &'a SpansetExpr, visit: &mut dyn FnMut(&'a Field)) {
    match expr {
        SpansetExpr::Filter(filter) => {
            if let Some(filter) = filter {
                filter.each_field(visit);
            }
        }
        SpansetExpr::Pipeline(stages) => fields_of_stages(stages, visit),
        SpansetExpr::And(left, right) | SpansetExpr::Or(left, right) | SpansetExpr::Structural(_, _, left, right) => {
            fields_of_spanset(left, visit);
            fields_of_spanset(right, visit);
        }
    }
}
