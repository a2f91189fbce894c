//! What was a valid request a moment ago is decoded or refused: within the memory allowed, with an error of
//! the right class, and what is decoded is the same when it is written and decoded again.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::{Map, Value, json};

use super::mutations;
use crate::base::error::{Classify, ErrorClass};
use crate::base::mutate::Mutator;
use crate::model::batch::{LogsBatch, MetricsBatch, SeriesBatch, StreamBatch, TracesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::histogram::{BucketSpan, Histogram};
use crate::model::labels::Labels;
use crate::model::log::LogEntry;
use crate::model::sample::{Columns, HistogramSample, Sample};
use crate::model::span::Span;
use crate::wire::decompress::{Encoding, decompress};
use crate::wire::error::WireError;
use crate::wire::limits::{DEFAULT, Options};
use crate::wire::openmetrics::{self, Parser};
use crate::wire::otlp::Format;
use crate::wire::protobuf::{put_bytes, put_double, put_message, put_uint, put_varint, zigzagged};
use crate::wire::tsdb::chunk::Point;
use crate::wire::tsdb::index::Symbols;
use crate::wire::{Decoded, loki, otlp, prometheus, prometheus_chunk, remote_read, tsdb};

/// Damaged requests of each kind.
const SEEDS: u64 = 600;
/// An allowance that damage can pass.
const TIGHT: Options = Options { decoded_bytes_max: 64 << 10, ..DEFAULT };

macro_rules! payload {
    ($name:literal, $encoding:expr) => {
        decompress($encoding, include_bytes!(concat!("../../../tests/payloads/", $name, ".body")), 1 << 20).unwrap()
    };
}

fn changed_protobuf(good: &[u8], seed: u64) -> Vec<u8> {
    mutations::protobuf(good, seed).expect("a valid message")
}

fn changed_json(good: &str, seed: u64) -> Vec<u8> {
    mutations::json(good, seed).expect("valid JSON")
}

/// The result unless it is an error, which must be of a class that tells the sender not to send it again.
fn taken<T>(result: Result<T, WireError>, seed: u64) -> Option<T> {
    let class = result.as_ref().map_or_else(Classify::class, |_| ErrorClass::BadData);
    let expected = [ErrorClass::BadData, ErrorClass::TooLarge, ErrorClass::Execution];
    assert!(expected.contains(&class), "seed {seed}: {class:?}");
    result.ok()
}

fn labels_bytes(labels: &Labels) -> usize {
    labels.bytes() + 16
}

fn histogram_bytes(histogram: &Histogram) -> usize {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let counts = histogram.positive.len() + histogram.negative.len() + histogram.custom_bounds.len();
    size_of::<Histogram>() + spans * size_of::<BucketSpan>() + 8 * counts
}

fn metrics_bytes(batch: &MetricsBatch) -> usize {
    let series = |series: &SeriesBatch| {
        let histograms: usize = series.histograms.iter().map(|own| histogram_bytes(&own.histogram)).sum();
        let exemplars: usize = series.exemplars.iter().map(|own| labels_bytes(&own.labels)).sum();
        size_of::<SeriesBatch>()
            + labels_bytes(&series.labels)
            + series.samples.len() * size_of::<Sample>()
            + series.histograms.len() * size_of::<HistogramSample>()
            + series.exemplars.len() * size_of::<Exemplar>()
            + histograms
            + exemplars
    };
    let metadata = batch.metadata.iter().map(|own| own.name.len() + own.help.len() + own.unit.len());
    batch.series.iter().map(series).sum::<usize>() + metadata.sum::<usize>()
}

fn logs_bytes(batch: &LogsBatch) -> usize {
    let entry = |entry: &LogEntry| size_of::<LogEntry>() + entry.line.len() + labels_bytes(&entry.metadata);
    let stream = |stream: &StreamBatch| labels_bytes(&stream.labels) + stream.entries.iter().map(entry).sum::<usize>();
    batch.streams.iter().map(stream).sum()
}

fn spans_bytes(batch: &TracesBatch) -> usize {
    batch.spans.iter().map(|span| size_of::<Span>() + span.name.len() + 64 * span.attrs.len()).sum()
}

fn assert_within(bytes: usize, options: &Options, seed: u64) {
    assert!(bytes <= options.decoded_bytes_max, "seed {seed}: {bytes} bytes were built");
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels {
        put_message(out, 1, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_bytes(out, 2, value.as_bytes());
        });
    }
}

