//! What OTLP bodies, good and bad, decode to.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1 as logs;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;

use super::*;
use crate::base::error::{Classify, ErrorClass};
use crate::model::sample::is_stale;
use crate::model::span::{AttrValue, SpanKind, StatusCode};
use crate::wire::limits::DEFAULT;

fn value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, of: Value) -> KeyValue {
    KeyValue { key: key.into(), value: value(of), ..KeyValue::default() }
}

fn text(key: &str, text: &str) -> KeyValue {
    attribute(key, Value::StringValue(text.into()))
}

fn resource(attributes: Vec<KeyValue>) -> Option<Resource> {
    Some(Resource { attributes, ..Resource::default() })
}

fn shop() -> Option<Resource> {
    resource(vec![
        text("service.name", "shop"),
        text("service.namespace", "eu"),
        text("service.instance.id", "i1"),
        text("host.name", "h"),
    ])
}

fn span(trace_id: &[u8], span_id: &[u8], attributes: Vec<KeyValue>) -> trace::Span {
    trace::Span {
        trace_id: trace_id.into(),
        span_id: span_id.into(),
        name: "GET /".into(),
        kind: 2,
        start_time_unix_nano: 1_000,
        end_time_unix_nano: 2_000,
        attributes,
        ..trace::Span::default()
    }
}

fn traces_body(spans: Vec<trace::Span>) -> Vec<u8> {
    let scope_spans = vec![trace::ScopeSpans { spans, ..trace::ScopeSpans::default() }];
    let resource_spans =
        vec![trace::ResourceSpans { resource: shop(), scope_spans, ..trace::ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn protobuf_traces(body: &[u8]) -> Result<Decoded<TracesBatch>, WireError> {
    decode_traces(body, Format::Protobuf, &DEFAULT)
}

#[test]
fn spans_come_with_their_resource_ids_and_attributes() {
    let mut sent = span(&[7; 16], &[8; 8], vec![attribute("n", Value::IntValue(-3))]);
    sent.parent_span_id = vec![9; 8];
    sent.status = Some(trace::Status { message: "no".into(), code: 2 });
    sent.events = vec![trace::span::Event { time_unix_nano: 1_500, name: "e".into(), ..Default::default() }];
    sent.links = vec![trace::span::Link { trace_id: vec![1; 16], span_id: vec![2; 8], ..Default::default() }; 2];
    sent.links[1].span_id.clear();
    let decoded = protobuf_traces(&traces_body(vec![sent])).unwrap();
    let span = &decoded.batch.spans[0];
    assert_eq!((span.trace_id.0, span.span_id.0, span.parent_id.0), ([7; 16], [8; 8], [9; 8]));
    assert_eq!((span.start, span.end, span.kind, span.status), (1_000, 2_000, SpanKind::Server, StatusCode::Error));
    assert_eq!(span.attrs, [("n".to_owned(), AttrValue::Int(-3))]);
    assert_eq!((span.events[0].t, span.links.len(), span.dropped_links), (1_500, 1, 1));
    assert_eq!(span.resource.service_name(), "shop");
}

#[test]
fn a_span_with_a_wrong_id_is_refused_and_the_others_are_taken() {
    let spans = vec![
        span(&[7; 16], &[8; 8], vec![]),
        span(&[7; 15], &[8; 8], vec![]),
        span(&[0; 16], &[8; 8], vec![]),
        span(&[], &[], vec![]),
        span(&[7; 16], &[8; 9], vec![]),
    ];
    let decoded = protobuf_traces(&traces_body(spans)).unwrap();
    assert_eq!((decoded.batch.spans.len(), decoded.rejected.count()), (1, 4));
    assert!(decoded.rejected.summary().contains("GET /"));
}

#[test]
fn ten_thousand_attributes_refuse_their_span_only() {
    let many = (0..10_000).map(|n| text(&format!("a{n}"), "x")).collect();
    let body = traces_body(vec![span(&[7; 16], &[8; 8], many), span(&[7; 16], &[9; 8], vec![])]);
    let decoded = protobuf_traces(&body).unwrap();
    assert_eq!(decoded.batch.spans.len(), 1);
    assert_eq!(decoded.rejected.iter().map(|(reason, _)| reason).collect::<Vec<_>>(), ["too_many_attributes"]);
}

#[test]
fn json_gives_what_protobuf_gives() {
    let json = r#"{"resourceSpans":[{"unknown":{"a":[1,{}]},"scopeSpans":[{"scope":{"name":"lib"},"spans":[
        {"traceId":"0af7651916CD43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"","name":"x",
         "kind":"SPAN_KIND_CLIENT","startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,
         "attributes":[{"key":"i","value":{"intValue":"-9223372036854775808"}},{"key":"j","value":{"intValue":5}},
           {"key":"d","value":{"doubleValue":1}},{"key":"b","value":{"boolValue":true}},
           {"key":"y","value":{"bytesValue":"AQI="}},{"key":"e","value":{"unknownValue":[]}},{"key":"n","value":null},
           {"key":"l","value":{"arrayValue":{"values":[{"stringValue":"s"},{}]}}},
           {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}}],
         "droppedAttributesCount":3,"flags":257,"status":{"code":1},"links":null,"events":[]}]}],
        "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]}}]}"#;
    let decoded = decode_traces(json.as_bytes(), Format::Json, &DEFAULT).unwrap();
    let span = &decoded.batch.spans[0];
    assert_eq!(span.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((span.start, span.end), (1_544_712_660_000_000_000, 1_544_712_661_000_000_000));
    assert_eq!((span.kind, span.status, span.flags, span.dropped_attrs), (SpanKind::Client, StatusCode::Ok, 257, 3));
    let pair = |name: &str, value| (name.to_owned(), value);
    let expected = vec![
        pair("i", AttrValue::Int(i64::MIN)),
        pair("j", AttrValue::Int(5)),
        pair("d", AttrValue::Double(1.0)),
        pair("b", AttrValue::Bool(true)),
        pair("y", AttrValue::Bytes(vec![1, 2])),
        pair("e", AttrValue::Empty),
        pair("n", AttrValue::Empty),
        pair("l", AttrValue::Array(vec![AttrValue::Str("s".into()), AttrValue::Empty])),
        pair("m", AttrValue::Map(vec![pair("k", AttrValue::Str("v".into()))])),
    ];
    assert_eq!(span.attrs, expected);
    assert_eq!((span.scope.name.as_str(), span.resource.service_name()), ("lib", "shop"));
}

