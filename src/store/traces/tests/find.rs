//! What narrows a search leaves nothing out, and lists of names and values are whole.

use std::collections::BTreeSet;

use super::*;
use crate::store::waist::AttrScope;

fn holds(span: &Span, hint: &SpanHint) -> bool {
    let has =
        |attrs: &Attrs, name: &str, wanted: &AttrValue| attrs.iter().any(|(own, value)| own == name && value == wanted);
    match hint {
        SpanHint::Service(service) => span.resource.service_name() == service,
        SpanHint::Name(name) => span.name == *name,
        SpanHint::Attr { scopes, name, value } => scopes.iter().any(|scope| match scope {
            AttrScope::Resource => has(&span.resource.attrs, name, value),
            AttrScope::Span => has(&span.attrs, name, value),
            AttrScope::Event => span.events.iter().any(|event| has(&event.attrs, name, value)),
            AttrScope::Link => span.links.iter().any(|link| has(&link.attrs, name, value)),
            AttrScope::Instrumentation => has(&span.scope.attrs, name, value),
        }),
    }
}

const SCOPES: [AttrScope; 5] =
    [AttrScope::Resource, AttrScope::Span, AttrScope::Event, AttrScope::Link, AttrScope::Instrumentation];

fn hint(dice: &mut Dice, spans: &[Span]) -> SpanHint {
    let span = &spans[dice.below(spans.len() as u64) as usize];
    match dice.below(4) {
        0 => SpanHint::Service(span.resource.service_name().to_owned()),
        1 => SpanHint::Name(span.name.clone()),
        _ => {
            let (name, value) = span.attrs.first().cloned().unwrap_or(("key1".into(), AttrValue::Bool(true)));
            SpanHint::Attr { scopes: vec![AttrScope::Span, SCOPES[dice.below(5) as usize]], name, value }
        }
    }
}

#[test]
fn hints_leave_no_span_of_interest_out_with_an_index_and_without() {
    for index_spans_min in [1, u64::MAX] {
        hints_leave_nothing_out(Options { index_spans_min, ..Options::default() });
    }
}

fn hints_leave_nothing_out(options: Options) {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(11);
    let store = open_with(dir.path(), options);
    let spans: Vec<_> = (0..400).map(|_| span(&mut dice)).collect();
    spans[..200].chunks(7).for_each(|batch| drop(append(&store, batch)));
    store.lane().flush().unwrap();
    spans[200..].chunks(7).for_each(|batch| drop(append(&store, batch)));
    store.lane.kind().narrower.settle();
    let indexed = store.lane.view().parts.iter().all(|part| part.text.is_ready());
    assert_eq!(indexed, options.index_spans_min == 1);
    for _ in 0..200 {
        let hints: Vec<_> = (0..dice.below(3)).map(|_| hint(&mut dice, &spans)).collect();
        let found = read_all(&store, RangeNs::ALL, &hints);
        let of_interest = |span: &&Span| hints.iter().all(|hint| holds(span, hint));
        assert_eq!(texts(found.iter().filter(of_interest)), texts(spans.iter().filter(of_interest)), "{hints:?}");
    }
}

#[test]
fn a_hint_that_nothing_satisfies_reads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut dice = Dice::new(12);
    append(&store, &(0..50).map(|_| span(&mut dice)).collect::<Vec<_>>());
    let absent = [SpanHint::Service("absent".into())];
    assert_eq!(read_all(&store, RangeNs::ALL, &absent), []);
    store.lane().flush().unwrap();
    assert!(store.blocks(RangeNs::ALL, &absent, &QueryBudget::unlimited()).unwrap().is_empty());
    let value = AttrValue::Str("text1".into());
    let attr = SpanHint::Attr { scopes: vec![AttrScope::Span, AttrScope::Link], name: "absent".into(), value };
    assert_eq!(read_all(&store, RangeNs::ALL, &[attr]), []);
}

#[test]
fn a_range_gives_all_spans_that_overlap_it_and_blocks_come_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(13);
    let store = open(dir.path());
    let spans: Vec<_> = (0..600).map(|_| span(&mut dice)).collect();
    spans[..300].chunks(50).for_each(|batch| drop(append(&store, batch)));
    store.lane().flush().unwrap();
    spans[300..].chunks(50).for_each(|batch| drop(append(&store, batch)));
    let budget = QueryBudget::unlimited();
    for _ in 0..50 {
        let start = NOW - dice.below(4_000_000_000_000) as i64;
        let range = RangeNs { start, end: start + dice.below(1_000_000_000_000) as i64 };
        let inside = |span: &&Span| range.overlaps(span.start, span.end.max(span.start));
        let found = read_all(&store, range, &[]);
        assert_eq!(texts(found.iter().filter(inside)), texts(spans.iter().filter(inside)));
        let ends: Vec<_> = store.blocks(range, &[], &budget).unwrap().iter().map(|block| block.span().1).collect();
        assert!(ends.is_sorted_by(|left, right| left >= right));
    }
}

