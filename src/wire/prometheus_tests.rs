//! What remote-write bodies, good and bad, decode to.

use super::*;
use crate::base::error::{Classify, ErrorClass};
use crate::model::histogram::{BucketSpan, ResetHint};
use crate::model::sample::STALE_NAN_BITS;
use crate::wire::limits::DEFAULT;
use crate::wire::protobuf::{put_bytes, put_double, put_message, put_uint, put_varint, zigzagged};

fn put_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_message(out, 1, |out| {
        put_bytes(out, 1, name);
        put_bytes(out, 2, value);
    });
}

fn put_sample(out: &mut Vec<u8>, t: i64, value: f64) {
    put_message(out, 2, |out| {
        put_double(out, 1, value);
        put_uint(out, 2, t.cast_unsigned());
    });
}

fn body(pairs: &[(&[u8], &[u8])], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        pairs.iter().for_each(|(name, value)| put_label(out, name, value));
        samples.iter().for_each(|(t, value)| put_sample(out, *t, *value));
    });
    body
}

fn good() -> Vec<u8> {
    body(&[(b"__name__", b"up"), (b"job", b"a")], &[(1, 1.0)])
}

fn reason_of(body: &[u8]) -> &'static str {
    let mut both = good();
    both.extend_from_slice(body);
    let decoded = decode_v1(&both, &DEFAULT).unwrap();
    assert_eq!(decoded.batch.series.len(), 1, "the good series is taken");
    let reasons: Vec<_> = decoded.rejected.iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons.len(), 1);
    reasons[0]
}

