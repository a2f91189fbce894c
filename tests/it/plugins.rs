//! Readers as strict as Grafana's plugins: what they cannot decode fails a test.

use std::io::Read as _;

use serde_json::{Map, Value};

use super::doors::Answer;

/// The body as it was before it was compressed; gzip is the only encoding there is.
pub(super) fn plain(answer: &Answer, what: &str) -> Vec<u8> {
    let encoding = answer.head.lines().find_map(|line| line.strip_prefix("content-encoding: "));
    match encoding {
        None => answer.body.clone(),
        Some("gzip") => {
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_end(&mut body).unwrap();
            body
        }
        Some(other) => panic!("{what} came in {other}"),
    }
}

/// The body of a JSON answer of status 200 that hides no error.
pub(super) fn json(answer: &Answer, what: &str) -> Value {
    let body = plain(answer, what);
    let text = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(answer.status, 200, "{what}: {text}");
    assert!(answer.head.contains("content-type: application/json"), "{what}: {}", answer.head);
    let value: Value = serde_json::from_slice(&body).unwrap();
    assert!(value.get("error").is_none() && value["status"] != "error", "{what}: an error under 200: {text}");
    value
}

/// An error answer: its status, one readable line, no page.
pub(super) fn error(answer: &Answer, status: u16, what: &str) -> String {
    let text = String::from_utf8(plain(answer, what)).unwrap();
    assert_eq!(answer.status, status, "{what}: {text}");
    let plain = answer.head.contains("content-type: text/plain");
    assert!(plain || answer.head.contains("content-type: application/json"), "{what}: {}", answer.head);
    assert!(!text.is_empty() && !text.contains('<') && text.trim_end().lines().count() == 1, "{what}: {text}");
    text
}

/// What is equal between two answers to the same question: all but how the work went.
pub(super) fn lasting(mut value: Value) -> Value {
    if let Some(top) = value.as_object_mut() {
        top.remove("metrics");
        // Of `index/stats`: what lies on two days is one piece in memory and two in parts.
        top.remove("chunks");
        if let Some(data) = top.get_mut("data").and_then(Value::as_object_mut) {
            data.remove("stats");
        }
    }
    value
}

fn texts(map: &Value, what: &str) {
    let map = map.as_object().unwrap_or_else(|| panic!("{what}: no label set"));
    assert!(map.values().all(Value::is_string), "{what}: {map:?}");
}

fn sample(value: &Value, what: &str) {
    let pair = value.as_array().unwrap();
    assert!(pair.len() == 2 && pair[0].is_number() && pair[1].is_string(), "{what}: {value}");
    let number = pair[1].as_str().unwrap();
    assert!(number.parse::<f64>().is_ok(), "{what}: {value}");
}

fn histogram(value: &Value, what: &str) {
    let pair = value.as_array().unwrap();
    assert!(pair.len() == 2 && pair[0].is_number(), "{what}: {value}");
    assert!(pair[1]["count"].is_string() && pair[1]["sum"].is_string(), "{what}: {value}");
    for bucket in pair[1]["buckets"].as_array().into_iter().flatten() {
        let bucket = bucket.as_array().unwrap();
        assert!(bucket.len() == 4 && bucket[0].is_u64() && bucket[1..].iter().all(Value::is_string), "{what}");
    }
}

fn rising(values: &Value, what: &str) {
    let times: Vec<f64> = values.as_array().unwrap().iter().map(|value| value[0].as_f64().unwrap()).collect();
    assert!(!times.is_empty() && times.is_sorted_by(|a, b| a < b), "{what}: {times:?}");
}

fn series(one: &Map<String, Value>, what: &str) {
    texts(&one["metric"], what);
    for (key, value) in one {
        let many = || value.as_array().unwrap().iter();
        match key.as_str() {
            "metric" => {}
            "value" => sample(value, what),
            "histogram" => histogram(value, what),
            "values" => {
                many().for_each(|value| sample(value, what));
                rising(value, what);
            }
            "histograms" => {
                many().for_each(|value| histogram(value, what));
                rising(value, what);
            }
            other => panic!("{what}: {other} in a series"),
        }
    }
}