#[test]
fn json_with_an_id_that_is_no_hex_refuses_that_span_only() {
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[
        {"traceId":"zzz","spanId":"b7ad6b7169203331"},
        {"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}]}]}]}"#;
    let decoded = decode_traces(json.as_bytes(), Format::Json, &DEFAULT).unwrap();
    assert_eq!((decoded.batch.spans.len(), decoded.rejected.count()), (1, 1));
}

#[test]
fn json_of_the_wrong_shape_is_bad_data() {
    let deep = format!(r#"{{"resourceSpans":{}"#, "[".repeat(10_000));
    let values = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{}"#,
        r#"{"arrayValue":{"values":["#.repeat(10_000)
    );
    for body in ["", "[]", "{", "null", r#"{"resourceSpans":5}"#, r#"{"resourceSpans":[{"resource":"x"}]}"#, &deep] {
        let error = decode_traces(body.as_bytes(), Format::Json, &DEFAULT).unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadData, "{body:.40}");
    }
    assert_eq!(decode_logs(values.as_bytes(), Format::Json, &DEFAULT).unwrap_err().class(), ErrorClass::BadData);
}

fn nested(depth: usize) -> AnyValue {
    let mut inner = AnyValue { value: Some(Value::IntValue(1)) };
    for _ in 0..depth {
        inner = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![inner] })) };
    }
    inner
}

#[test]
fn protobuf_nested_too_deep_is_bad_data() {
    let record = |depth| logs::LogRecord { body: Some(nested(depth)), ..logs::LogRecord::default() };
    assert!(decode_logs(&logs_body(vec![record(35)]), Format::Protobuf, &DEFAULT).is_ok());
    let mut message = Vec::new();
    for _ in 0..10_000 {
        let mut outer = Vec::new();
        crate::wire::protobuf::put_bytes(&mut outer, 1, &message);
        message = outer;
        let mut outer = Vec::new();
        crate::wire::protobuf::put_bytes(&mut outer, 5, &message);
        message = outer;
    }
    for number in [5, 2, 2, 1] {
        let mut outer = Vec::new();
        crate::wire::protobuf::put_bytes(&mut outer, number, &message);
        message = outer;
    }
    let error = decode_logs(&message, Format::Protobuf, &DEFAULT).unwrap_err();
    assert!(error.to_string().contains("nested deeper"), "{error}");
}