#[test]
fn samples_come_back_bit_for_bit() {
    let stale = f64::from_bits(STALE_NAN_BITS);
    let payload = f64::from_bits(0x7ff8_dead_beef_0001);
    let sent = [(0, 0.0), (-5, -0.0), (i64::MAX, stale), (i64::MIN, payload), (7, f64::INFINITY)];
    let decoded = decode_v1(&body(&[(b"__name__", b"up"), (b"a", b"1")], &sent), &DEFAULT).unwrap();
    let series = &decoded.batch.series[0];
    assert_eq!(series.labels.to_string(), r#"{__name__="up", a="1"}"#);
    let got: Vec<_> = series.samples.iter().map(|sample| (sample.t, sample.value.to_bits())).collect();
    assert_eq!(got, sent.map(|(t, value)| (t, value.to_bits())));
}

#[test]
fn unsorted_labels_are_sorted() {
    let decoded = decode_v1(&body(&[(b"z", b"1"), (b"__name__", b"up"), (b"b", b"")], &[(1, 1.0)]), &DEFAULT).unwrap();
    assert_eq!(decoded.batch.series[0].labels.to_string(), r#"{__name__="up", z="1"}"#);
}

#[test]
fn a_bad_series_is_refused_and_the_others_are_taken() {
    let long = vec![b'x'; 100_000];
    assert_eq!(reason_of(&body(&[(b"__name__", b"up"), (b"a", b"1"), (b"a", b"2")], &[(1, 1.0)])), "invalid_labels");
    assert_eq!(reason_of(&body(&[(b"__name__", b"up"), (b"", b"2")], &[(1, 1.0)])), "invalid_labels");
    assert_eq!(reason_of(&body(&[(b"__name__", b"\xff\xfe")], &[(1, 1.0)])), "invalid_utf8");
    assert_eq!(reason_of(&body(&[(b"__name__", b"up"), (b"a", &long)], &[(1, 1.0)])), "label_too_long");
    assert_eq!(reason_of(&body(&[(b"__name__", b"up"), (&long, b"a")], &[(1, 1.0)])), "label_too_long");
    assert_eq!(reason_of(&body(&[(b"a", b"b")], &[(1, 1.0)])), "missing_metric_name");
    assert_eq!(reason_of(&body(&[], &[(1, 1.0)])), "missing_metric_name");
    let many: Vec<Vec<u8>> = (0..10_000).map(|n| format!("l{n}").into_bytes()).collect();
    let pairs: Vec<(&[u8], &[u8])> = many.iter().map(|name| (name.as_slice(), b"1".as_slice())).collect();
    assert_eq!(reason_of(&body(&pairs, &[(1, 1.0)])), "too_many_labels");
}

#[test]
fn the_refused_are_counted_by_sample() {
    let decoded = decode_v1(&body(&[(b"a", b"b")], &[(1, 1.0), (2, 1.0), (3, 1.0)]), &DEFAULT).unwrap();
    assert_eq!(decoded.rejected.count(), 3);
    assert!(decoded.rejected.summary().contains(r#"{a="b"}"#));
}

#[test]
fn a_cut_body_is_bad_data() {
    let body = good();
    for length in 1..body.len() {
        assert_eq!(decode_v1(&body[..length], &DEFAULT).unwrap_err().class(), ErrorClass::BadData, "{length}");
    }
}

#[test]
fn millions_of_empty_messages_are_too_large_or_cost_nothing() {
    let empty_series = [0x0a, 0x00].repeat(1_000_000);
    assert_eq!(decode_v1(&empty_series, &DEFAULT).unwrap().batch.series.len(), 0);
    let mut samples = Vec::new();
    put_message(&mut samples, 1, |out| {
        put_label(out, b"__name__", b"up");
        out.extend([0x12, 0x00].repeat(8_000_000));
    });
    assert_eq!(decode_v1(&samples, &DEFAULT).unwrap_err().class(), ErrorClass::TooLarge);
    let metadata = [0x1a, 0x03, 0x12, 0x01, b'x'].repeat(3_000_000);
    assert_eq!(decode_v1(&metadata, &DEFAULT).unwrap_err().class(), ErrorClass::TooLarge);
}

#[test]
fn metadata_and_exemplars_are_read() {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_label(out, b"__name__", b"up_total");
        put_message(out, 3, |out| {
            put_label(out, b"trace_id", b"abc");
            put_double(out, 2, 4.5);
            put_uint(out, 3, 77);
        });
    });
    put_message(&mut body, 3, |out| {
        put_uint(out, 1, 1);
        put_bytes(out, 2, b"up_total");
        put_bytes(out, 4, b"How often.");
        put_bytes(out, 5, b"times");
    });
    let decoded = decode_v1(&body, &DEFAULT).unwrap();
    let exemplar = &decoded.batch.series[0].exemplars[0];
    assert_eq!((exemplar.labels.get("trace_id"), exemplar.value, exemplar.t), (Some("abc"), 4.5, 77));
    let metadata = &decoded.batch.metadata[0];
    assert_eq!((metadata.name.as_str(), metadata.kind.as_str()), ("up_total", "counter"));
    assert_eq!((metadata.help.as_str(), metadata.unit.as_str()), ("How often.", "times"));
}

fn put_span(out: &mut Vec<u8>, number: u32, offset: i64, length: u64) {
    put_message(out, number, |out| {
        put_uint(out, 1, zigzagged(offset));
        put_uint(out, 2, length);
    });
}

fn integer_histogram(out: &mut Vec<u8>, deltas: &[i64]) {
    put_uint(out, 1, 6);
    put_double(out, 3, 18.5);
    put_uint(out, 4, zigzagged(2));
    put_double(out, 5, 1e-128);
    put_uint(out, 6, 1);
    put_span(out, 11, -1, 1);
    put_span(out, 11, 2, 1);
    put_message(out, 12, |out| deltas.iter().for_each(|delta| put_varint(out, zigzagged(*delta))));
    put_uint(out, 14, 2);
    put_uint(out, 15, 1234);
}

fn histogram_body(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_label(out, b"__name__", b"h");
        put_message(out, 4, fill);
    });
    body
}

#[test]
fn an_integer_histogram_becomes_absolute_counts() {
    let decoded = decode_v1(&histogram_body(|out| integer_histogram(out, &[3, -1])), &DEFAULT).unwrap();
    assert!(decoded.rejected.is_empty(), "{}", decoded.rejected.summary());
    let sample = &decoded.batch.series[0].histograms[0];
    let histogram = &sample.histogram;
    assert_eq!((sample.t, histogram.schema, histogram.count, histogram.sum), (1234, 2, 6.0, 18.5));
    assert_eq!(histogram.positive, [3.0, 2.0]);
    assert_eq!(histogram.positive_spans, [BucketSpan { offset: -1, length: 1 }, BucketSpan { offset: 2, length: 1 }]);
    assert_eq!((histogram.zero_count, histogram.reset_hint), (1.0, ResetHint::NotReset));
}

