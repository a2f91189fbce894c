//! A whole trace: its spans joined into trees, with the numbers of the nested-set model.
//! Numbering: depth first from 1; left on entry, right on exit; the parent of a root is -1; a span
//! whose parents do not lead to a root has zeros and stands in no relation.

use std::collections::HashMap;

use crate::base::limits::LimitError;
use crate::model::span::{Span, SpanId, TraceId};
use crate::query::pace::Pace;

/// A span's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NestedSet {
    /// On entry.
    pub left: i64,
    /// On exit.
    pub right: i64,
    /// The parent's left; -1 of a root.
    pub parent: i64,
}

/// A trace with its spans in order of start time.
#[derive(Debug, Default)]
pub struct TraceView {
    /// The spans.
    pub spans: Vec<Span>,
    /// The nested set of each span.
    pub sets: Vec<NestedSet>,
    /// The parent of each span that leads to a root, as an index.
    pub parents: Vec<Option<usize>>,
    /// Spans that lead to a root, parents before children.
    pub order: Vec<usize>,
    /// How many spans name each span as their parent.
    pub children: Vec<u32>,
    /// The first span without a parent.
    root: Option<usize>,
    /// Earliest start and latest end.
    bounds: (i64, i64),
}

impl TraceView {
    /// Joins the spans of one trace; copies count once.
    ///
    /// # Errors
    /// What the budget says: a trace may be large.
    pub fn new(mut spans: Vec<Span>, pace: &Pace<'_>) -> Result<Self, LimitError> {
        pace.sort(&mut spans, |a, b| (a.start, a.span_id).cmp(&(b.start, b.span_id)))?;
        spans.dedup();
        let start = spans.iter().map(|span| span.start).min().unwrap_or_default();
        let end = spans.iter().map(|span| span.end.max(span.start)).max().unwrap_or_default();
        let mut by_id: HashMap<SpanId, usize> = HashMap::with_capacity(spans.len());
        for (at, span) in spans.iter().enumerate() {
            pace.go(64)?;
            by_id.entry(span.span_id).or_insert(at);
        }
        let mut below: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
        let mut roots = Vec::new();
        for (at, span) in spans.iter().enumerate() {
            pace.go(64)?;
            if span.parent_id.is_none() {
                roots.push(at);
            } else if let Some(parent) = by_id.get(&span.parent_id).filter(|parent| **parent != at) {
                below[*parent].push(at);
            }
        }
        let children = below.iter().map(|own| u32::try_from(own.len()).unwrap_or(u32::MAX)).collect();
        let root = roots.first().copied();
        let mut view = Self {
            sets: vec![NestedSet::default(); spans.len()],
            parents: vec![None; spans.len()],
            order: Vec::with_capacity(spans.len()),
            children,
            root,
            bounds: (start, end),
            spans,
        };
        view.number(&roots, &below, pace)?;
        Ok(view)
    }

    /// Numbers what leads to a root, without recursion: a trace may be a chain of any length.
    fn number(&mut self, roots: &[usize], below: &[Vec<usize>], pace: &Pace<'_>) -> Result<(), LimitError> {
        let mut next = 1;
        for root in roots {
            self.sets[*root] = NestedSet { left: next, right: 0, parent: -1 };
            self.order.push(*root);
            next += 1;
            let mut path = vec![(*root, 0)];
            while let Some((at, done)) = path.last_mut() {
                pace.go(32)?;
                match below[*at].get(*done) {
                    Some(child) => {
                        let parent = *at;
                        *done += 1;
                        self.sets[*child] = NestedSet { left: next, right: 0, parent: self.sets[parent].left };
                        self.parents[*child] = Some(parent);
                        self.order.push(*child);
                        next += 1;
                        path.push((*child, 0));
                    }
                    None => {
                        self.sets[*at].right = next;
                        next += 1;
                        path.pop();
                    }
                }
            }
        }
        Ok(())
    }

    /// The trace's id; all zero without spans.
    pub fn id(&self) -> TraceId {
        self.spans.first().map(|span| span.trace_id).unwrap_or_default()
    }

    /// The first span without a parent.
    pub fn root(&self) -> Option<&Span> {
        self.root.map(|at| &self.spans[at])
    }

    /// Earliest start, in nanoseconds since the Unix epoch.
    pub fn start(&self) -> i64 {
        self.bounds.0
    }

    /// Latest end, in nanoseconds since the Unix epoch.
    pub fn end(&self) -> i64 {
        self.bounds.1
    }

    /// Nanoseconds from the earliest start to the latest end.
    pub fn duration_ns(&self) -> i64 {
        self.bounds.1.saturating_sub(self.bounds.0).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::QueryBudget;

    fn span(id: u8, parent: u8, start: i64) -> Span {
        let id_of = |byte| SpanId([0, 0, 0, 0, 0, 0, 0, byte]);
        Span { span_id: id_of(id), parent_id: id_of(parent), start, end: start + 1, ..Span::default() }
    }

    fn view(spans: Vec<Span>) -> TraceView {
        TraceView::new(spans, &Pace::new(&QueryBudget::unlimited())).unwrap()
    }

    #[test]
    fn a_chain_of_any_length_is_numbered_and_a_canceled_query_ends_while_it_is() {
        let id = |at: u64| SpanId(at.to_be_bytes());
        let link = |at: u64| Span { span_id: id(at), parent_id: id(at - 1), start: at as i64, ..Span::default() };
        let chain: Vec<Span> = (1..100_000).map(link).collect();
        assert_eq!(view(chain.clone()).order.len(), chain.len());
        let budget = QueryBudget::unlimited();
        budget.cancel();
        assert_eq!(TraceView::new(chain, &Pace::new(&budget)).err(), Some(LimitError::Canceled));
    }

    #[test]
    fn roots_have_parent_minus_one_and_strays_have_zeros() {
        let view = view(vec![span(1, 0, 0), span(2, 1, 1), span(3, 2, 2), span(4, 1, 3), span(5, 9, 4)]);
        let numbers: Vec<_> = view.sets.iter().map(|set| (set.left, set.right, set.parent)).collect();
        assert_eq!(numbers, [(1, 8, -1), (2, 5, 1), (3, 4, 2), (6, 7, 1), (0, 0, 0)]);
        assert_eq!(view.children, [2, 1, 0, 0, 0]);
        assert_eq!(view.duration_ns(), 5);
    }

    #[test]
    fn loops_and_equal_ids_end() {
        let view = view(vec![span(1, 2, 0), span(2, 1, 1), span(3, 3, 2), span(4, 0, 3), span(4, 4, 4)]);
        assert_eq!(view.order.len(), 2);
        assert_eq!(view.sets[0], NestedSet::default());
    }
}