#[test]
fn millions_of_empty_messages_are_too_large_before_they_are_decoded() {
    let mut scope = Vec::new();
    crate::wire::protobuf::put_bytes(&mut scope, 2, &[0x12, 0x00].repeat(4_000_000));
    let mut body = Vec::new();
    crate::wire::protobuf::put_bytes(&mut body, 1, &scope);
    for result in [
        decode_traces(&body, Format::Protobuf, &DEFAULT).map(drop),
        decode_logs(&body, Format::Protobuf, &DEFAULT).map(drop),
        decode_metrics(&body, Format::Protobuf, &DEFAULT).map(drop),
    ] {
        assert_eq!(result.unwrap_err().class(), ErrorClass::TooLarge);
    }
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}{{}}]}}]}}]}}"#, "{},".repeat(4_000_000));
    let error = decode_traces(json.as_bytes(), Format::Json, &DEFAULT).unwrap_err();
    assert_eq!(error.class(), ErrorClass::TooLarge);
}

fn logs_body(log_records: Vec<logs::LogRecord>) -> Vec<u8> {
    let scope =
        Some(InstrumentationScope { name: "lib".into(), version: "1".into(), ..InstrumentationScope::default() });
    let scope_logs = vec![logs::ScopeLogs { scope, log_records, ..logs::ScopeLogs::default() }];
    let resource = resource(vec![text("service.name", "shop"), text("k8s.pod.name", "p"), text("host.name", "h")]);
    let resource_logs = vec![logs::ResourceLogs { resource, scope_logs, ..logs::ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

#[test]
fn log_records_become_lines_as_loki_maps_them() {
    let map = KeyValueList { values: vec![attribute("x", Value::IntValue(1)), text("y.z", "2")] };
    let full = logs::LogRecord {
        time_unix_nano: 10,
        observed_time_unix_nano: 11,
        severity_number: 17,
        severity_text: "Error".into(),
        body: value(Value::StringValue("broken".into())),
        attributes: vec![attribute("m", Value::KvlistValue(map.clone())), text("k8s.pod.name", "other")],
        flags: 1,
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        ..logs::LogRecord::default()
    };
    let late = logs::LogRecord {
        observed_time_unix_nano: 12,
        severity_number: 14,
        body: value(Value::KvlistValue(map)),
        ..logs::LogRecord::default()
    };
    let decoded = decode_logs(&logs_body(vec![full, late]), Format::Protobuf, &DEFAULT).unwrap();
    let stream = &decoded.batch.streams[0];
    assert_eq!(stream.labels.to_string(), r#"{k8s_pod_name="p", service_name="shop"}"#);
    let [first, second] = stream.entries.as_slice() else { panic!("two lines") };
    assert_eq!((first.t, first.line.as_str()), (10, "broken"));
    let metadata = format!(
        r#"{{flags="1", host_name="h", k8s_pod_name_extracted="other", m_x="1", m_y_z="2", observed_timestamp="11", scope_name="lib", scope_version="1", severity_number="17", severity_text="Error", span_id="{}", trace_id="{}"}}"#,
        "cd".repeat(8),
        "ab".repeat(16)
    );
    assert_eq!(first.metadata.to_string(), metadata);
    assert_eq!((second.t, second.line.as_str()), (12, r#"{"x":1,"y.z":"2"}"#));
    assert_eq!(second.metadata.value("severity_number"), "14");
}

/// A protobuf body in which each `needle` is replaced by bytes of the same length that are not UTF-8.
fn spoiled(mut body: Vec<u8>, needle: &str) -> Vec<u8> {
    let at: Vec<usize> = (0..body.len()).filter(|at| body[*at..].starts_with(needle.as_bytes())).collect();
    assert!(!at.is_empty(), "{needle} is not there");
    at.iter().for_each(|at| body[*at..at + needle.len()].fill(0xe9));
    body
}

#[test]
fn text_that_is_not_utf8_costs_neither_the_request_nor_the_item() {
    let replaced = "\u{fffd}".repeat(3);
    let mut sent = span(&[7; 16], &[8; 8], vec![text("k", "BAD"), text("BAD", "v")]);
    sent.name = "BAD".into();
    sent.events = vec![trace::span::Event { name: "BAD".into(), ..Default::default() }];
    let body = spoiled(traces_body(vec![sent, span(&[7; 16], &[9; 8], vec![])]), "BAD");
    let spans = protobuf_traces(&body).unwrap().batch.spans;
    assert_eq!((spans.len(), spans[0].name.as_str(), spans[0].events[0].name.as_str()), (2, &*replaced, &*replaced));
    assert_eq!(
        spans[0].attrs,
        [("k".into(), AttrValue::Str(replaced.clone())), (replaced.clone(), AttrValue::Str("v".into()))]
    );

    let record =
        logs::LogRecord { body: value(Value::StringValue("BAD".into())), time_unix_nano: 1, ..Default::default() };
    let decoded = decode_logs(&spoiled(logs_body(vec![record]), "BAD"), Format::Protobuf, &DEFAULT).unwrap();
    assert_eq!(decoded.batch.streams[0].entries[0].line, replaced);

    let mut point = number(1.0, 0);
    point.attributes = vec![text("a", "BAD")];
    let body = spoiled(metrics_body(vec![("load", "", sum(2, true, vec![point]))]), "BAD");
    let decoded = decode_metrics(&body, Format::Protobuf, &DEFAULT).unwrap();
    assert_eq!(decoded.batch.batch.series[0].labels.value("a"), replaced);
}

#[test]
fn a_mended_body_has_the_allowance_of_the_sent_one() {
    let name = "BAD".repeat(1 << 20);
    let mut sent = span(&[7; 16], &[8; 8], vec![]);
    sent.name = name;
    let options = Options { decoded_bytes_max: 12 << 20, ..DEFAULT };
    let error = decode_traces(&spoiled(traces_body(vec![sent]), "BAD"), Format::Protobuf, &options).unwrap_err();
    assert_eq!(error.class(), ErrorClass::TooLarge);
}

#[test]
fn json_with_lone_surrogates_or_other_bytes_is_taken() {
    let span = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10",
        "spanId":"0102030405060708","name":"cut \ud83d@"}]}]}]}"#;
    let mut body = span.as_bytes().to_vec();
    *body.iter_mut().find(|byte| **byte == b'@').unwrap() = 0xe9;
    let decoded = decode_traces(&body, Format::Json, &DEFAULT).unwrap();
    assert_eq!(decoded.batch.spans[0].name, "cut \u{fffd}\u{fffd}");
    let broken = span.replace("}]}]}", "");
    assert_eq!(decode_traces(broken.as_bytes(), Format::Json, &DEFAULT).unwrap_err().class(), ErrorClass::BadData);
}

