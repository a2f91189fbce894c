//! Remote write 1.0 as a sender writes it: series with samples, native histograms (as float
//! histograms, which lose nothing up to 2^53) and exemplars.
//! Spec: <https://prometheus.io/docs/specs/prw/remote_write_spec/>.

use super::protobuf::{put_bytes, put_double, put_message, put_uint, put_varint, zigzagged};
use crate::model::batch::SeriesBatch;
use crate::model::exemplar::Exemplar;
use crate::model::histogram::{BucketSpan, Histogram, ResetHint};
use crate::model::labels::Labels;
use crate::model::sample::HistogramSample;

/// Appends one series to a `prometheus.WriteRequest`.
pub fn put_series(out: &mut Vec<u8>, series: &SeriesBatch) {
    put_message(out, 1, |out| {
        put_labels(out, &series.labels);
        for sample in &series.samples {
            put_message(out, 2, |out| {
                put_double(out, 1, sample.value);
                put_uint(out, 2, sample.t.cast_unsigned());
            });
        }
        for exemplar in &series.exemplars {
            put_message(out, 3, |out| put_exemplar(out, exemplar));
        }
        for sample in &series.histograms {
            put_message(out, 4, |out| put_histogram(out, sample));
        }
    });
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels {
        put_message(out, 1, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_bytes(out, 2, value.as_bytes());
        });
    }
}

fn put_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    put_labels(out, &exemplar.labels);
    put_double(out, 2, exemplar.value);
    put_uint(out, 3, exemplar.t.cast_unsigned());
}

/// The fields of a `prometheus.Histogram`.
pub fn put_histogram(out: &mut Vec<u8>, sample: &HistogramSample) {
    let Histogram { reset_hint, schema, zero_threshold, zero_count, count, sum, .. } = &*sample.histogram;
    put_double(out, 2, *count);
    put_double(out, 3, *sum);
    put_uint(out, 4, zigzagged(i64::from(*schema)));
    put_double(out, 5, *zero_threshold);
    put_double(out, 7, *zero_count);
    put_spans(out, 8, &sample.histogram.negative_spans);
    put_doubles(out, 10, &sample.histogram.negative);
    put_spans(out, 11, &sample.histogram.positive_spans);
    put_doubles(out, 13, &sample.histogram.positive);
    let hint = match reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    put_uint(out, 14, hint);
    put_uint(out, 15, sample.t.cast_unsigned());
    put_doubles(out, 16, &sample.histogram.custom_bounds);
}

fn put_spans(out: &mut Vec<u8>, number: u32, spans: &[BucketSpan]) {
    for span in spans {
        put_message(out, number, |out| {
            put_uint(out, 1, zigzagged(i64::from(span.offset)));
            put_uint(out, 2, u64::from(span.length));
        });
    }
}

fn put_doubles(out: &mut Vec<u8>, number: u32, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, 8 * values.len() as u64);
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::sample::{STALE_NAN_BITS, Sample};
    use crate::wire::limits::DEFAULT;
    use crate::wire::prometheus::decode_v1;

    #[test]
    fn what_is_written_is_what_a_receiver_reads() {
        let histogram = Histogram {
            reset_hint: ResetHint::Gauge,
            schema: -53,
            count: 6.5,
            sum: -2.25,
            positive_spans: vec![BucketSpan { offset: 0, length: 1 }, BucketSpan { offset: 1, length: 2 }],
            positive: vec![1.0, 2.0, 3.5],
            custom_bounds: vec![-1.0, 0.5, 2.0],
            ..Histogram::default()
        };
        let series = SeriesBatch {
            labels: Labels::from_pairs([("__name__", "a"), ("b", "ü")]).unwrap(),
            samples: vec![Sample { t: -5, value: f64::from_bits(STALE_NAN_BITS) }, Sample { t: 7, value: 0.0 }],
            starts: Vec::new(),
            histograms: vec![HistogramSample { t: 9, start: 0, histogram: Arc::new(histogram) }],
            exemplars: vec![Exemplar { labels: Labels::default(), value: 1.5, t: 8 }],
        };
        let mut body = Vec::new();
        put_series(&mut body, &series);
        let decoded = decode_v1(&body, &DEFAULT).unwrap();
        assert!(decoded.rejected.is_empty(), "{}", decoded.rejected.summary());
        let [read] = &decoded.batch.series[..] else { panic!("one series") };
        assert_eq!(read.labels, series.labels);
        let bits = |series: &SeriesBatch| series.samples.iter().map(|s| (s.t, s.value.to_bits())).collect::<Vec<_>>();
        assert_eq!(bits(read), bits(&series));
        assert_eq!(read.histograms[0].histogram, series.histograms[0].histogram);
        assert_eq!((read.histograms[0].t, &read.exemplars), (9, &series.exemplars));
    }
}