fn put_histogram(out: &mut Vec<u8>, sample: &HistogramSample) {
    let own = &sample.histogram;
    put_double(out, 2, own.count);
    put_double(out, 3, own.sum);
    put_uint(out, 4, zigzagged(own.schema.into()));
    put_double(out, 5, own.zero_threshold);
    put_double(out, 7, own.zero_count);
    for (spans, counts, number) in [(&own.negative_spans, &own.negative, 8), (&own.positive_spans, &own.positive, 11)] {
        for span in spans {
            put_message(out, number, |out| {
                put_uint(out, 1, zigzagged(span.offset.into()));
                put_uint(out, 2, span.length.into());
            });
        }
        counts.iter().for_each(|count| put_double(out, number + 2, *count));
    }
    put_uint(out, 14, own.reset_hint as u64);
    put_uint(out, 15, sample.t.cast_unsigned());
    own.custom_bounds.iter().for_each(|bound| put_double(out, 16, *bound));
    put_uint(out, 17, sample.start.cast_unsigned());
}

/// A batch as remote write 1.0; starts of floats cannot be written there.
fn written(batch: &MetricsBatch) -> Vec<u8> {
    let mut body = Vec::new();
    for series in &batch.series {
        put_message(&mut body, 1, |out| {
            put_labels(out, &series.labels);
            for sample in &series.samples {
                put_message(out, 2, |out| {
                    put_double(out, 1, sample.value);
                    put_uint(out, 2, sample.t.cast_unsigned());
                });
            }
            for exemplar in &series.exemplars {
                put_message(out, 3, |out| {
                    put_labels(out, &exemplar.labels);
                    put_double(out, 2, exemplar.value);
                    put_uint(out, 3, exemplar.t.cast_unsigned());
                });
            }
            series.histograms.iter().for_each(|own| put_message(out, 4, |out| put_histogram(out, own)));
        });
    }
    body
}

fn series_text(batch: &MetricsBatch) -> String {
    let plain = |series: &SeriesBatch| SeriesBatch { starts: Vec::new(), ..series.clone() };
    format!("{:?}", batch.series.iter().map(plain).collect::<Vec<_>>())
}

#[test]
fn damaged_remote_write_is_the_same_when_written_again_or_refused() {
    let v1 = [
        payload!("remote_write/v1_histogram_exemplar_stale", Encoding::Snappy),
        payload!("remote_write/v1_bad_among_good", Encoding::Snappy),
    ];
    let v2 = payload!("remote_write/v2", Encoding::Snappy);
    let mut kept = 0;
    for seed in 0..SEEDS {
        let first = changed_protobuf(&v1[(seed % 2) as usize], seed);
        let second = changed_protobuf(&v2, seed);
        let raw = prometheus::decode_v1_raw(&first, &DEFAULT);
        for (options, is_tight) in [(DEFAULT, false), (TIGHT, true)] {
            let results = [prometheus::decode_v1(&first, &options), prometheus::decode_v2(&second, &options)];
            for result in results {
                let Some(Decoded { batch, .. }) = taken(result, seed) else { continue };
                if is_tight {
                    assert_within(metrics_bytes(&batch), &options, seed);
                    continue;
                }
                kept += usize::from(!batch.series.is_empty());
                let again = prometheus::decode_v1(&written(&batch), &DEFAULT).unwrap();
                assert!(again.rejected.is_empty(), "seed {seed}: {}", again.rejected.summary());
                assert_eq!(series_text(&again.batch), series_text(&batch), "seed {seed}");
            }
        }
        // The hot path takes and refuses the same.
        let Some(general) = taken(prometheus::decode_v1(&first, &DEFAULT), seed) else { continue };
        let raw = taken(raw, seed).unwrap_or_else(|| panic!("seed {seed}: refused by one way only"));
        let (batch, _) = raw.batch.read(&|bytes| prometheus::parse_labels(bytes, &DEFAULT));
        assert_eq!(batch.samples(), general.batch.samples(), "seed {seed}");
    }
    assert!(kept as u64 > SEEDS / 4, "only {kept} requests had anything to store");
    taken(prometheus::decode_v2_raw(&v2, &DEFAULT), 0).unwrap();
}

