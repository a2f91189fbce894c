//! Text in, batches out, and back.

use super::*;
use crate::model::labels::Labels;
use crate::wire::limits::DEFAULT;

fn parse(format: Format, text: &str) -> (Decoded<MetricsBatch>, Result<(), WireError>) {
    let mut parser = Parser::new(format, 77, &DEFAULT);
    parser.feed(text.as_bytes()).unwrap();
    parser.finish()
}

fn shown(decoded: &Decoded<MetricsBatch>) -> Vec<String> {
    let rows = decoded.batch.series.iter().flat_map(|series| {
        series.samples.iter().map(move |sample| format!("{} {} {}", series.labels, sample.value, sample.t))
    });
    rows.collect()
}

#[test]
fn all_that_openmetrics_can_say_is_read() {
    let text = "# TYPE http_requests counter\n# HELP http_requests Requests \\\"seen\\\".\n# UNIT size_bytes bytes\n\
                http_requests_total{path=\"/\\n\\\\\\\"\",code=\"200\"} 5 1700000000.123 # {trace_id=\"ab\"} 0.5 1700000000.1\n\
                http_requests_total{path=\"/\\n\\\\\\\"\",code=\"200\"} 6 1700000001\n\
                size_bytes +Inf\nx{} NaN -0.5\n{\"my.name\",\"a.b\"=\"c\"} 1e3 1\n# EOF\n";
    let (decoded, whole) = parse(Format::OpenMetrics, text);
    assert_eq!(whole, Ok(()));
    assert!(decoded.rejected.is_empty(), "{}", decoded.rejected.summary());
    assert_eq!(
        shown(&decoded),
        [
            r#"{__name__="http_requests_total", code="200", path="/\n\\\""} 5 1700000000123"#,
            r#"{__name__="http_requests_total", code="200", path="/\n\\\""} 6 1700000001000"#,
            r#"{__name__="size_bytes"} inf 77"#,
            r#"{__name__="x"} NaN -500"#,
            r#"{__name__="my.name", a.b="c"} 1000 1000"#,
        ]
    );
    assert_eq!(decoded.batch.series[0].exemplars[0].t, 1_700_000_000_100);
    let metadata: Vec<_> = decoded.batch.metadata.iter().map(|one| (one.name.as_str(), one.kind.as_str())).collect();
    assert_eq!(metadata, [("http_requests_total", "counter"), ("size_bytes", "unknown")]);
    assert_eq!(decoded.batch.metadata[0].help, "Requests \"seen\".");
}