/// Fails unless `first` comes before `result`: the parsers read while the answer streams in.
fn before_result(data: &Value, first: &str, what: &str) {
    let keys: Vec<&String> = data.as_object().unwrap().keys().collect();
    let place = |name: &str| keys.iter().position(|key| *key == name);
    assert!(place(first).is_some() && place(first) < place("result"), "{what}: {keys:?}");
}

/// An answer to `query` or `query_range` of Prometheus, or to a metric query of Loki.
pub(super) fn metric_answer(value: &Value, what: &str) {
    assert_eq!(value["status"], "success", "{what}");
    let data = &value["data"];
    before_result(data, "resultType", what);
    match data["resultType"].as_str().unwrap() {
        "scalar" => sample(&data["result"], what),
        "string" => assert!(data["result"][0].is_number() && data["result"][1].is_string(), "{what}: {data}"),
        "vector" | "matrix" => {
            for one in data["result"].as_array().unwrap() {
                series(one.as_object().unwrap(), what);
            }
        }
        other => panic!("{what}: {other}"),
    }
}

/// Lines of Loki; `categorized` when the flag that asks for triples was sent.
pub(super) fn log_answer(value: &Value, categorized: bool, what: &str) {
    let data = &value["data"];
    assert_eq!((&value["status"], &data["resultType"]), (&"success".into(), &"streams".into()), "{what}");
    before_result(data, "resultType", what);
    assert_eq!(data.get("encodingFlags").is_some(), categorized, "{what}");
    if categorized {
        before_result(data, "encodingFlags", what);
    }
    for stream in data["result"].as_array().unwrap() {
        texts(&stream["stream"], what);
        for line in stream["values"].as_array().unwrap() {
            let line = line.as_array().unwrap();
            assert_eq!(line.len(), if categorized { 3 } else { 2 }, "{what}: {line:?}");
            assert!(line[0].as_str().unwrap().parse::<i64>().is_ok() && line[1].is_string(), "{what}: {line:?}");
            for (key, labels) in line.get(2).and_then(Value::as_object).into_iter().flatten() {
                assert!(key == "structuredMetadata" || key == "parsed", "{what}: {key}");
                texts(labels, what);
            }
        }
    }
}

/// Series of TraceQL metrics: over time, or one value each.
pub(super) fn trace_metrics(value: &Value, what: &str) {
    let known = ["series", "metrics", "status", "message"];
    assert!(value.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{what}: {value}");
    for one in value["series"].as_array().unwrap() {
        for (key, content) in one.as_object().unwrap() {
            match key.as_str() {
                "labels" => assert!(content.as_array().unwrap().iter().all(|label| label["value"].is_object())),
                "value" => assert!(content.is_number(), "{what}: {one}"),
                "samples" => {
                    let times = content.as_array().unwrap().iter();
                    assert!(times.clone().all(|sample| sample["timestampMs"].is_string()), "{what}: {one}");
                }
                "exemplars" => assert!(content.is_array()),
                "promLabels" => assert!(content.is_string()),
                other => panic!("{what}: {other} in a series"),
            }
        }
    }
}

/// Traces as Jaeger's plugin decodes them.
pub(super) fn jaeger_traces(value: &Value, what: &str) {
    for trace in value["data"].as_array().unwrap() {
        let spans = trace["spans"].as_array().unwrap();
        assert!(!spans.is_empty(), "{what}: a trace without spans");
        for span in spans {
            assert!(span["startTime"].is_i64() && span["duration"].is_i64(), "{what}: {span}");
            let process = &trace["processes"][span["processID"].as_str().unwrap()];
            assert!(process["serviceName"].is_string(), "{what}: {span}");
            let warnings = &span["warnings"];
            assert!(warnings.is_null() || warnings.as_array().unwrap().iter().all(Value::is_string), "{what}");
        }
    }
}
