//! What Loki pushes, good and bad, decode to.

use super::*;
use crate::base::error::{Classify, ErrorClass};
use crate::model::batch::LogsBatch;
use crate::wire::Decoded;
use crate::wire::limits::DEFAULT;
use crate::wire::protobuf::{put_bytes, put_message, put_uint};

fn put_entry(out: &mut Vec<u8>, seconds: i64, nanos: i64, line: &[u8], metadata: &[(&[u8], &[u8])]) {
    put_message(out, 2, |out| {
        put_message(out, 1, |out| {
            put_uint(out, 1, seconds.cast_unsigned());
            put_uint(out, 2, nanos.cast_unsigned());
        });
        put_bytes(out, 2, line);
        for (name, value) in metadata {
            put_message(out, 3, |out| {
                put_bytes(out, 1, name);
                put_bytes(out, 2, value);
            });
        }
    });
}

fn push(labels: &[u8], fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_bytes(out, 1, labels);
        fill(out);
        put_uint(out, 3, 42);
    });
    body
}

fn shown(decoded: &Decoded<LogsBatch>) -> Vec<(String, i64, String, String)> {
    let mut rows = Vec::new();
    for stream in &decoded.batch.streams {
        for entry in &stream.entries {
            rows.push((stream.labels.to_string(), entry.t, entry.line.clone(), entry.metadata.to_string()));
        }
    }
    rows
}

#[test]
fn protobuf_and_json_give_the_same() {
    let body = push(br#"{job="a", app="b"}"#, |out| {
        put_entry(out, 1, 5, b"first", &[]);
        put_entry(out, -1, 0, "zweite ü".as_bytes(), &[(b"a.b", b"1"), (b"9x", b"2"), (b"job", b"3")]);
    });
    let json = r#"{"streams":[{"values":[["1000000005","first"],["-1000000000","zweite ü",
        {"a.b":"1","9x":"2","job":"3"}]],"stream":{"job":"a","app":"b"}}],"other":[[[]]]}"#;
    let from_protobuf = decode_protobuf(&body, &DEFAULT).unwrap();
    let labels = r#"{app="b", job="a"}"#.to_owned();
    let metadata = r#"{a_b="1", job_extracted="3", key_9x="2"}"#.to_owned();
    let expected = vec![
        (labels.clone(), 1_000_000_005, "first".to_owned(), "{}".to_owned()),
        (labels, -1_000_000_000, "zweite ü".to_owned(), metadata),
    ];
    assert_eq!(shown(&from_protobuf), expected);
    assert_eq!(shown(&decode_json(json.as_bytes(), &DEFAULT).unwrap()), expected);
}

