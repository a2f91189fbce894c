//! Reading: heads and parts as one.
//! Invariants: a query holds what it reads of a head or part by `Arc`, so a flush or retention under
//! it changes nothing; memory is charged while spans are decoded and given back when they are handed
//! over; a damaged block is logged, counted and left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::facets::{self, Facet, Facets, OPERATIONS, Operation, Values};
use super::head::{Chunk, Head};
use super::part::{OpenPart, TracesPart};
use super::spanset::{self, DecodeError, Decoded, SpanSet};
use super::survey::Surveyor;
use super::terms::may_match;
use super::{TracesKind, TracesStore};
use crate::base::limits::QueryBudget;
use crate::model::batch::Signal;
use crate::model::span::{AttrValue, Span, SpanKind, TraceId};
use crate::model::time::RangeNs;
use crate::store::codec::Malformed;
use crate::store::error::StoreError;
use crate::store::lane::View;
use crate::store::part::PartId;
use crate::store::waist::{AttrScope, SelectTraces, ServiceOperations, SpanBlock, SpanHint, WantedAttrs};

/// Chunks of a head are read together up to about so many spans.
const HEAD_BLOCK_SPANS: usize = 4_000;

/// Spans between two looks at the deadline.
const SPANS_PER_CHECK: usize = 1_024;

/// Memory, which has no path, holds what cannot be decoded.
fn damaged_head(Malformed(what): Malformed) -> StoreError {
    StoreError::Damaged { path: Path::new("(head of traces)").to_owned(), what: what.to_owned() }
}

fn decode_head(
    chunk: &Chunk,
    hints: &[SpanHint],
    wanted: &WantedAttrs,
    budget: &QueryBudget,
    want: impl Fn(TraceId) -> bool,
) -> Result<Decoded, StoreError> {
    let raw = chunk.unpack().map_err(damaged_head)?;
    let set = SpanSet::parse(&raw).map_err(damaged_head)?;
    if !may_match(&set, hints) {
        return Ok(Decoded { spans: Vec::new(), charged: 0 });
    }
    set.spans(wanted, budget, |_, trace| want(trace)).map_err(|error| match error {
        DecodeError::Malformed(error) => damaged_head(error),
        DecodeError::Limit(error) => StoreError::Limit(error),
    })
}

/// Spans of a block; none when it is damaged.
fn decode_block(
    part: &TracesPart,
    block: usize,
    hints: &[SpanHint],
    wanted: &WantedAttrs,
    budget: &QueryBudget,
    want: impl Fn(TraceId) -> bool,
) -> Result<Decoded, StoreError> {
    let none = Decoded { spans: Vec::new(), charged: 0 };
    let Some(raw) = part.block(block)? else { return Ok(none) };
    let decoded = SpanSet::parse(&raw).map_err(DecodeError::from).and_then(|set| {
        if may_match(&set, hints) { set.spans(wanted, budget, |_, trace| want(trace)) } else { Ok(none) }
    });
    match decoded {
        Ok(decoded) => Ok(decoded),
        Err(DecodeError::Limit(error)) => Err(StoreError::Limit(error)),
        Err(DecodeError::Malformed(error)) => {
            part.note(&error, "spans of a block cannot be read");
            Ok(Decoded { spans: Vec::new(), charged: 0 })
        }
    }
}

struct HeadBlock {
    chunks: Vec<Arc<Chunk>>,
    hints: Arc<[SpanHint]>,
}

impl SpanBlock for HeadBlock {
    fn span(&self) -> (i64, i64) {
        let first = self.chunks.iter().map(|chunk| chunk.min_start).min();
        let last = self.chunks.iter().map(|chunk| chunk.max_end).max();
        (first.unwrap_or_default(), last.unwrap_or_default())
    }

    fn spans(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.spans as u64).sum()
    }

    fn read(&self, wanted: &WantedAttrs, budget: &QueryBudget) -> Result<Vec<Span>, StoreError> {
        let mut all = Vec::new();
        for chunk in &self.chunks {
            budget.check()?;
            let decoded = decode_head(chunk, &self.hints, wanted, budget, |_| true)?;
            budget.release(decoded.charged);
            all.extend(decoded.spans);
        }
        Ok(all)
    }
}