#[test]
fn json_keys_in_snake_case_are_taken() {
    let camel = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","severityText":"WARN",
        "body":{"stringValue":"x"},"attributes":[{"key":"a_b","value":{"intValue":"7"}}]}]}]}]}"#;
    let mut snake = camel.to_owned();
    for (from, to) in [
        ("resourceLogs", "resource_logs"),
        ("scopeLogs", "scope_logs"),
        ("logRecords", "log_records"),
        ("timeUnixNano", "time_unix_nano"),
        ("severityText", "severity_text"),
        ("stringValue", "string_value"),
        ("intValue", "int_value"),
    ] {
        snake = snake.replace(from, to);
    }
    let entry =
        |body: &str| decode_logs(body.as_bytes(), Format::Json, &DEFAULT).unwrap().batch.streams[0].entries[0].clone();
    assert_eq!(entry(&snake), entry(camel));
    assert_eq!(entry(&snake).line, "x");
}

#[test]
fn a_json_list_of_numbers_that_grows_in_protobuf_is_too_large() {
    let zeros = vec!["0"; 1_000_000].join(",");
    let body = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"x","histogram":{{"dataPoints":[{{"bucketCounts":[{zeros}]}}]}}}}]}}]}}]}}"#
    );
    assert_eq!(decode_metrics(body.as_bytes(), Format::Json, &DEFAULT).unwrap_err().class(), ErrorClass::TooLarge);
}