#[test]
fn the_old_json_form_is_read() {
    let json = r#"{"streams":[{"labels":"{a=\"1\"}","entries":[{"ts":"1970-01-01T00:00:01.5Z","line":"x"}]}]}"#;
    let decoded = decode_json(json.as_bytes(), &DEFAULT).unwrap();
    assert_eq!(shown(&decoded), [(r#"{a="1"}"#.into(), 1_500_000_000, "x".into(), "{}".into())]);
}

#[test]
fn no_streams_is_an_error_of_its_own_and_no_lines_is_fine() {
    assert_eq!(decode_protobuf(&[], &DEFAULT).unwrap_err().class(), ErrorClass::Execution);
    assert_eq!(decode_json(br#"{"streams":[]}"#, &DEFAULT).unwrap_err().class(), ErrorClass::Execution);
    let decoded = decode_json(br#"{"streams":[{"stream":{},"values":[]}]}"#, &DEFAULT).unwrap();
    assert!(decoded.batch.streams.is_empty() && decoded.rejected.is_empty());
}

#[test]
fn bad_streams_and_lines_are_refused_and_the_others_are_taken() {
    let mut body = push(b"{a=\"1\"}", |out| {
        put_entry(out, 1, 0, b"good", &[]);
        put_entry(out, 1, 0, b"empty name", &[(b"", b"x")]);
    });
    body.extend(push(b"{a=", |out| put_entry(out, 1, 0, b"x", &[])));
    body.extend(push(b"{a=\"1\",a=\"2\"}", |out| put_entry(out, 1, 0, b"x", &[])));
    body.extend(push(b"{}", |out| put_entry(out, 1, 0, b"x", &[])));
    body.extend(push(b"", |out| put_entry(out, 1, 0, b"x", &[])));
    let decoded = decode_protobuf(&body, &DEFAULT).unwrap();
    assert_eq!(shown(&decoded).len(), 1);
    let reasons: Vec<_> = decoded.rejected.iter().map(|(reason, refused)| (reason, refused.count)).collect();
    assert_eq!(reasons, [("invalid_labels", 3), ("invalid_metadata", 1), ("missing_labels", 1)]);
}

#[test]
fn json_of_the_wrong_shape_is_bad_data() {
    let bodies = [
        "",
        "{",
        "[]",
        r#"{"streams":[{"stream":{"a":"b"},"values":[[1,"x"]]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[["x","x"]]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1",2]]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"m":1}]]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":{}}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1","cut \ud83d"]]}]}"#,
        "{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"1\",\"x\"\u{fffd}]]}]}",
        r#"{"streams":[]} x"#,
    ];
    for body in bodies {
        assert_eq!(decode_json(body.as_bytes(), &DEFAULT).unwrap_err().class(), ErrorClass::BadData, "{body}");
    }
    let nested = format!(r#"{{"x":{}"#, "[".repeat(10_000));
    assert_eq!(decode_json(nested.as_bytes(), &DEFAULT).unwrap_err().class(), ErrorClass::BadData);
}

#[test]
fn text_that_is_not_utf8_is_taken_as_replacement_characters() {
    let body = push(b"{a=\"\xe9\"}", |out| put_entry(out, 1, 0, b"caf\xe9 \xff", &[(b"n\xe9", b"v\xff")]));
    let from_protobuf = shown(&decode_protobuf(&body, &DEFAULT).unwrap());
    let json = b"{\"streams\":[{\"stream\":{\"a\":\"\xe9\"},\"values\":[[\"1000000000\",\"caf\xe9 \xff\",{\"n\xe9\":\"v\xff\"}]]}]}";
    assert_eq!(shown(&decode_json(json, &DEFAULT).unwrap()), from_protobuf);
    let [(labels, t, line, metadata)] = from_protobuf.as_slice() else { panic!("one line") };
    assert_eq!((labels.as_str(), *t, line.as_str()), ("{a=\"\u{fffd}\"}", 1_000_000_000, "caf\u{fffd} \u{fffd}"));
    assert_eq!(metadata, "{n_=\"v\u{fffd}\"}");
}

#[test]
fn label_values_that_are_no_strings_are_their_own_text() {
    let json = r#"{"streams":[{"stream":{"i":5,"f":1.50,"b":true,"n":null,"s":"a\"b"},"values":[["1","x"]]},
        {"stream":{"a":"b"},"values":null}]}"#;
    let decoded = decode_json(json.as_bytes(), &DEFAULT).unwrap();
    assert!(decoded.rejected.is_empty());
    let labels: Vec<_> = shown(&decoded).into_iter().map(|(labels, ..)| labels).collect();
    assert_eq!(labels, [r#"{b="true", f="1.50", i="5", n="null", s="a\"b"}"#]);
}

#[test]
fn a_stream_without_labels_is_refused_unless_it_has_no_lines() {
    for stream in ["{}", r#"{"a":""}"#] {
        let json = format!(r#"{{"streams":[{{"stream":{stream},"values":[["1","x"],["2","y"]]}}]}}"#);
        let decoded = decode_json(json.as_bytes(), &DEFAULT).unwrap();
        let refused: Vec<_> = decoded.rejected.iter().map(|(reason, refused)| (reason, refused.count)).collect();
        assert_eq!((refused, decoded.batch.streams.len()), (vec![("missing_labels", 2)], 0), "{stream}");
    }
}

#[test]
fn metadata_named_like_labels_is_renamed_in_time_that_does_not_grow_with_its_square() {
    let pairs: Vec<String> = (0..1000).map(|n| format!(r#""n{n}":"{}""#, "v".repeat(500))).collect();
    let json = format!(
        r#"{{"streams":[{{"stream":{{"n7":"x","n8":"y"}},"values":[["1","x",{{{},"n7_extracted":"z"}}]]}}]}}"#,
        pairs.join(",")
    );
    let decoded = decode_json(json.as_bytes(), &DEFAULT).unwrap();
    let metadata = &decoded.batch.streams[0].entries[0].metadata;
    assert_eq!((metadata.len(), metadata.value("n7"), metadata.value("n8_extracted").len()), (1000, "", 500));
    assert!(!metadata.value("n7_extracted").is_empty());
}

#[test]
fn ten_thousand_pairs_of_metadata_refuse_their_line_only() {
    let names: Vec<Vec<u8>> = (0..10_000).map(|n| format!("n{n}").into_bytes()).collect();
    let pairs: Vec<(&[u8], &[u8])> = names.iter().map(|name| (name.as_slice(), b"1".as_slice())).collect();
    let body = push(b"{a=\"1\"}", |out| {
        put_entry(out, 1, 0, b"bad", &pairs);
        put_entry(out, 1, 0, b"good", &[]);
    });
    let decoded = decode_protobuf(&body, &DEFAULT).unwrap();
    assert_eq!((shown(&decoded).len(), decoded.rejected.count()), (1, 1));
}

#[test]
fn millions_of_empty_lines_are_too_large() {
    let body = push(b"{a=\"1\"}", |out| out.extend([0x12, 0x00].repeat(4_000_000)));
    assert_eq!(decode_protobuf(&body, &DEFAULT).unwrap_err().class(), ErrorClass::TooLarge);
    let json = format!(r#"{{"streams":[{{"values":[{}["1",""]]}}]}}"#, r#"["1",""],"#.repeat(2_000_000));
    assert_eq!(decode_json(json.as_bytes(), &DEFAULT).unwrap_err().class(), ErrorClass::TooLarge);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
        let _ = decode_protobuf(&bytes, &DEFAULT);
        let _ = decode_json(&bytes, &DEFAULT);
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0usize..200, byte in 0u8..) {
        let mut body = push(br#"{job="a"}"#, |out| put_entry(out, 1, 5, b"first", &[(b"a", b"b")]));
        let mut json = br#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"m":"1"}]]}]}"#.to_vec();
        for body in [&mut body, &mut json] {
            let at = at % body.len();
            body[at] = byte;
        }
        let _ = decode_protobuf(&body, &DEFAULT);
        let _ = decode_json(&json, &DEFAULT);
    }
}