/// A batch as Loki's JSON.
fn loki_json(batch: &LogsBatch) -> Value {
    let pairs = |labels: &Labels| -> Map<String, Value> {
        labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
    };
    let entry = |entry: &LogEntry| json!([entry.t.to_string(), entry.line, pairs(&entry.metadata)]);
    let stream = |stream: &StreamBatch| json!({"stream": pairs(&stream.labels), "values": stream.entries.iter().map(entry).collect::<Vec<_>>()});
    json!({"streams": batch.streams.iter().map(stream).collect::<Vec<_>>()})
}

#[test]
fn damaged_loki_pushes_are_the_same_when_written_again_or_refused() {
    let protobuf = payload!("loki_push/promtail_protobuf", Encoding::Snappy);
    let json = payload!("loki_push/json_bad_among_good", Encoding::Identity);
    let json = std::str::from_utf8(&json).unwrap();
    let mut kept = 0;
    for seed in 0..SEEDS {
        let (protobuf, json) = (changed_protobuf(&protobuf, seed), changed_json(json, seed));
        let tight = [loki::decode_protobuf(&protobuf, &TIGHT), loki::decode_json(&json, &TIGHT)];
        for decoded in tight.into_iter().filter_map(|result| taken(result, seed)) {
            assert_within(logs_bytes(&decoded.batch), &TIGHT, seed);
        }
        let wide = [loki::decode_protobuf(&protobuf, &DEFAULT), loki::decode_json(&json, &DEFAULT)];
        for decoded in wide.into_iter().filter_map(|result| taken(result, seed)) {
            if decoded.batch.streams.is_empty() {
                continue;
            }
            kept += 1;
            let again = loki::decode_json(loki_json(&decoded.batch).to_string().as_bytes(), &DEFAULT).unwrap();
            assert!(again.rejected.is_empty(), "seed {seed}: {}", again.rejected.summary());
            assert_eq!(format!("{:?}", again.batch), format!("{:?}", decoded.batch), "seed {seed}");
        }
    }
    assert!(kept > SEEDS / 4, "only {kept} pushes had anything to store");
}

/// The body without what is not known and in the order of its schema; nothing when prost cannot read it.
fn in_order<M: Message + Default>(body: &[u8]) -> Option<Vec<u8>> {
    M::decode(body).ok().map(|message| message.encode_to_vec())
}

#[test]
fn damaged_otlp_is_the_same_when_written_again_or_refused() {
    let gzip = Encoding::Gzip;
    let traces = payload!("otlp_traces/python_sdk_http", gzip);
    let logs = payload!("otlp_logs/python_sdk_http", gzip);
    let metrics = payload!("otlp_metrics/python_sdk_http", gzip);
    let mut kept = [0; 3];
    for seed in 0..SEEDS {
        let body = changed_protobuf(&traces, seed);
        let decode = |body: &[u8], options: &Options| taken(otlp::decode_traces(body, Format::Protobuf, options), seed);
        if let Some(tight) = decode(&body, &TIGHT) {
            assert_within(spans_bytes(&tight.batch), &TIGHT, seed);
        }
        if let Some((own, again)) = decode(&body, &DEFAULT).zip(in_order::<ExportTraceServiceRequest>(&body)) {
            kept[0] += usize::from(!own.batch.spans.is_empty());
            let again = decode(&again, &DEFAULT).unwrap();
            assert_eq!(format!("{:?}", again), format!("{:?}", own), "traces, seed {seed}");
        }
        let body = changed_protobuf(&logs, seed);
        let decode = |body: &[u8], options: &Options| taken(otlp::decode_logs(body, Format::Protobuf, options), seed);
        if let Some(tight) = decode(&body, &TIGHT) {
            assert_within(logs_bytes(&tight.batch), &TIGHT, seed);
        }
        if let Some((own, again)) = decode(&body, &DEFAULT).zip(in_order::<ExportLogsServiceRequest>(&body)) {
            kept[1] += usize::from(!own.batch.streams.is_empty());
            let again = decode(&again, &DEFAULT).unwrap();
            assert_eq!(format!("{:?}", again), format!("{:?}", own), "logs, seed {seed}");
        }
        let body = changed_protobuf(&metrics, seed);
        let decode =
            |body: &[u8], options: &Options| taken(otlp::decode_metrics(body, Format::Protobuf, options), seed);
        if let Some(tight) = decode(&body, &TIGHT) {
            assert_within(metrics_bytes(&tight.batch.batch), &TIGHT, seed);
        }
        if let Some((own, again)) = decode(&body, &DEFAULT).zip(in_order::<ExportMetricsServiceRequest>(&body)) {
            kept[2] += usize::from(!own.batch.batch.series.is_empty());
            let again = decode(&again, &DEFAULT).unwrap();
            assert_eq!(format!("{:?}", again), format!("{:?}", own), "metrics, seed {seed}");
        }
    }
    assert!(kept.iter().all(|kept| *kept as u64 > SEEDS / 4), "{kept:?} requests had anything to store");
}