#[test]
fn a_histogram_that_contradicts_itself_is_refused() {
    for deltas in [&[3][..], &[3, -4], &[3, 0], &[3, -1, 1], &[i64::MAX, i64::MAX]] {
        let decoded = decode_v1(&histogram_body(|out| integer_histogram(out, deltas)), &DEFAULT).unwrap();
        assert_eq!(decoded.rejected.iter().map(|(reason, _)| reason).collect::<Vec<_>>(), ["invalid_histogram"]);
    }
    let endless = decode_v1(&histogram_body(|out| put_span(out, 11, 0, u64::from(u32::MAX))), &DEFAULT).unwrap();
    assert_eq!(endless.rejected.count(), 1);
    let many =
        decode_v1(&histogram_body(|out| put_message(out, 12, |out| out.resize(1_000_000, 0))), &DEFAULT).unwrap();
    assert_eq!(many.rejected.count(), 1);
}

#[test]
fn finer_histograms_are_joined_to_schema_8() {
    let fine = |schema: i64, spans: &[(i64, u64)], counts: &[i64]| {
        let body = histogram_body(|out| {
            put_uint(out, 1, counts.iter().sum::<i64>().cast_unsigned());
            put_uint(out, 4, zigzagged(schema));
            spans.iter().for_each(|(offset, length)| put_span(out, 11, *offset, *length));
            let mut last = 0;
            for count in counts {
                put_uint(out, 12, zigzagged(count - last));
                last = *count;
            }
        });
        decode_v1(&body, &DEFAULT).unwrap()
    };
    // At schema 10 four neighbours make one of 8: -3 to 0 is 0, 1 to 4 is 1, 9 to 12 is 3.
    let decoded = fine(10, &[(-1, 4), (8, 2)], &[1, 2, 3, 4, 5, 6]);
    assert!(decoded.rejected.is_empty());
    let histogram = &decoded.batch.series[0].histograms[0].histogram;
    assert_eq!((histogram.schema, histogram.count), (8, 21.0));
    let spans = [BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 1 }];
    assert_eq!(
        (histogram.positive_spans.as_slice(), histogram.positive.as_slice()),
        (&spans[..], &[3.0, 7.0, 11.0][..])
    );
    let finest = fine(52, &[(i64::from(i32::MIN), 1)], &[7]);
    assert_eq!(finest.batch.series[0].histograms[0].histogram.positive, [7.0]);
    for schema in [53, -5] {
        assert_eq!(fine(schema, &[(0, 1)], &[1]).rejected.count(), 1, "{schema}");
    }
}

#[test]
fn custom_buckets_are_checked_against_their_bounds() {
    let custom = |bounds: &'static [f64], length: u64| {
        histogram_body(move |out| {
            put_double(out, 2, 2.0 * length as f64);
            put_uint(out, 4, zigzagged(-53));
            put_span(out, 11, 0, length);
            (0..length).for_each(|_| put_double(out, 13, 2.0));
            bounds.iter().for_each(|bound| put_double(out, 16, *bound));
        })
    };
    let decoded = decode_v1(&custom(&[1.0, 2.5], 3), &DEFAULT).unwrap();
    assert_eq!(decoded.batch.series[0].histograms[0].histogram.custom_bounds, [1.0, 2.5]);
    for bad in [custom(&[1.0, 1.0], 2), custom(&[1.0], 3), custom(&[f64::NAN], 1)] {
        assert_eq!(decode_v1(&bad, &DEFAULT).unwrap().rejected.count(), 1);
    }
}

#[test]
fn a_stale_histogram_is_kept() {
    let body = histogram_body(|out| {
        put_double(out, 3, f64::from_bits(STALE_NAN_BITS));
        put_uint(out, 15, 9);
    });
    let decoded = decode_v1(&body, &DEFAULT).unwrap();
    assert_eq!(decoded.batch.series[0].histograms[0].histogram.sum.to_bits(), STALE_NAN_BITS);
}

fn v2(symbols: &[&[u8]], refs: &[u64]) -> Vec<u8> {
    let mut body = Vec::new();
    symbols.iter().for_each(|symbol| put_bytes(&mut body, 4, symbol));
    put_message(&mut body, 5, |out| {
        put_message(out, 1, |out| refs.iter().for_each(|reference| put_varint(out, *reference)));
        put_sample(out, 10, 1.5);
        put_message(out, 4, |out| {
            put_message(out, 1, |out| [3, 4].iter().for_each(|reference| put_varint(out, *reference)));
            put_double(out, 2, 9.0);
            put_uint(out, 3, 11);
        });
        put_message(out, 5, |out| {
            put_uint(out, 1, 3);
            put_uint(out, 3, 5);
        });
    });
    body
}

