//! Traces in memory, in blocks as a test cuts them: the store of tests of TraceQL and its APIs.

use trilith::base::limits::QueryBudget;
use trilith::model::span::{AttrValue, Span, SpanKind, TraceId};
use trilith::model::time::RangeNs;
use trilith::store::{AttrScope, SelectTraces, ServiceOperations, SpanBlock, SpanHint, StoreError, WantedAttrs};

/// Blocks of spans. It uses hints as an index may: to leave out blocks without any such span.
#[derive(Default)]
pub(super) struct VecTraces(pub(super) Vec<Vec<Span>>);

struct Block(Vec<Span>);

impl SpanBlock for Block {
    fn span(&self) -> (i64, i64) {
        let start = self.0.iter().map(|span| span.start).min().unwrap_or_default();
        (start, self.0.iter().map(|span| span.end).max().unwrap_or_default())
    }

    fn spans(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, wanted: &WantedAttrs, _: &QueryBudget) -> Result<Vec<Span>, StoreError> {
        // What is not wanted is left out, so that a query which looks at it all the same fails its test.
        let mut spans = self.0.clone();
        for span in &mut spans {
            let own = std::iter::once(&mut span.attrs);
            let events = span.events.iter_mut().map(|event| &mut event.attrs);
            let links = span.links.iter_mut().map(|link| &mut link.attrs);
            own.chain(events).chain(links).for_each(|attrs| attrs.retain(|(name, _)| wanted.has(name)));
        }
        Ok(spans)
    }
}

fn attrs(span: &Span, scope: AttrScope) -> Vec<&(String, AttrValue)> {
    match scope {
        AttrScope::Resource => span.resource.attrs.iter().collect(),
        AttrScope::Span => span.attrs.iter().collect(),
        AttrScope::Instrumentation => span.scope.attrs.iter().collect(),
        AttrScope::Event => span.events.iter().flat_map(|event| &event.attrs).collect(),
        AttrScope::Link => span.links.iter().flat_map(|link| &link.attrs).collect(),
    }
}

fn satisfies(span: &Span, hint: &SpanHint) -> bool {
    match hint {
        SpanHint::Service(name) => span.resource.service_name() == name,
        SpanHint::Name(name) => span.name == *name,
        SpanHint::Attr { scopes, name, value } => scopes.iter().any(|scope| {
            attrs(span, *scope).into_iter().any(|(own, held)| {
                own == name && (held == value || matches!(held, AttrValue::Array(list) if list.contains(value)))
            })
        }),
    }
}

impl VecTraces {
    fn in_range(&self, range: RangeNs) -> impl Iterator<Item = &Span> {
        self.0.iter().flatten().filter(move |span| range.overlaps(span.start, span.end))
    }
}

const SCOPES: [AttrScope; 5] =
    [AttrScope::Resource, AttrScope::Span, AttrScope::Event, AttrScope::Link, AttrScope::Instrumentation];

impl SelectTraces for VecTraces {
    fn trace(&self, id: TraceId, _: &QueryBudget) -> Result<Vec<Span>, StoreError> {
        let mut spans: Vec<_> = self.0.iter().flatten().filter(|span| span.trace_id == id).cloned().collect();
        spans.sort_by_key(|span| span.start);
        Ok(spans)
    }

    fn blocks(
        &self,
        range: RangeNs,
        hints: &[SpanHint],
        _: &QueryBudget,
    ) -> Result<Vec<Box<dyn SpanBlock>>, StoreError> {
        let useful = |block: &&Vec<Span>| {
            let in_range = block.iter().any(|span| range.overlaps(span.start, span.end));
            in_range && block.iter().any(|span| hints.iter().all(|hint| satisfies(span, hint)))
        };
        let mut blocks: Vec<_> = self.0.iter().filter(useful).map(|block| Block(block.clone())).collect();
        blocks.sort_by_key(|block| std::cmp::Reverse(block.span().1));
        Ok(blocks.into_iter().map(|block| Box::new(block) as Box<dyn SpanBlock>).collect())
    }

    fn tag_names(&self, range: RangeNs, _: &QueryBudget) -> Result<Vec<(AttrScope, String)>, StoreError> {
        let each =
            |span| SCOPES.map(|scope| attrs(span, scope).into_iter().map(move |(name, _)| (scope, name.clone())));
        let mut names: Vec<_> = self.in_range(range).flat_map(each).flatten().collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn tag_values(
        &self,
        scopes: &[AttrScope],
        name: &str,
        range: RangeNs,
        limit: usize,
        _: &QueryBudget,
    ) -> Result<Vec<AttrValue>, StoreError> {
        let mut values: Vec<AttrValue> = Vec::new();
        for span in self.in_range(range) {
            for (own, value) in scopes.iter().flat_map(|scope| attrs(span, *scope)) {
                if own == name && !values.contains(value) {
                    values.push(value.clone());
                }
            }
        }
        values.truncate(limit);
        Ok(values)
    }

    fn services(&self, _: &QueryBudget) -> Result<Vec<ServiceOperations>, StoreError> {
        let mut services: std::collections::BTreeMap<String, Vec<(String, SpanKind)>> = Default::default();
        for span in self.0.iter().flatten() {
            let operations = services.entry(span.resource.service_name().to_owned()).or_default();
            if !operations.contains(&(span.name.clone(), span.kind)) {
                operations.push((span.name.clone(), span.kind));
            }
        }
        for operations in services.values_mut() {
            operations.sort_by(|a, b| (&a.0, a.1.number()).cmp(&(&b.0, b.1.number())));
        }
        Ok(services.into_iter().collect())
    }
}