#[test]
fn damaged_otlp_json_is_decoded_within_its_allowance_or_refused() {
    let traces = payload!("otlp_traces/json_one_bad_id", Encoding::Identity);
    let traces = std::str::from_utf8(&traces).unwrap();
    let logs = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},
        "scopeLogs":[{"scope":{"name":"s"},"logRecords":[{"timeUnixNano":"5","severityNumber":9,"traceId":"0af7651916cd43dd8448eb211c80319c",
        "body":{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":"1"},{"bytesValue":"AAE="}]}}}]}}}]}]}]}"#;
    let metrics = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
        {"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"5","count":"3","sum":1.5,
          "bucketCounts":["1","2"],"explicitBounds":[0.5],"attributes":[{"key":"a","value":{"boolValue":true}}]}]}},
        {"name":"e","exponentialHistogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[{"timeUnixNano":"5",
          "count":"3","scale":20,"positive":{"offset":-4,"bucketCounts":["1","2"]}}]}},
        {"name":"s","summary":{"dataPoints":[{"timeUnixNano":"5","count":"3","quantileValues":[{"quantile":0.5,"value":"NaN"}]}]}}]}]}]}"#;
    let mut kept = 0;
    for seed in 0..SEEDS {
        for options in [TIGHT, DEFAULT] {
            let spans = taken(otlp::decode_traces(&changed_json(traces, seed), Format::Json, &options), seed);
            let lines = taken(otlp::decode_logs(&changed_json(logs, seed), Format::Json, &options), seed);
            let series = taken(otlp::decode_metrics(&changed_json(metrics, seed), Format::Json, &options), seed);
            kept += spans.iter().filter(|own| !own.batch.spans.is_empty()).count();
            kept += lines.iter().filter(|own| !own.batch.streams.is_empty()).count();
            kept += series.iter().filter(|own| !own.batch.batch.series.is_empty()).count();
            spans.iter().for_each(|own| assert_within(spans_bytes(&own.batch), &options, seed));
            lines.iter().for_each(|own| assert_within(logs_bytes(&own.batch), &options, seed));
            series.iter().for_each(|own| assert_within(metrics_bytes(&own.batch.batch), &options, seed));
        }
    }
    assert!(kept as u64 > SEEDS / 4, "only {kept} requests had anything to store");
}

#[test]
fn damaged_remote_reads_ask_for_a_bounded_number_of_things_or_are_refused() {
    let mut good = Vec::new();
    for value in ["up|down", "x"] {
        put_message(&mut good, 1, |out| {
            put_uint(out, 1, 1_000);
            put_uint(out, 2, 2_000);
            for op in 0..4 {
                put_message(out, 3, |out| {
                    put_uint(out, 1, op);
                    put_bytes(out, 2, b"job");
                    put_bytes(out, 3, value.as_bytes());
                });
            }
            put_message(out, 4, |out| put_bytes(out, 2, b"series"));
        });
    }
    put_uint(&mut good, 2, 1);
    let mut kept = 0;
    for seed in 0..SEEDS {
        let Some(request) = taken(remote_read::decode(&changed_protobuf(&good, seed)), seed) else { continue };
        kept += 1;
        assert!(request.queries.len() <= 100 && request.queries.iter().all(|query| query.matchers.len() <= 100));
    }
    assert!(kept > SEEDS / 4, "only {kept} requests were read");
}

/// All that a parser of the text makes of it, fed in pieces.
fn imported(text: &[u8], pieces: &mut Mutator) -> String {
    let mut parser = Parser::new(openmetrics::Format::OpenMetrics, 1_795_348_600_000, &DEFAULT);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + pieces.below(200)).min(rest.len()));
        parser.feed(piece).unwrap();
        rest = after;
    }
    let (decoded, whole) = parser.finish();
    format!("{} lines, {decoded:?}, {whole:?}", parser.lines())
}