#[test]
fn a_wrong_line_is_named_and_the_others_are_taken() {
    let text = "a 1 5\nb{ 1\nc x\nd 1 soon\ne{a=\"1\" b=\"2\"} 1\nf\n# TYPE g nothing\n{a=\"b\"} 1\nh{a=\"1\",a=\"2\"} 1\ni 2 5\n";
    let (decoded, _) = parse(Format::Prometheus, text);
    assert_eq!(shown(&decoded), [r#"{__name__="a"} 1 5"#, r#"{__name__="i"} 2 5"#]);
    assert_eq!(decoded.rejected.count(), 8, "{}", decoded.rejected.summary());
    assert!(decoded.rejected.summary().contains("line 2: "), "{}", decoded.rejected.summary());
}

#[test]
fn a_text_without_its_end_is_said_to_be_cut_short() {
    let (decoded, whole) = parse(Format::OpenMetrics, "a 1 5\nb 2 5");
    assert_eq!(shown(&decoded).len(), 2);
    assert!(whole.unwrap_err().to_string().contains("cut short"));
    assert_eq!(parse(Format::Unknown, "a 1").1, Ok(()));
    assert_eq!(parse(Format::OpenMetrics, "# EOF\na 1\n").0.rejected.count(), 1);
}

#[test]
fn times_are_seconds_or_milliseconds() {
    let t = |format, text: &str| parse(format, &format!("a 1 {text}")).0.batch.series[0].samples[0].t;
    assert_eq!(t(Format::OpenMetrics, "1700000000000"), 1_700_000_000_000_000);
    assert_eq!(t(Format::Prometheus, "1700000000"), 1_700_000_000);
    assert_eq!(t(Format::Unknown, "1700000000"), 1_700_000_000_000);
    assert_eq!(t(Format::Unknown, "1700000000.5"), 1_700_000_000_500);
    assert_eq!(t(Format::Unknown, "1700000000000"), 1_700_000_000_000);
    assert!(parse(Format::OpenMetrics, "a 1 1e300").0.batch.series.is_empty());
}

#[test]
fn pieces_may_be_cut_anywhere_and_batches_taken_between_them() {
    let text: String = (0..50).map(|n| format!("m{{n=\"{}\"}} {n} {n}\n", n / 10)).collect();
    let whole = shown(&parse(Format::Prometheus, &text).0);
    for size in [1, 7, 64] {
        let mut parser = Parser::new(Format::Prometheus, 0, &DEFAULT);
        let mut rows = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            parser.feed(piece).unwrap();
            rows.extend(shown(&parser.take()));
        }
        rows.extend(shown(&parser.finish().0));
        assert_eq!(rows, whole, "{size}");
    }
    assert_eq!(parse(Format::Prometheus, &text).0.batch.series.len(), 5);
    let mut parser = Parser::new(Format::Prometheus, 0, &DEFAULT);
    assert!((0..40).any(|_| parser.feed(&[b'a'; 64 << 10]).is_err()));
}

#[test]
fn what_is_written_is_read_back() {
    let metadata = MetricMetadata {
        name: "jobs_total".into(),
        kind: "counter".into(),
        help: "Jobs \"done\"\nso far.".into(),
        unit: String::new(),
    };
    let labels = [
        Labels::from_pairs([("__name__", "jobs_total"), ("a", "1\n\\\"x"), ("b", "ü")]).unwrap(),
        Labels::from_pairs([("__name__", "odd.name"), ("a b", "1")]).unwrap(),
        Labels::from_pairs([("__name__", "bare")]).unwrap(),
    ];
    let values = [1.0, -0.0, 1e-300, 5e-324, f64::MAX, 0.1, 1e15, f64::INFINITY, f64::NEG_INFINITY, 12_345.678];
    let exemplar =
        Exemplar { labels: Labels::from_pairs([("trace_id", "x")]).unwrap(), value: 2.5, t: 1_700_000_000_001 };
    let mut text = String::new();
    let family = write::family("jobs_total", |name| (name == "jobs_total").then_some("counter"));
    assert_eq!(family, "jobs");
    write::metadata(&mut text, family, &metadata);
    for labels in &labels {
        for (at, value) in values.iter().enumerate() {
            write::series(&mut text, labels);
            write::sample(&mut text, *value, 1_700_000_000_000 + at as i64, Some(&exemplar).filter(|_| at == 3));
        }
    }
    text.push_str(write::END);
    let (decoded, whole) = parse(Format::OpenMetrics, &text);
    assert_eq!(whole, Ok(()));
    assert!(decoded.rejected.is_empty(), "{}\n{text}", decoded.rejected.summary());
    assert_eq!(decoded.batch.metadata, [metadata]);
    assert_eq!(decoded.batch.series.len(), 3);
    for (series, labels) in decoded.batch.series.iter().zip(&labels) {
        assert_eq!(series.labels, *labels);
        let read: Vec<_> = series.samples.iter().map(|sample| sample.value.to_bits()).collect();
        assert_eq!(read, values.map(f64::to_bits));
        assert_eq!(series.exemplars, std::slice::from_ref(&exemplar));
    }
}

#[test]
fn a_time_survives_readers_that_cut_instead_of_rounding() {
    for t in (-2_000..2_000).chain(1_700_000_000_000..1_700_000_005_000).chain(-1_700_000_001_000..-1_700_000_000_000) {
        let mut text = String::new();
        write::sample(&mut text, 1.0, t, None);
        let written = text.trim().split_once(' ').unwrap().1;
        assert_eq!((written.parse::<f64>().unwrap() * 1000.0) as i64, t, "{written}");
        assert_eq!(parse(Format::OpenMetrics, &format!("a{text}")).0.batch.series[0].samples[0].t, t, "{written}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..300)) {
        for format in [Format::OpenMetrics, Format::Prometheus, Format::Unknown] {
            let mut parser = Parser::new(format, 0, &DEFAULT);
            parser.feed(&bytes).unwrap();
            let _ = parser.finish();
        }
    }

    #[test]
    fn no_line_makes_it_panic(text in "[a{}\"=\\\\,# 1.é\n]{0,60}") {
        let _ = parse(Format::Unknown, &text);
    }
}