const SYMBOLS: [&[u8]; 6] = [b"", b"__name__", b"h_bucket", b"le", b"1", b"Help."];

#[test]
fn version_two_reads_symbols_samples_exemplars_and_metadata() {
    let decoded = decode_v2(&v2(&SYMBOLS, &[1, 2, 3, 4]), &DEFAULT).unwrap();
    let series = &decoded.batch.series[0];
    assert_eq!(series.labels.to_string(), r#"{__name__="h_bucket", le="1"}"#);
    assert_eq!((series.samples[0].t, series.samples[0].value), (10, 1.5));
    assert_eq!((series.exemplars[0].labels.get("le"), series.exemplars[0].t), (Some("1"), 11));
    let metadata = &decoded.batch.metadata[0];
    assert_eq!((metadata.name.as_str(), metadata.kind.as_str(), metadata.help.as_str()), ("h", "histogram", "Help."));
}

#[test]
fn version_two_tells_when_counting_began() {
    let series = |created: u64| {
        let mut body = Vec::new();
        SYMBOLS.iter().for_each(|symbol| put_bytes(&mut body, 4, symbol));
        put_message(&mut body, 5, |out| {
            put_message(out, 1, |out| [1, 2].iter().for_each(|reference| put_varint(out, *reference)));
            put_sample(out, 10, 1.5);
            put_message(out, 2, |out| {
                put_double(out, 1, 2.5);
                put_uint(out, 2, 20);
                put_uint(out, 3, (-5i64).cast_unsigned());
            });
            put_message(out, 3, |out| {
                put_uint(out, 15, 30);
                put_uint(out, 17, 25);
            });
            put_uint(out, 6, created);
        });
        decode_v2(&body, &DEFAULT).unwrap().batch.series.remove(0)
    };
    let (own, created) = (series(0), series(7));
    assert_eq!((own.starts, own.histograms[0].start), (vec![0, -5], 25));
    assert_eq!((created.starts, created.histograms[0].start), (vec![7, -5], 25));
    assert_eq!(decode_v2(&v2(&SYMBOLS, &[1, 2]), &DEFAULT).unwrap().batch.series[0].starts.len(), 0);
}

#[test]
fn version_two_refuses_series_with_wrong_references() {
    for refs in [&[1, 2, 3][..], &[1, 99], &[1, u64::MAX]] {
        let decoded = decode_v2(&v2(&SYMBOLS, refs), &DEFAULT).unwrap();
        assert_eq!((decoded.batch.series.len(), decoded.rejected.count()), (0, 1), "{refs:?}");
    }
    assert!(decode_v2(&v2(&[b"not empty"], &[]), &DEFAULT).is_err());
}

#[test]
fn version_two_meters_a_long_symbol_each_time_it_is_named() {
    let long = vec![b'x'; 60_000];
    let mut body = Vec::new();
    [b"".as_slice(), b"__name__", &long].iter().for_each(|symbol| put_bytes(&mut body, 4, symbol));
    for _ in 0..10_000 {
        put_message(&mut body, 5, |out| {
            put_message(out, 1, |out| [1, 2].iter().for_each(|reference| put_varint(out, *reference)));
            put_sample(out, 1, 1.0);
        });
    }
    assert_eq!(decode_v2(&body, &DEFAULT).unwrap_err().class(), ErrorClass::TooLarge);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
        let _ = decode_v1(&bytes, &DEFAULT);
        let _ = decode_v2(&bytes, &DEFAULT);
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0usize..200, byte in 0u8..) {
        let mut first = histogram_body(|out| integer_histogram(out, &[3, -1]));
        first.extend(good());
        let mut second = v2(&SYMBOLS, &[1, 2, 3, 4]);
        for body in [&mut first, &mut second] {
            let at = at % body.len();
            body[at] = byte;
        }
        let _ = decode_v1(&first, &DEFAULT);
        let _ = decode_v2(&second, &DEFAULT);
    }
}