#[test]
fn damaged_text_is_read_alike_however_it_is_cut() {
    let good = payload!("import_text/openmetrics", Encoding::Identity);
    for seed in 0..SEEDS {
        let mut mutator = Mutator::new(seed);
        let bad = mutator.bytes(&good);
        let read = imported(&bad, &mut mutator);
        assert_eq!(imported(&bad, &mut mutator), read, "seed {seed}");
        assert!(read.len() < 200 * (good.len() + bad.len()), "seed {seed}: {} bytes", read.len());
    }
}

fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    body.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    body
}

#[test]
fn damaged_chunks_of_a_block_have_no_more_samples_and_buckets_than_they_say_or_are_refused() {
    let histogram = |t: i64| {
        let spans = vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 4, length: 1 }];
        let counts = vec![t as f64, 2.0 * t as f64, 7.0];
        let own = Histogram {
            schema: 3,
            count: 9.0,
            sum: 1.5,
            positive_spans: spans,
            positive: counts,
            ..Histogram::default()
        };
        HistogramSample { t: t * 15_000, start: 0, histogram: own.into() }
    };
    let times: Vec<i64> = (0..100).map(|n| n * 15_000 + n % 3).collect();
    let columns = [
        Columns { values: times.iter().map(|t| *t as f64 / 7.0).collect(), times: times.into(), ..Columns::default() },
        Columns { histograms: (1..40).map(histogram).collect(), ..Columns::default() },
    ];
    let mut good = Vec::new();
    for columns in &columns {
        let written: Result<(), ()> = prometheus_chunk::chunks(columns, |chunk| {
            good.push((chunk.encoding as u8, chunk.data));
            Ok(())
        });
        written.unwrap();
    }
    let (mut kept, mut refused) = (0, 0);
    for seed in 0..2 * SEEDS {
        let mut mutator = Mutator::new(seed);
        let (encoding, data) = mutator.pick(&good).clone();
        let bad = mutator.bytes(&data);
        let mut frame = Vec::new();
        put_varint(&mut frame, bad.len() as u64);
        frame.extend(sealed([&[encoding][..], &bad].concat()));
        assert_eq!(tsdb::chunk::frame_bytes(&frame).unwrap(), frame.len());
        let mut points = 0;
        let result = tsdb::chunk::decode(&frame, &mut |point| {
            points += 1;
            if let Point::Histogram(sample) = point {
                assert!(histogram_bytes(&sample.histogram) < 64 * bad.len() + 4096, "seed {seed}");
            }
        });
        let count = bad.first_chunk::<2>().map_or(0, |count| usize::from(u16::from_be_bytes(*count)));
        assert!(points <= count, "seed {seed}");
        match taken(result, seed) {
            Some(()) => {
                kept += 1;
                assert_eq!(points, count, "seed {seed}");
            }
            None => refused += 1,
        }
    }
    assert!(kept > SEEDS / 10 && refused > SEEDS / 10, "{kept} read, {refused} refused");
}

#[test]
fn damaged_strings_and_series_of_a_block_are_read_within_their_size_or_refused() {
    let mut strings = 4u32.to_be_bytes().to_vec();
    for text in ["", "job", "tests", "instance"] {
        put_varint(&mut strings, text.len() as u64);
        strings.extend_from_slice(text.as_bytes());
    }
    let entry = [2u8, 1, 2, 3, 2, 3, 20, 5, 8, 5, 0, 12, 7, 1, 30];
    let mut kept = 0;
    for seed in 0..2 * SEEDS {
        let mut mutator = Mutator::new(seed);
        let body = sealed(if seed % 2 == 0 { mutator.bytes(&strings) } else { strings.clone() });
        let section = [&(body.len() as u32 - 4).to_be_bytes()[..], &body].concat();
        let Some(symbols) = taken(Symbols::decode(section), seed) else { continue };
        let bad = mutator.bytes(&entry);
        let mut own = Vec::new();
        put_varint(&mut own, bad.len() as u64);
        own.extend(sealed(bad.clone()));
        let Some(series) = taken(tsdb::index::series(&own, &symbols), seed) else { continue };
        kept += 1;
        assert!(2 * series.labels.len() + 3 * series.chunks.len() <= bad.len(), "seed {seed}");
    }
    assert!(kept > SEEDS / 10, "only {kept} were read");
}
