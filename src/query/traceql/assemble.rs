//! Joins many traces at once. One trace is looked up by its id; thousands are gathered by reading
//! the blocks again, as often as memory allows only a part of them at a time.
//! Gathering reads an hour more than the range on either side: what a trace sends earlier or later
//! than that is left out of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::QueryError;
use super::view::TraceView;
use crate::base::limits::QueryBudget;
use crate::model::span::{Span, TraceId};
use crate::model::time::RangeNs;
use crate::store::SelectTraces;

/// Traces that are looked up one by one before gathering begins.
pub(super) const SINGLE_MAX: usize = 200;
/// How much wider than the range blocks are read, in nanoseconds.
const MARGIN_NS: i64 = 3_600_000_000_000;
/// Memory that the traces of one pass take, in bytes, more or less.
const PASS_BYTES: usize = 48 << 20;

/// Traces to be joined, each with a time that its start is not after.
pub(super) type Open = HashMap<TraceId, i64>;

/// Traces of one pass, and what they were charged for.
pub(super) struct Gathered {
    /// Whole traces, in no order.
    pub(super) traces: Vec<TraceView>,
    /// Bytes to be released when they are dropped.
    pub(super) charged: usize,
}

/// Takes traces out of `open` and joins them: all when they are few, else as many as fit, those of
/// the newest blocks first.
///
/// # Errors
/// [`QueryError`]: the store failed or the budget is used up.
pub(super) fn gather(
    store: &dyn SelectTraces,
    open: &mut Open,
    range: RangeNs,
    budget: &QueryBudget,
) -> Result<Gathered, QueryError> {
    let mut charged = 0;
    if open.len() <= SINGLE_MAX {
        let mut traces = Vec::with_capacity(open.len());
        for (id, _) in open.drain() {
            let spans = store.trace(id, budget)?;
            charge(spans.iter().map(size).sum(), &mut charged, budget)?;
            traces.push(TraceView::new(spans));
        }
        return Ok(Gathered { traces, charged });
    }
    let range = RangeNs { start: range.start.saturating_sub(MARGIN_NS), end: range.end.saturating_add(MARGIN_NS) };
    let mut taken: HashMap<TraceId, Vec<Span>> = HashMap::new();
    for block in store.blocks(range, &[], budget)? {
        let spans = block.read(budget)?;
        budget.touch(spans.len())?;
        for span in spans {
            let own = match taken.entry(span.trace_id) {
                Entry::Occupied(own) => own.into_mut(),
                Entry::Vacant(_) if charged >= PASS_BYTES || open.remove(&span.trace_id).is_none() => continue,
                Entry::Vacant(place) => place.insert(Vec::new()),
            };
            charge(size(&span), &mut charged, budget)?;
            own.push(span);
        }
    }
    if taken.is_empty() {
        // Retention was faster: these are gone.
        open.clear();
    }
    Ok(Gathered { traces: taken.into_values().map(TraceView::new).collect(), charged })
}

fn charge(bytes: usize, total: &mut usize, budget: &QueryBudget) -> Result<(), QueryError> {
    budget.charge(bytes)?;
    *total += bytes;
    Ok(())
}

/// Memory that a span takes, more or less.
fn size(span: &Span) -> usize {
    let inner = span.events.iter().map(|event| event.attrs.len()).chain(span.links.iter().map(|link| link.attrs.len()));
    let attrs = span.attrs.len() + inner.map(|own| own + 2).sum::<usize>();
    size_of::<Span>() + span.name.len() + span.status_message.len() + 128 * attrs
}