struct PartBlock {
    part: Arc<OpenPart>,
    number: usize,
    span: (i64, i64),
    spans: u64,
    hints: Arc<[SpanHint]>,
}

impl SpanBlock for PartBlock {
    fn span(&self) -> (i64, i64) {
        self.span
    }

    fn spans(&self) -> u64 {
        self.spans
    }

    fn read(&self, wanted: &WantedAttrs, budget: &QueryBudget) -> Result<Vec<Span>, StoreError> {
        budget.check()?;
        let decoded = decode_block(&self.part, self.number, &self.hints, wanted, budget, |_| true)?;
        budget.release(decoded.charged);
        Ok(decoded.spans)
    }
}

fn head_blocks(head: &Head, range: RangeNs, hints: &Arc<[SpanHint]>, blocks: &mut Vec<Box<dyn SpanBlock>>) {
    let mut chunks = head.chunks();
    chunks.retain(|chunk| range.overlaps(chunk.min_start, chunk.max_end));
    let mut rest = chunks.as_slice();
    while !rest.is_empty() {
        let mut spans = 0;
        let full = |chunk: &Arc<Chunk>| {
            spans += chunk.spans;
            spans >= HEAD_BLOCK_SPANS
        };
        let len = rest.iter().position(full).map_or(rest.len(), |at| at + 1);
        let (taken, after) = rest.split_at(len);
        blocks.push(Box::new(HeadBlock { chunks: taken.to_vec(), hints: hints.clone() }));
        rest = after;
    }
}

fn part_blocks(part: &Arc<OpenPart>, range: RangeNs, hints: &Arc<[SpanHint]>, blocks: &mut Vec<Box<dyn SpanBlock>>) {
    let by_text = part.blocks_with(hints);
    for (number, block) in part.blocks().iter().enumerate() {
        let may_hold = |hint: &SpanHint| match hint {
            SpanHint::Service(service) => part.may_have_service(block, service),
            SpanHint::Name(name) => part.may_have_name(block, name),
            SpanHint::Attr { .. } => true,
        };
        let in_text = by_text.as_ref().is_none_or(|found| found.contains(number as u32));
        if in_text && range.overlaps(block.min_start, block.max_end) && hints.iter().all(may_hold) {
            blocks.push(Box::new(PartBlock {
                part: part.clone(),
                number,
                span: (block.min_start, block.max_end),
                spans: block.spans,
                hints: hints.clone(),
            }));
        }
    }
}

fn part_id(part: &TracesPart) -> PartId {
    (part.reader().info().seq, part.reader().info().index)
}

impl TracesStore {
    /// Heads and parts that may have spans in a range.
    fn view(&self, range: RangeNs) -> Result<View<TracesKind>, StoreError> {
        let View { mut heads, parts } = self.lane.whole_view()?;
        heads.retain(|head| head.chunks().iter().any(|chunk| range.overlaps(chunk.min_start, chunk.max_end)));
        let parts = parts.iter().filter(|part| part.overlaps(range)).cloned().collect();
        Ok(View { heads, parts: Arc::new(parts) })
    }

    fn head_facets(head: &Head) -> Result<Arc<Facets>, StoreError> {
        head.facets().map_err(damaged_head)
    }

    fn part_names(&self, part: &TracesPart) -> Result<BTreeSet<(AttrScope, String)>, StoreError> {
        let listed = self.lane.env().catalog.label_names(Signal::Traces, part_id(part));
        if let Some(names) = listed.as_ref().and_then(facets::names_from_catalog) {
            return Ok(names);
        }
        Ok(part.facets()?.names().map(|(scope, name)| (scope, name.clone())).collect())
    }

    fn part_values(&self, part: &TracesPart, scope: AttrScope, name: &str) -> Result<Values, StoreError> {
        let catalog = &self.lane.env().catalog;
        if let Some(values) = catalog.label_values(Signal::Traces, part_id(part), &facets::catalog_name(scope, name))
            && let Some(listed) = facets::values_from_catalog(&values)
            && !listed.is_empty()
        {
            return Ok(Values { listed: listed.into_iter().collect(), more: false });
        }
        Ok(part.facets()?.values(scope, name))
    }

