//! Any spans come back as they were; any bytes are spans or an error.

use std::collections::BTreeSet;

use super::*;
use crate::model::span::Span;
use crate::store::traces::tests::{Dice, span, texts};
use crate::store::waist::WantedAttrs;

fn spans(seed: u64, count: usize) -> Vec<Span> {
    let mut dice = Dice::new(seed);
    let mut spans: Vec<_> = (0..count).map(|_| span(&mut dice)).collect();
    spans.sort_by_key(|span| span.trace_id);
    spans
}

fn encoded(spans: &[Span]) -> Vec<u8> {
    encode(&spans.iter().collect::<Vec<_>>())
}

#[test]
fn any_spans_come_back_as_they_were() {
    for (seed, count) in [(1, 0), (2, 1), (3, 2), (4, 700), (5, 3000)] {
        let spans = spans(seed, count);
        let raw = unpack(&pack(&encoded(&spans))).unwrap();
        let set = SpanSet::parse(&raw).unwrap();
        assert_eq!(texts(&set.all_spans().unwrap()), texts(&spans));
        let mut rows = Vec::new();
        set.rows(|row| rows.push((row.trace_id, row.start, row.end, row.name.to_owned(), row.kind.number()))).unwrap();
        let expected =
            spans.iter().map(|span| (span.trace_id, span.start, span.end, span.name.clone(), span.kind.number()));
        assert!(rows.into_iter().eq(expected));
    }
}

#[test]
fn some_spans_are_those_named() {
    let spans = spans(6, 500);
    let raw = encoded(&spans);
    let found = SpanSet::parse(&raw).unwrap().some_spans(|row, _| row % 7 == 3).unwrap();
    assert_eq!(texts(&found), texts(spans.iter().skip(3).step_by(7)));
}

#[test]
fn any_change_or_cut_gives_spans_or_an_error() {
    let good = encoded(&spans(7, 60));
    let mut dice = Dice::new(8);
    let mut errors = 0;
    for round in 0..4_000 {
        let mut bad = good.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bad.len() as u64) as usize;
            bad[at] = dice.next() as u8;
        }
        if round % 5 == 0 {
            bad.truncate(dice.below(good.len() as u64) as usize);
        }
        let decoded = SpanSet::parse(&bad).and_then(|set| {
            set.rows(|_| ())?;
            crate::store::traces::facets::Facets::default().add(&set)?;
            set.all_spans()
        });
        errors += usize::from(decoded.is_err());
        let _ = unpack(&bad);
    }
    assert!(errors > 400, "only {errors} changes were noticed");
}

#[test]
fn attributes_that_nobody_looks_at_are_left_out_and_all_else_is_as_it_was() {
    use crate::base::limits::QueryBudget;
    let original = spans(11, 400);
    let raw = encoded(&original);
    let set = SpanSet::parse(&raw).unwrap();
    let keys: BTreeSet<String> = set.columns().iter().map(|column| column.key.to_owned()).collect();
    let some = keys.iter().step_by(2).cloned().collect();
    for wanted in [
        WantedAttrs::All,
        WantedAttrs::Named(BTreeSet::new()),
        WantedAttrs::Named(keys.clone()),
        WantedAttrs::Named(some),
    ] {
        let mut expected = original.clone();
        for span in &mut expected {
            let own = std::iter::once(&mut span.attrs);
            let events = span.events.iter_mut().map(|event| &mut event.attrs);
            let links = span.links.iter_mut().map(|link| &mut link.attrs);
            own.chain(events).chain(links).for_each(|attrs| attrs.retain(|(name, _)| wanted.has(name)));
        }
        assert_eq!(set.spans(&wanted, &QueryBudget::unlimited(), |_, _| true).unwrap().spans, expected, "{wanted:?}");
    }
}

#[test]
fn memory_is_charged_and_a_small_budget_ends_the_decoding() {
    use crate::base::limits::QueryBudget;
    let raw = encoded(&spans(9, 300));
    let set = SpanSet::parse(&raw).unwrap();
    let budget = QueryBudget::new(std::time::Duration::from_secs(60), 20_000, u64::MAX);
    assert!(matches!(set.spans(&WantedAttrs::All, &budget, |_, _| true), Err(DecodeError::Limit(_))));
    let decoded = set.spans(&WantedAttrs::All, &budget, |row, _| row < 3).unwrap();
    assert!(decoded.charged > 3 * size_of::<Span>());
}