#[test]
fn what_prost_builds_beside_what_is_used_is_metered() {
    use crate::wire::protobuf::put_message;
    // References to entities, and keys in them, of two bytes each.
    for (references, keys) in [(2_000_000, 0), (1, 4_000_000)] {
        let mut body = Vec::new();
        put_message(&mut body, 1, |out| {
            put_message(out, 1, |out| {
                (0..references).for_each(|_| put_message(out, 3, |out| out.extend([0x1a, 0x00].repeat(keys))));
            });
        });
        assert_eq!(protobuf_traces(&body).unwrap_err().class(), ErrorClass::TooLarge, "{references} {keys}");
    }
    // Numbers of a list that is not packed.
    let mut body = Vec::new();
    let point = |out: &mut Vec<u8>| put_message(out, 8, |out| out.extend([0x10, 0x01].repeat(8_000_000)));
    let histogram = |out: &mut Vec<u8>| put_message(out, 10, |out| put_message(out, 1, point));
    put_message(&mut body, 1, |out| put_message(out, 2, |out| put_message(out, 2, histogram)));
    assert_eq!(decode_metrics(&body, Format::Protobuf, &DEFAULT).unwrap_err().class(), ErrorClass::TooLarge);
}

#[test]
fn text_made_of_a_list_is_metered_before_it_is_made() {
    // A control character is six bytes of JSON.
    let list = Value::ArrayValue(ArrayValue {
        values: vec![AnyValue { value: Some(Value::StringValue("\u{1}".repeat(1 << 20))) }],
    });
    let options = Options { decoded_bytes_max: 5 << 20, ..DEFAULT };
    let record = logs::LogRecord { body: value(list.clone()), ..Default::default() };
    let attributes = logs::LogRecord { attributes: vec![attribute("a", list)], ..Default::default() };
    for record in [record, attributes] {
        let error = decode_logs(&logs_body(vec![record]), Format::Protobuf, &options).unwrap_err();
        assert_eq!(error.class(), ErrorClass::TooLarge);
    }
}

#[test]
fn a_record_without_any_time_asks_for_that_of_its_arrival() {
    let decoded = decode_logs(&logs_body(vec![logs::LogRecord::default()]), Format::Protobuf, &DEFAULT).unwrap();
    assert_eq!(decoded.batch.streams[0].entries[0].t, crate::model::log::ARRIVAL);
}

#[test]
fn fields_of_a_record_win_over_attributes_and_ids_that_are_none_are_left_out() {
    let own = vec![text("trace_id", "other"), text("severity_text", "mine"), text("span_id", "kept")];
    let mut record = logs::LogRecord { severity_text: "WARN".into(), attributes: own, ..Default::default() };
    record.trace_id = vec![0xab; 16];
    record.span_id = vec![0; 8];
    let zero = logs::LogRecord { trace_id: vec![0; 16], span_id: vec![1; 3], ..Default::default() };
    let decoded = decode_logs(&logs_body(vec![record, zero]), Format::Protobuf, &DEFAULT).unwrap();
    let entries = &decoded.batch.streams[0].entries;
    let of = |at: usize, name: &str| entries[at].metadata.value(name).to_owned();
    assert_eq!(
        (of(0, "trace_id"), of(0, "severity_text"), of(0, "span_id")),
        ("ab".repeat(16), "WARN".into(), "kept".into())
    );
    assert_eq!((of(1, "trace_id"), of(1, "span_id")), (String::new(), String::new()));
    let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"no hex"}]}]}]}"#;
    let decoded = decode_logs(json.as_bytes(), Format::Json, &DEFAULT).unwrap();
    assert_eq!(decoded.batch.streams[0].entries[0].metadata.value("trace_id"), "");
}