    fn part_operations(&self, part: &TracesPart) -> Result<BTreeSet<Operation>, StoreError> {
        match self.lane.env().catalog.label_values(Signal::Traces, part_id(part), OPERATIONS) {
            Some(values) if !values.is_empty() => Ok(facets::operations_from_catalog(&values)),
            _ => Ok(part.facets()?.operations().clone()),
        }
    }
}

/// Collects distinct values up to a limit.
struct Found<'q> {
    values: BTreeSet<Facet>,
    limit: usize,
    scopes: &'q [AttrScope],
    name: &'q str,
}

impl Found<'_> {
    fn full(&self) -> bool {
        self.values.len() >= self.limit
    }

    fn add(&mut self, facet: Facet) {
        if !self.full() {
            self.values.insert(facet);
        }
    }

    /// Reads the values in a span set.
    fn read(&mut self, set: &SpanSet<'_>) -> Result<(), Malformed> {
        let (scopes, name) = (self.scopes, self.name);
        let resources = set.resources().iter().map(|resource| (AttrScope::Resource, &resource.attrs));
        let instrumentations = set.scopes().iter().map(|scope| (AttrScope::Instrumentation, &scope.attrs));
        for (scope, attrs) in resources.chain(instrumentations) {
            for (_, value) in attrs.iter().filter(|(own, _)| own == name && scopes.contains(&scope)) {
                Facet::each(value, &mut |facet| self.add(facet));
            }
        }
        for column in set.columns() {
            if column.key == name && scopes.contains(&facets::scope_of(column.owner)) {
                column.values(|value| {
                    Facet::each(value, &mut |facet| self.add(facet));
                    !self.full()
                })?;
            }
        }
        Ok(())
    }
}

impl TracesStore {
    fn values_of_head(&self, head: &Head, found: &mut Found<'_>, budget: &QueryBudget) -> Result<(), StoreError> {
        let listed = Self::head_facets(head)?;
        let mut more = false;
        for scope in found.scopes {
            let values = listed.values(*scope, found.name);
            more |= values.more;
            values.listed.into_iter().for_each(|facet| found.add(facet));
        }
        if more {
            for chunk in head.chunks() {
                if found.full() {
                    break;
                }
                budget.touch(chunk.spans)?;
                let raw = chunk.unpack().map_err(damaged_head)?;
                SpanSet::parse(&raw).and_then(|set| found.read(&set)).map_err(damaged_head)?;
            }
        }
        Ok(())
    }

    fn values_of_part(&self, part: &TracesPart, found: &mut Found<'_>, budget: &QueryBudget) -> Result<(), StoreError> {
        let mut more = false;
        for scope in found.scopes {
            let values = self.part_values(part, *scope, found.name)?;
            more |= values.more;
            values.listed.into_iter().for_each(|facet| found.add(facet));
        }
        if more {
            for (number, block) in part.blocks().iter().enumerate() {
                if found.full() {
                    break;
                }
                budget.touch(usize::try_from(block.spans).unwrap_or(usize::MAX))?;
                let Some(raw) = part.block(number)? else { continue };
                if let Err(error) = SpanSet::parse(&raw).and_then(|set| found.read(&set)) {
                    part.note(&error, "spans of a block cannot be read");
                }
            }
        }
        Ok(())
    }
}

impl SelectTraces for TracesStore {
    fn trace(&self, id: TraceId, budget: &QueryBudget) -> Result<Vec<Span>, StoreError> {
        let view = self.lane.whole_view()?;
        let (mut spans, mut charged) = (Vec::new(), 0);
        let mut take = |decoded: Decoded| {
            charged += decoded.charged;
            spans.extend(decoded.spans);
        };
        for part in view.parts.iter() {
            budget.check()?;
            for block in part.lookup(id)? {
                take(decode_block(part, block as usize, &[], &WantedAttrs::All, budget, |trace| trace == id)?);
            }
        }
        for chunk in view.heads.iter().flat_map(|head| head.chunks()).filter(|chunk| chunk.has(id)) {
            take(decode_head(&chunk, &[], &WantedAttrs::All, budget, |trace| trace == id)?);
        }
        budget.release(charged);
        each_once(spans, self.lane.kind(), budget)
    }

