//! Joins many traces at once. One trace is looked up by its id; thousands are gathered by reading
//! the blocks again, as often as memory allows only a part of them at a time.
//! Gathering reads an hour more than the range on either side: what a trace sends earlier or later
//! than that is left out of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::error::QueryError;
use super::view::TraceView;
use crate::base::limits::QueryBudget;
use crate::model::span::{Span, TraceId, spans_bytes};
use crate::model::time::RangeNs;
use crate::query::pace::{Held, Pace};
use crate::store::{SelectTraces, WantedAttrs};

/// Traces that are looked up one by one before gathering begins.
pub(super) const SINGLE_MAX: usize = 200;
/// How much wider than the range blocks are read, in nanoseconds.
const MARGIN_NS: i64 = 3_600_000_000_000;
/// Memory that the traces of one pass take, in bytes, more or less.
const PASS_BYTES: usize = 48 << 20;

/// Traces to be joined, each with a time that its start is not after.
pub(super) type Open = HashMap<TraceId, i64>;

/// Memory of a span in a view of its trace, beside its own, in bytes.
const VIEW_BYTES: usize = 160;

/// Traces of one pass, and the memory that is held for them.
pub(super) struct Gathered<'b> {
    /// Whole traces, in no order.
    pub(super) traces: Vec<TraceView>,
    /// Given back when they are dropped.
    _held: Held<'b>,
}

/// The one whole trace with this id.
///
/// # Errors
/// [`QueryError`]: the store failed or the budget is used up.
pub(super) fn whole<'b>(
    store: &dyn SelectTraces,
    id: TraceId,
    budget: &'b QueryBudget,
) -> Result<(TraceView, Held<'b>), QueryError> {
    let held = Held::new(budget);
    let spans = store.trace(id, budget)?;
    held.add(spans_bytes(&spans) + VIEW_BYTES * spans.len())?;
    Ok((TraceView::new(spans, &Pace::new(budget))?, held))
}

/// Takes traces out of `open` and joins them: all when they are few, else as many as fit, those of
/// the newest blocks first.
///
/// # Errors
/// [`QueryError`]: the store failed or the budget is used up.
pub(super) fn gather<'b>(
    store: &dyn SelectTraces,
    open: &mut Open,
    range: RangeNs,
    budget: &'b QueryBudget,
) -> Result<Gathered<'b>, QueryError> {
    let held = Held::new(budget);
    if open.len() <= SINGLE_MAX {
        let mut traces = Vec::with_capacity(open.len());
        for (id, _) in open.drain() {
            let spans = store.trace(id, budget)?;
            held.add(spans_bytes(&spans) + VIEW_BYTES * spans.len())?;
            traces.push(TraceView::new(spans, &Pace::new(budget))?);
        }
        return Ok(Gathered { traces, _held: held });
    }
    let range = RangeNs { start: range.start.saturating_sub(MARGIN_NS), end: range.end.saturating_add(MARGIN_NS) };
    let pace = Pace::new(budget);
    let mut taken: HashMap<TraceId, Vec<Span>> = HashMap::new();
    for block in store.blocks(range, &[], budget)? {
        let spans = block.read(&WantedAttrs::All, budget)?;
        budget.touch(spans.len())?;
        // Of a block that is read whole, the spans that are taken keep what they share with the others.
        let mut shared = 0;
        for span in spans {
            pace.go(64)?;
            let own = match taken.entry(span.trace_id) {
                Entry::Occupied(own) => own.into_mut(),
                Entry::Vacant(_) if held.bytes() >= PASS_BYTES || open.remove(&span.trace_id).is_none() => continue,
                Entry::Vacant(place) => place.insert(Vec::new()),
            };
            let resource = std::sync::Arc::as_ptr(&span.resource) as usize;
            let common = if resource == shared { 0 } else { spans_bytes(std::slice::from_ref(&span)) };
            shared = resource;
            held.add(common.max(size_of::<Span>() + span.heap_bytes()) + VIEW_BYTES)?;
            own.push(span);
        }
    }
    if taken.is_empty() {
        // Retention was faster: these are gone.
        open.clear();
    }
    let traces = taken.into_values().map(|spans| TraceView::new(spans, &pace)).collect::<Result<_, _>>()?;
    Ok(Gathered { traces, _held: held })
}
