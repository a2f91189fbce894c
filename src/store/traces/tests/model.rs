//! Any sequence of appends, retries, flushes and reopens answers as a plain list would.

use std::collections::BTreeSet;

use super::*;

/// Every way to read gives exactly `spans`.
fn check(store: &TracesStore, spans: &[Span], context: &str) {
    let budget = QueryBudget::unlimited();
    assert_eq!(texts(&all(store)), texts(spans), "{context}");
    for number in 0..41 {
        let id = trace_id(number);
        let found = store.trace(id, &budget).unwrap();
        assert!(found.is_sorted_by_key(|span| span.start), "{context}");
        assert_eq!(texts(&found), texts(spans.iter().filter(|span| span.trace_id == id)), "{context}");
    }
    let services: BTreeSet<_> = spans.iter().map(|span| span.resource.service_name().to_owned()).collect();
    let found = store.services(&budget).unwrap();
    assert_eq!(found.iter().map(|(service, _)| service.clone()).collect::<BTreeSet<_>>(), services, "{context}");
    for (service, operations) in found {
        let own = spans.iter().filter(|span| span.resource.service_name() == service);
        let expected: BTreeSet<_> = own.map(|span| (span.name.clone(), span.kind.number())).collect();
        let operations = operations.into_iter().map(|(name, kind)| (name, kind.number())).collect();
        assert_eq!(expected, operations, "{context}");
    }
}

#[test]
fn any_sequence_of_appends_flushes_and_reopens_answers_as_a_plain_list_would() {
    for seed in 0..4 {
        let mut dice = Dice::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut spans: Vec<Span> = Vec::new();
        let mut known = BTreeSet::new();
        let mut last: Vec<Span> = Vec::new();
        for step in 0..30 {
            match dice.below(9) {
                0 => store.lane().flush().unwrap(),
                1 => {
                    drop(store);
                    store = open(dir.path());
                }
                2 => {
                    let again: Vec<_> = last.iter().filter(|_| !dice.one_in(3)).cloned().collect();
                    assert_eq!(append(&store, &again).accepted, again.len() as u64);
                }
                _ => {
                    last = (0..dice.below(60)).map(|_| span(&mut dice)).collect();
                    if dice.one_in(3) && !last.is_empty() {
                        last.push(last[0].clone());
                    }
                    assert_eq!(append(&store, &last).accepted, last.len() as u64);
                    let fresh = last.iter().filter(|span| known.insert(texts([*span])));
                    spans.extend(fresh.cloned());
                }
            }
            if dice.one_in(4) {
                check(&store, &spans, &format!("seed {seed}, step {step}"));
            }
        }
        store.lane().flush().unwrap();
        check(&store, &spans, &format!("seed {seed}, flushed"));
        drop(store);
        check(&open(dir.path()), &spans, &format!("seed {seed}, reopened"));
    }
}

#[test]
fn a_batch_that_is_flushed_and_sent_again_is_stored_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(7);
    let spans: Vec<_> = (0..100).map(|_| span(&mut dice)).collect();
    let expected = texts(&spans);
    let store = open(dir.path());
    append(&store, &spans);
    store.lane().flush().unwrap();
    append(&store, &spans);
    assert_eq!(texts(&all(&store)), expected);
    drop(store);
    let store = open(dir.path());
    append(&store, &spans);
    append(&store, &spans[..50]);
    assert_eq!(texts(&all(&store)), expected);
    drop(store);
    assert_eq!(texts(&all(&open(dir.path()))), expected);
}

#[test]
fn a_batch_that_is_sent_again_many_flushes_later_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(9);
    let store = open(dir.path());
    let mut spans: Vec<Span> = Vec::new();
    for _ in 0..6 {
        let more: Vec<_> = (0..20).map(|_| span(&mut dice)).collect();
        append(&store, &more);
        spans.extend(more);
        store.lane().flush().unwrap();
        append(&store, &spans);
        assert_eq!(texts(&all(&store)), texts(&spans));
    }
    drop(store);
    assert_eq!(texts(&all(&open(dir.path()))), texts(&spans));
}

#[test]
fn spans_that_share_their_ids_but_differ_are_both_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let client = Span { kind: SpanKind::Client, ..span(&mut Dice::new(1)) };
    let server = Span { kind: SpanKind::Server, ..client.clone() };
    append(&store, &[client.clone(), server.clone(), client.clone()]);
    store.lane().flush().unwrap();
    let found = store.trace(client.trace_id, &QueryBudget::unlimited()).unwrap();
    assert_eq!(texts(&found), texts([&client, &server]));
}

#[test]
fn a_trace_over_its_limit_is_refused_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { trace_bytes_max: 10_000, span_bytes_max: 5_000, ..Options::default() };
    let store = open_with(dir.path(), options);
    let big = |trace: u64, id: u64, bytes: usize| Span {
        trace_id: trace_id(trace),
        span_id: SpanId(small_id(id)),
        name: "x".repeat(bytes),
        ..Span::default()
    };
    let appended =
        append(&store, &[big(1, 1, 4_000), big(1, 2, 4_000), big(1, 3, 4_000), big(2, 1, 4_000), big(3, 1, 6_000)]);
    assert_eq!(appended.accepted, 3);
    let reasons: Vec<_> = appended.rejected.iter().map(|(reason, what)| (reason, what.count)).collect();
    assert_eq!(reasons, [("span_too_large", 1), ("trace_too_large", 1)]);
    let again = append(&store, &[big(1, 1, 4_000), big(1, 4, 4_000)]);
    assert_eq!((again.accepted, again.rejected.count()), (1, 1));
    assert_eq!(all(&store).len(), 3);
}

#[test]
fn values_nested_too_deeply_are_refused() {
    let nest = |depth| (0..depth).fold(AttrValue::Int(1), |inner, _| AttrValue::Array(vec![inner]));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let with = |depth, id| Span {
        trace_id: trace_id(1),
        span_id: SpanId(small_id(id)),
        attrs: vec![("a".into(), nest(depth))],
        ..Span::default()
    };
    let appended = append(&store, &[with(64, 1), with(65, 2), with(3_000, 3)]);
    assert_eq!((appended.accepted, appended.rejected.count()), (1, 2));
    drop(store);
    assert_eq!(texts(&all(&open(dir.path()))), texts([&with(64, 1)]));
}

#[test]
fn single_spans_sent_one_by_one_are_all_there_and_take_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut dice = Dice::new(21);
    let spans: Vec<_> = (0..1_000).map(|_| span(&mut dice)).collect();
    for (number, span) in spans.iter().enumerate() {
        append(&store, std::slice::from_ref(span));
        if number == 500 {
            store.services(&QueryBudget::unlimited()).unwrap();
        }
    }
    assert!(store.lane.view().heads[0].chunks().len() < 100);
    assert!(store.lane().stats().head_bytes < 1_000 * 1_000);
    check(&store, &spans, "one by one");
    store.lane().flush().unwrap();
    check(&store, &spans, "flushed");
}
