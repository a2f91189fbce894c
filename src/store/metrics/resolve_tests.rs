//! Which series a head makes, finds and refuses.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Options;
use super::accepted::Accepted;
use super::head::{Head, Heads};
use super::registry::Registry;
use crate::model::batch::{MetricsBatch, SeriesBatch};
use crate::model::labels::Labels;
use crate::model::raw::{self, RawMetrics, RawSeries};
use crate::model::sample::Sample;

fn options() -> Options {
    Options::default()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn batch(all: &[Labels]) -> MetricsBatch {
    let samples = vec![Sample { t: 1, value: 1.0 }];
    let series =
        |labels: &Labels| SeriesBatch { labels: labels.clone(), samples: samples.clone(), ..Default::default() };
    MetricsBatch { series: all.iter().map(series).collect(), metadata: vec![] }
}

fn pods(range: std::ops::Range<usize>) -> Vec<Labels> {
    range.map(|pod| labels(&[("__name__", "up"), ("pod", &pod.to_string())])).collect()
}

fn reasons(accepted: &Accepted) -> Vec<(&'static str, u64)> {
    accepted.rejected.iter().map(|(reason, refused)| (reason, refused.count)).collect()
}

fn take(head: &Head, all: &[Labels]) -> Accepted {
    let taken = head.resolve(&batch(all));
    head.apply(head.resolve(&batch(all)));
    taken
}

fn raw(pairs: &[&[(&str, &str)]]) -> RawMetrics<'static> {
    let mut own = RawMetrics::default();
    let bytes = own.bytes.to_mut();
    for pairs in pairs {
        let labels_start = bytes.len() as u32;
        pairs.iter().for_each(|(name, value)| raw::put_pair(bytes, name.as_bytes(), value.as_bytes()));
        own.times.push(7);
        own.values.push(0.5);
        let rows_end = own.times.len() as u32;
        own.series.push(RawSeries { labels_start, labels_end: bytes.len() as u32, rows_end });
    }
    own
}

#[test]
fn known_labels_are_not_read_in_whatever_order_they_come() {
    let head = Head::new(Registry::new(), options());
    take(&head, &[labels(&[("__name__", "up"), ("a", "1"), ("b", "2")]), labels(&[("__name__", "up"), ("b", "1")])]);
    let unread = |bytes: &[u8]| -> Result<Labels, raw::BadLabels> { panic!("{}", bytes.escape_ascii()) };
    let accepted = head.resolve_raw(
        raw(&[
            &[("b", "2"), ("__name__", "up"), ("a", "1")],
            &[("__name__", "up"), ("a", "1"), ("b", "2")],
            &[("__name__", "up"), ("b", "1")],
            // New, but all its pairs are known.
            &[("__name__", "up"), ("a", "1"), ("b", "1")],
        ]),
        &unread,
    );
    assert_eq!(accepted.columns.ids, [0, 0, 1, 2]);
}

#[test]
fn the_same_pair_twice_is_no_other_series() {
    let head = Head::new(Registry::new(), options());
    take(&head, &[labels(&[("__name__", "up"), ("a", "1")]), labels(&[("__name__", "up")])]);
    let bad = |_: &[u8]| -> Result<Labels, raw::BadLabels> { Err(("invalid_labels", String::new())) };
    let twice: &[(&str, &str)] = &[("__name__", "up"), ("a", "1"), ("a", "1")];
    let unnamed: &[(&str, &str)] = &[("a", "1")];
    let accepted = head.resolve_raw(raw(&[twice, unnamed]), &bad);
    assert_eq!((accepted.columns.ids.len(), reasons(&accepted)), (0, vec![("invalid_labels", 2)]));
}

#[test]
fn over_a_limit_new_series_are_refused_with_the_reason_and_make_no_pairs() {
    let options = Options { active_series_max: 8, series_per_metric_max: 5, labels_max: 3, ..options() };
    let options = Options { label_name_bytes_max: 20, label_value_bytes_max: 10, ..options };
    let head = Head::new(Registry::new(), options);
    assert_eq!(reasons(&take(&head, &pods(0..7))), [("metric_series_limit", 2)]);
    let bytes = head.bytes();
    take(&head, &pods(100..200));
    assert_eq!(head.bytes(), bytes);
    let refused = |pairs: &[(&str, &str)]| reasons(&take(&head, &[labels(pairs)]));
    assert_eq!(refused(&[("__name__", "x"), ("a", "1"), ("b", "1"), ("c", "1")]), [("too_many_labels", 1)]);
    assert_eq!(refused(&[("__name__", "x"), (&"a".repeat(21), "1")]), [("label_too_long", 1)]);
    assert_eq!(refused(&[("__name__", "x"), ("a", &"1".repeat(11))]), [("label_too_long", 1)]);
    for name in ["1", "2", "3"] {
        assert!(refused(&[("__name__", name)]).is_empty());
    }
    assert_eq!(refused(&[("__name__", "4")]), [("series_limit", 1)]);
    assert_eq!(head.series_count(), 8);
    assert!(take(&head, &pods(0..5)).rejected.is_empty(), "existing series go on");
}

#[test]
fn the_next_head_goes_on_with_its_series_unless_too_many_are_quiet() {
    let heads = Heads::default();
    let first = heads.next(options());
    take(&first, &pods(0..100));
    let second = heads.next(options());
    assert!(Arc::ptr_eq(first.registry(), second.registry()));
    assert_eq!((second.series_count(), second.bytes()), (0, 0));
    assert!(second.sorted().is_empty());
    take(&second, &pods(0..70));
    assert_eq!((second.series_count(), first.series_count()), (70, 100));
    assert_eq!(second.activity().claimed.load(Ordering::Relaxed), 70);
    let third = heads.next(options());
    assert!(!Arc::ptr_eq(second.registry(), third.registry()));
    // A request that was resolved before the flush is applied after it.
    let late = second.resolve(&batch(&pods(60..80)));
    third.apply(third.adopt(late));
    let names: Vec<Labels> = third.sorted().iter().map(|series| series.labels()).collect();
    assert_eq!(names, pods(60..80));
}