#[test]
fn attributes_named_like_our_own_labels_do_not_cost_the_point() {
    let attributes = vec![text("le", "x"), text("quantile", "y"), text("__name__", "z"), text("a", "b")];
    let point = metrics::HistogramDataPoint {
        count: 1,
        bucket_counts: vec![1],
        attributes: attributes.clone(),
        ..Default::default()
    };
    let histogram =
        metrics::metric::Data::Histogram(metrics::Histogram { data_points: vec![point], aggregation_temporality: 2 });
    let quantile_values = vec![metrics::summary_data_point::ValueAtQuantile { quantile: 0.5, value: 4.0 }];
    let point = metrics::SummaryDataPoint { attributes: attributes.clone(), quantile_values, ..Default::default() };
    let summary = metrics::metric::Data::Summary(metrics::Summary { data_points: vec![point] });
    let gauge = metrics::metric::Data::Gauge(metrics::Gauge {
        data_points: vec![metrics::NumberDataPoint { attributes, ..number(1.0, 0) }],
    });
    let decoded = metrics_of(vec![("h", "", histogram), ("s", "", summary), ("g", "", gauge)]);
    assert!(decoded.rejected.is_empty());
    let expected = [
        r#"{__name__="h_bucket", a="b", le="+Inf", quantile="y"} 1"#,
        r#"{__name__="h_count", a="b", le="x", quantile="y"} 1"#,
        r#"{__name__="s", a="b", le="x", quantile="0.5"} 4"#,
        r#"{__name__="s_sum", a="b", le="x", quantile="y"} 0"#,
        r#"{__name__="s_count", a="b", le="x", quantile="y"} 0"#,
        r#"{__name__="g", a="b", le="x", quantile="y"} 1"#,
        r#"{__name__="target_info", host_name="h"} 1"#,
    ];
    assert_eq!(shown(&decoded), expected);
}