fn names_of(spans: &[Span]) -> BTreeSet<(AttrScope, String)> {
    let mut names = BTreeSet::new();
    for span in spans {
        let mut add = |scope, attrs: &Attrs| names.extend(attrs.iter().map(|(name, _)| (scope, name.clone())));
        add(AttrScope::Span, &span.attrs);
        add(AttrScope::Resource, &span.resource.attrs);
        add(AttrScope::Instrumentation, &span.scope.attrs);
        span.events.iter().for_each(|event| add(AttrScope::Event, &event.attrs));
        span.links.iter().for_each(|link| add(AttrScope::Link, &link.attrs));
    }
    names
}

#[test]
fn names_and_values_are_those_of_the_spans_in_heads_and_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(14);
    let store = open(dir.path());
    let mut spans: Vec<_> = (0..300).map(|_| span(&mut dice)).collect();
    // More values than are listed.
    for (number, span) in spans.iter_mut().enumerate() {
        (0..4).for_each(|part| span.attrs.push(("user.id".into(), AttrValue::Int((number * 4 + part) as i64))));
    }
    append(&store, &spans[..200]);
    let budget = QueryBudget::unlimited();
    let values = |store: &TracesStore, name: &str, limit| {
        store.tag_values(&[AttrScope::Span, AttrScope::Resource], name, RangeNs::ALL, limit, &budget).unwrap()
    };
    assert_eq!(values(&store, "user.id", 5_000).len(), 800);
    store.lane().flush().unwrap();
    append(&store, &spans[200..]);
    let names = store.tag_names(RangeNs::ALL, &budget).unwrap();
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), names_of(&spans));
    assert_eq!(values(&store, "user.id", 5_000).len(), 1_200);
    assert_eq!(values(&store, "user.id", 10).len(), 10);
    assert_eq!(values(&store, "absent", 10), []);
    let services: BTreeSet<_> = spans
        .iter()
        .flat_map(|span| &span.resource.attrs)
        .filter(|(name, _)| name == "service.name")
        .map(|(_, value)| format!("{value:?}"))
        .collect();
    let found: BTreeSet<_> = values(&store, "service.name", 100).iter().map(|value| format!("{value:?}")).collect();
    assert_eq!(found, services);
    let none = RangeNs { start: NOW + 100 * DAY_NS, end: NOW + 100 * DAY_NS };
    let _ = store.tag_names(none, &budget).unwrap();
}

/// A store of one flushed part with an index.
fn indexed(dir: &Path) -> (TracesStore, Vec<Span>) {
    let store = open_with(dir, Options { index_spans_min: 1, ..Options::default() });
    let mut dice = Dice::new(16);
    let spans: Vec<_> = (0..300).map(|_| Span { start: NOW, end: NOW + 9, ..span(&mut dice) }).collect();
    append(&store, &spans);
    store.lane().flush().unwrap();
    store.lane.kind().narrower.settle();
    (store, spans)
}

fn folders(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir.join("text")).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn an_index_that_is_damaged_or_missing_is_built_anew_and_goes_with_its_part() {
    let dir = tempfile::tempdir().unwrap();
    let (store, spans) = indexed(dir.path());
    let hint = SpanHint::Name(spans[0].name.clone());
    let wanted = || texts(spans.iter().filter(|span| span.name == spans[0].name));
    drop(store);
    for damage in 0..3 {
        let folder = folders(dir.path()).remove(0);
        assert!(folder.file_name().unwrap().to_str().unwrap().starts_with("traces-"));
        match damage {
            0 => std::fs::remove_dir_all(&folder).unwrap(),
            1 => std::fs::write(folder.join("0000").join("meta.json"), b"{}").unwrap(),
            _ => std::fs::rename(&folder, folder.with_file_name("traces-stray")).unwrap(),
        }
        let store = open_with(dir.path(), Options { index_spans_min: 1, ..Options::default() });
        store.lane.kind().narrower.settle();
        assert!(store.lane.view().parts[0].text.is_ready(), "damage {damage}");
        assert_eq!(folders(dir.path()).len(), 1, "damage {damage}");
        let found = read_all(&store, RangeNs::ALL, std::slice::from_ref(&hint));
        assert_eq!(texts(found.iter().filter(|span| span.name == spans[0].name)), wanted());
    }
    let store = open_with(dir.path(), Options { index_spans_min: 1, ..Options::default() });
    assert_eq!(store.lane().remove_before(i64::MAX).map(|removed| removed.parts), Some(1));
    assert_eq!(all(&store), []);
    store.lane.kind().narrower.settle();
    assert_eq!(folders(dir.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn removing_old_parts_removes_their_spans_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut dice = Dice::new(15);
    let old: Vec<_> = (0..20).map(|_| Span { start: NOW - 9 * DAY_NS, end: i64::MAX, ..span(&mut dice) }).collect();
    let new: Vec<_> = (0..20).map(|_| Span { start: NOW, end: NOW + 1, ..span(&mut dice) }).collect();
    append(&store, &old);
    append(&store, &new);
    store.lane().flush().unwrap();
    assert_eq!(store.lane().remove_before((NOW - 8 * DAY_NS) / 1_000_000).map(|removed| removed.parts), Some(1));
    assert_eq!(texts(&all(&store)), texts(&new));
}