    fn blocks(
        &self,
        range: RangeNs,
        hints: &[SpanHint],
        budget: &QueryBudget,
    ) -> Result<Vec<Box<dyn SpanBlock>>, StoreError> {
        let hints: Arc<[SpanHint]> = hints.into();
        let view = self.lane.whole_view()?;
        let mut blocks = Vec::new();
        for part in view.parts.iter() {
            budget.check()?;
            part_blocks(part, range, &hints, &mut blocks);
        }
        view.heads.iter().for_each(|head| head_blocks(head, range, &hints, &mut blocks));
        blocks.sort_by_cached_key(|block| std::cmp::Reverse(block.span().1));
        Ok(blocks)
    }

    fn tag_names(&self, range: RangeNs, budget: &QueryBudget) -> Result<Vec<(AttrScope, String)>, StoreError> {
        let view = self.view(range)?;
        let mut names = BTreeSet::new();
        for head in &view.heads {
            names.extend(Self::head_facets(head)?.names().map(|(scope, name)| (scope, name.clone())));
        }
        for part in view.parts.iter() {
            budget.check()?;
            names.extend(self.part_names(part)?);
        }
        Ok(names.into_iter().collect())
    }

    fn tag_values(
        &self,
        scopes: &[AttrScope],
        name: &str,
        range: RangeNs,
        limit: usize,
        budget: &QueryBudget,
    ) -> Result<Vec<AttrValue>, StoreError> {
        let view = self.view(range)?;
        let mut found = Found { values: BTreeSet::new(), limit, scopes, name };
        for head in view.heads.iter().rev() {
            self.values_of_head(head, &mut found, budget)?;
        }
        for part in view.parts.iter().rev() {
            if found.full() {
                break;
            }
            budget.check()?;
            self.values_of_part(part, &mut found, budget)?;
        }
        Ok(found.values.iter().map(Facet::value).collect())
    }

    fn services(&self, budget: &QueryBudget) -> Result<Vec<ServiceOperations>, StoreError> {
        let view = self.lane.whole_view()?;
        let mut operations = BTreeSet::new();
        for head in &view.heads {
            operations.extend(Self::head_facets(head)?.operations().iter().cloned());
        }
        for part in view.parts.iter() {
            budget.check()?;
            operations.extend(self.part_operations(part)?);
        }
        let mut services: BTreeMap<String, Vec<(String, SpanKind)>> = BTreeMap::new();
        for (service, name, kind) in operations {
            services.entry(service).or_default().push((name, SpanKind::from_number(i64::from(kind))));
        }
        Ok(services.into_iter().collect())
    }
}

/// Sorts by start and id and drops copies of a span that came too late to be known as such. Spans that share
/// both are ordered by what they hold, for where they lie changes with flushes and restarts.
fn each_once(spans: Vec<Span>, kind: &TracesKind, budget: &QueryBudget) -> Result<Vec<Span>, StoreError> {
    let mut surveyor = Surveyor::new(&kind.hashes);
    let mut keyed = Vec::with_capacity(spans.len());
    for (at, span) in spans.into_iter().enumerate() {
        if at % SPANS_PER_CHECK == 0 {
            budget.check()?;
        }
        keyed.push((surveyor.survey(&span).ok().map(|found| found.key), span));
    }
    keyed.sort_by_key(|(key, span)| (span.start, span.span_id, *key));
    keyed.dedup_by(|later, first| later.0.is_some() && later.0 == first.0);
    for same in keyed.chunk_by_mut(|(_, a), (_, b)| (a.start, a.span_id) == (b.start, b.span_id)) {
        if same.len() > 1 {
            budget.check()?;
            same.sort_by_cached_key(|(_, span)| spanset::encode(&[span]));
        }
    }
    Ok(keyed.into_iter().map(|(_, span)| span).collect())
}