#[test]
fn a_name_or_unit_of_megabytes_refuses_its_metric_only() {
    let long = "a.".repeat(1 << 20);
    let data = || sum(2, true, vec![number(3.0, 0)]);
    let decoded = metrics_of(vec![(&long, "", data()), ("a", &long, data()), ("good", "", data())]);
    assert_eq!(shown(&decoded)[0], r#"{__name__="good_total", a_b="1"} 3"#);
    assert_eq!(decoded.rejected.count(), 2);
}

fn metrics_of(data: Vec<(&str, &str, metrics::metric::Data)>) -> Decoded<MetricsWithDeltas> {
    decode_metrics(&metrics_body(data), Format::Protobuf, &DEFAULT).unwrap()
}

fn metrics_body(data: Vec<(&str, &str, metrics::metric::Data)>) -> Vec<u8> {
    let of = |(name, unit, data): (&str, &str, metrics::metric::Data)| metrics::Metric {
        name: name.into(),
        unit: unit.into(),
        description: "Help.".into(),
        data: Some(data),
        ..metrics::Metric::default()
    };
    let metrics = data.into_iter().map(of).collect();
    let scope_metrics = vec![metrics::ScopeMetrics { metrics, ..metrics::ScopeMetrics::default() }];
    let resource_metrics =
        vec![metrics::ResourceMetrics { resource: shop(), scope_metrics, ..metrics::ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn shown(decoded: &Decoded<MetricsWithDeltas>) -> Vec<String> {
    let series = decoded.batch.batch.series.iter();
    series
        .map(|series| {
            let labels = series.labels.filter(|name, _| name != "job" && name != "instance");
            let value = series.samples.first().map_or_else(
                || format!("{:?}", series.histograms[0].histogram.positive),
                |sample| if is_stale(sample.value) { "stale".into() } else { sample.value.to_string() },
            );
            format!("{labels} {value}")
        })
        .collect()
}

fn number(value: f64, flags: u32) -> metrics::NumberDataPoint {
    metrics::NumberDataPoint {
        attributes: vec![text("a.b", "1")],
        time_unix_nano: 5_999_999,
        flags,
        value: Some(metrics::number_data_point::Value::AsDouble(value)),
        ..metrics::NumberDataPoint::default()
    }
}

fn sum(temporality: i32, is_monotonic: bool, points: Vec<metrics::NumberDataPoint>) -> metrics::metric::Data {
    metrics::metric::Data::Sum(metrics::Sum { data_points: points, aggregation_temporality: temporality, is_monotonic })
}

#[test]
fn numbers_become_gauges_and_counters_beside_target_info() {
    let gauge = metrics::metric::Data::Gauge(metrics::Gauge { data_points: vec![number(0.5, 0), number(1.0, 1)] });
    let decoded = metrics_of(vec![
        ("load", "1", gauge),
        ("requests", "{request}", sum(2, true, vec![number(3.0, 0)])),
        ("queue", "By", sum(1, false, vec![number(-4.0, 0)])),
        ("bad", "", sum(0, true, vec![number(1.0, 0)])),
    ]);
    let expected = [
        r#"{__name__="load_ratio", a_b="1"} 0.5"#,
        r#"{__name__="load_ratio", a_b="1"} stale"#,
        r#"{__name__="requests_total", a_b="1"} 3"#,
        r#"{__name__="queue_bytes", a_b="1"} -4"#,
        r#"{__name__="target_info", host_name="h"} 1"#,
    ];
    assert_eq!(shown(&decoded), expected);
    assert_eq!(decoded.batch.deltas, [3]);
    let first = &decoded.batch.batch.series[0];
    assert_eq!((first.labels.value("job"), first.labels.value("instance")), ("eu/shop", "i1"));
    assert_eq!(first.samples[0].t, 5);
    let kinds: Vec<_> =
        decoded.batch.batch.metadata.iter().map(|family| (family.name.as_str(), family.kind.as_str())).collect();
    let kinds_expected =
        [("load_ratio", "gauge"), ("requests_total", "counter"), ("queue_bytes", "gauge"), ("target_info", "gauge")];
    assert_eq!(kinds, kinds_expected);
    assert_eq!(decoded.rejected.iter().map(|(reason, _)| reason).collect::<Vec<_>>(), ["no_temporality"]);
}

#[test]
fn a_histogram_becomes_buckets_a_sum_and_a_count() {
    let exemplar = |value| metrics::Exemplar {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        value: Some(metrics::exemplar::Value::AsDouble(value)),
        ..metrics::Exemplar::default()
    };
    let point = metrics::HistogramDataPoint {
        count: 6,
        sum: Some(7.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.005, 1.0],
        exemplars: vec![exemplar(9.0), exemplar(0.5)],
        ..metrics::HistogramDataPoint::default()
    };
    let bad = metrics::HistogramDataPoint { bucket_counts: vec![1, 2], ..point.clone() };
    let data = metrics::Histogram { data_points: vec![point, bad], aggregation_temporality: 1 };
    let decoded = metrics_of(vec![("d", "s", metrics::metric::Data::Histogram(data))]);
    let expected = [
        r#"{__name__="d_seconds_bucket", le="0.005"} 1"#,
        r#"{__name__="d_seconds_bucket", le="1"} 3"#,
        r#"{__name__="d_seconds_bucket", le="+Inf"} 6"#,
        r#"{__name__="d_seconds_sum"} 7.5"#,
        r#"{__name__="d_seconds_count"} 6"#,
        r#"{__name__="target_info", host_name="h"} 1"#,
    ];
    assert_eq!(shown(&decoded), expected);
    assert_eq!(decoded.batch.deltas, [0, 1, 2, 3, 4]);
    let exemplars: Vec<_> = decoded.batch.batch.series.iter().map(|series| series.exemplars.len()).collect();
    assert_eq!(exemplars, [0, 1, 1, 0, 0, 0]);
    assert_eq!(decoded.batch.batch.series[1].exemplars[0].labels.value("span_id"), "02".repeat(8));
    assert_eq!(decoded.rejected.count(), 1);
}

#[test]
fn exponential_histograms_and_summaries_are_converted() {
    let positive = Some(metrics::exponential_histogram_data_point::Buckets { offset: 0, bucket_counts: vec![1, 2] });
    let point = metrics::ExponentialHistogramDataPoint { count: 3, positive, ..Default::default() };
    let coarse = metrics::ExponentialHistogramDataPoint { scale: -9, ..point.clone() };
    let exponential = metrics::metric::Data::ExponentialHistogram(metrics::ExponentialHistogram {
        data_points: vec![point, coarse],
        aggregation_temporality: 2,
    });
    let quantile_values = vec![metrics::summary_data_point::ValueAtQuantile { quantile: 0.99, value: 4.0 }];
    let point = metrics::SummaryDataPoint { count: 3, sum: 6.0, quantile_values, ..Default::default() };
    let summary = metrics::metric::Data::Summary(metrics::Summary { data_points: vec![point] });
    let decoded = metrics_of(vec![("e", "", exponential), ("s", "", summary)]);
    let expected = [
        r#"{__name__="e"} [1.0, 2.0]"#,
        r#"{__name__="s", quantile="0.99"} 4"#,
        r#"{__name__="s_sum"} 6"#,
        r#"{__name__="s_count"} 3"#,
        r#"{__name__="target_info", host_name="h"} 1"#,
    ];
    assert_eq!(shown(&decoded), expected);
    assert_eq!(decoded.rejected.count(), 1);
}

#[test]
fn a_bucket_for_each_of_a_million_bounds_is_too_large() {
    let bounds: Vec<f64> = (0..1_000_000).map(f64::from).collect();
    let point = metrics::HistogramDataPoint {
        bucket_counts: vec![0; bounds.len() + 1],
        explicit_bounds: bounds,
        ..metrics::HistogramDataPoint::default()
    };
    let data = metrics::Histogram { data_points: vec![point], aggregation_temporality: 2 };
    let metric = metrics::Metric {
        name: "x".into(),
        data: Some(metrics::metric::Data::Histogram(data)),
        ..metrics::Metric::default()
    };
    let scope_metrics = vec![metrics::ScopeMetrics { metrics: vec![metric], ..Default::default() }];
    let resource_metrics = vec![metrics::ResourceMetrics { scope_metrics, ..Default::default() }];
    let body = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    assert_eq!(decode_metrics(&body, Format::Protobuf, &DEFAULT).unwrap_err().class(), ErrorClass::TooLarge);
}

#[test]
fn names_that_grow_with_their_nesting_are_metered() {
    let mut inner = text("leaf", "x");
    for _ in 0..25 {
        let list = KeyValueList { values: vec![inner] };
        inner = attribute(&"k".repeat(100_000), Value::KvlistValue(list));
    }
    let record = logs::LogRecord { attributes: vec![inner; 10], ..logs::LogRecord::default() };
    let error = decode_logs(&logs_body(vec![record]), Format::Protobuf, &DEFAULT);
    assert_eq!(error.unwrap_err().class(), ErrorClass::TooLarge);
}

#[test]
fn partial_success_is_said_in_both_formats() {
    use crate::model::batch::Signal;
    assert!(response::export(Signal::Traces, Format::Protobuf, 0, "").is_empty());
    assert_eq!(response::export(Signal::Traces, Format::Json, 0, ""), b"{}");
    let json = response::export(Signal::Logs, Format::Json, 3, "why");
    assert_eq!(json, br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"why"}}"#);
    let bytes = response::export(Signal::Metrics, Format::Protobuf, 3, "why");
    assert_eq!(bytes, b"\x0a\x07\x08\x03\x12\x03why");
}

fn any_body() -> (Vec<u8>, Vec<u8>) {
    let sent = span(&[7; 16], &[8; 8], vec![attribute("n", Value::DoubleValue(0.5))]);
    let record = logs::LogRecord { body: Some(nested(3)), attributes: vec![text("a", "b")], ..Default::default() };
    (traces_body(vec![sent]), logs_body(vec![record]))
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
        for format in [Format::Protobuf, Format::Json] {
            let _ = decode_traces(&bytes, format, &DEFAULT);
            let _ = decode_logs(&bytes, format, &DEFAULT);
            let _ = decode_metrics(&bytes, format, &DEFAULT);
        }
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0usize..200, byte in 0u8..) {
        let (mut traces, mut logs) = any_body();
        for body in [&mut traces, &mut logs] {
            let at = at % body.len();
            body[at] = byte;
            let _ = decode_traces(body, Format::Protobuf, &DEFAULT);
            let _ = decode_logs(body, Format::Protobuf, &DEFAULT);
            let _ = decode_metrics(body, Format::Protobuf, &DEFAULT);
        }
    }

    #[test]
    fn no_damaged_json_makes_it_panic(at in 0usize..200, byte in 0u8..) {
        let mut body = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"a","histogram":{"dataPoints":[
            {"count":"3","bucketCounts":["1","2"],"explicitBounds":[0.5],"timeUnixNano":"5"}]}}]}]}]}"#.to_vec();
        let at = at % body.len();
        body[at] = byte;
        let _ = decode_metrics(&body, Format::Json, &DEFAULT);
    }
}
