//! Attacks by odd bytes: what is no UTF-8, no HTTP, no number, no path.

use super::client::Outcome;
use super::encode::{JSON, PROTOBUF};
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::surface;

pub(super) const ATTACKS: &[Attack] = &[
    row("queries that are not UTF-8", not_utf8),
    row("NUL, CR and LF in every parameter", control),
    row("parameters that are no numbers, at every endpoint", odd_numbers),
    row("every method at every path", methods),
    row("heads that are no HTTP", not_http),
    row("requests smuggled behind others", smuggled),
    row("lone surrogates and odd JSON", odd_json),
    row("random bytes at every door", random_bytes),
    row("paths that climb", odd_paths),
    row("odd headers at every door", odd_headers),
    row("websockets that are none", odd_websockets),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::Odd, run }
}

/// Parameters that any endpoint may read.
const PARAMETERS: &[&str] = &[
    "query",
    "q",
    "match%5B%5D",
    "start",
    "end",
    "step",
    "time",
    "timeout",
    "limit",
    "spss",
    "since",
    "interval",
    "direction",
    "tags",
    "minDuration",
    "maxDuration",
    "service",
    "lookback",
    "endTs",
    "delay_for",
    "targetLabels",
    "line_limit",
    "scope",
    "lookback_delta",
    "stats",
    "metric",
    "exemplars",
    "traceID",
    "tag",
    "operation",
    "aggregateBy",
    "limit_per_metric",
];

fn not_utf8(scene: &Scene<'_>) {
    for door in surface::queries() {
        for parameter in ["query", "q", "match%5B%5D", "tags", "service"] {
            let call = format!("{}?{parameter}=%7Ba%3D%22%ff%fe%22%7D", door.path);
            let outcome = scene.send(door.method(), &call, "", b"");
            scene.polite(&call, &outcome);
            if door.posts() {
                scene.polite(&call, &scene.form(&door.path, &format!("{parameter}=%ff%fe%7B%7D")));
            }
        }
    }
    // Where the language is read, it is refused: something else than what was asked would be answered.
    for (path, query) in [
        ("/api/v1/query", "query=%22%ff%22"),
        ("/api/v1/query_range", "query=%22%ff%22&start=0&end=1&step=1"),
        ("/loki/api/v1/query_range", "query=%7Bapp%3D%22%ff%22%7D"),
        ("/tempo/api/search", "q=%7B.a%3D%22%ff%22%7D"),
    ] {
        scene.refused(path, &scene.get(&format!("{path}?{query}")));
        scene.refused(path, &scene.form(path, query));
    }
}

fn control(scene: &Scene<'_>) {
    for door in surface::all(scene) {
        let calls = [
            format!("{}?{}%00", door.path, door.params),
            format!("{}%00?{}", door.path, door.params),
            format!("{}?query=a%0d%0aSet-Cookie:%20a%3Db&q=%0d%0a%0d%0a&match%5B%5D=%0d%0a", door.path),
        ];
        for call in calls {
            let outcome = scene.send(door.method(), &call, "", b"");
            scene.polite(&call, &outcome);
            if let Outcome::Answered(answer) = &outcome
                && answer.head.contains("\nset-cookie")
            {
                scene.fault(&call, "the answer's head holds a line of the request");
            }
        }
    }
}

fn odd_numbers(scene: &Scene<'_>) {
    let values = [
        "NaN",
        "-Inf",
        "1e400",
        "-1e400",
        "-9223372036854775808",
        "9223372036854775807",
        "99999999999999999999999999",
        "1e-400",
        "0x7fffffffffffffff",
        "-0",
        "1_000",
        "",
        "%20",
        "%2B5",
        "1d1h1ms1y1x",
        "9999999999999y",
        "-5m",
        "2024-13-45T25:61:61Z",
        "0000-00-00T00:00:00Z",
        "99999-01-01T00:00:00Z",
        "true",
        "%F0%9F%92%A9",
        "1%00",
    ];
    for (at, door) in surface::queries().iter().enumerate() {
        // All of them in the long run; in the short one each is met by some endpoint.
        for value in values.iter().skip(if scene.full { 0 } else { at % 5 }).step_by(scene.pick(5, 1)) {
            let all = PARAMETERS.iter().map(|name| format!("{name}={value}")).collect::<Vec<_>>().join("&");
            scene.polite(
                &format!("{} {value}", door.path),
                &scene.send(door.method(), &format!("{}?{all}", door.path), "", b""),
            );
            // The right parameters but for the numbers among them.
            let odd = format!(
                "{}?{}&start={value}&end={value}&step={value}&limit={value}&time={value}&timeout={value}",
                door.path, door.params
            );
            scene.polite(&format!("{} {value}", door.path), &scene.send(door.method(), &odd, "", b""));
        }
    }
}

fn methods(scene: &Scene<'_>) {
    let odd = ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "FOO", "PRI"];
    for (turn, door) in surface::all(scene).iter().enumerate() {
        for method in odd.iter().skip(if scene.full { 0 } else { turn % 3 }).step_by(scene.pick(3, 1)) {
            scene.polite(&format!("{method} {}", door.path), &scene.send(method, &door.path, "", b"x"));
        }
        scene.polite(&door.path, &scene.get(&door.call()));
        scene.polite(&door.path, &scene.post(&door.path, "", b""));
    }
}

fn not_http(scene: &Scene<'_>) {
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET /\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\nA\x00B: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : t\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\n folded: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\nHost: t\nConnection: close\n\n",
        b"GET http://[::1]:99999999/ HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        b"GET /a b c HTTP/1.1\r\nHost: t\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        b"\x00",
        &[0xff; 300_000],
        &[b'\n'; 300_000],
        &[b'A'; 300_000],
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        // Half a head may wait for its other half.
        let outcome = super::client::exchange(scene.main, bytes, std::time::Duration::from_millis(300));
        if let Some(status) = outcome.status()
            && status == 500
        {
            scene.fault(&shown, &outcome.shown());
        }
    }
}

fn smuggled(scene: &Scene<'_>) {
    let second = "GET /-/healthy HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
    ] {
        for path in ["/api/v1/write", "/api/v1/query", "/v1/logs", "/loki/api/v1/push"] {
            let bytes = format!("POST {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n0\r\n\r\n{second}");
            scene.touch(path);
            let outcome = super::client::exchange(scene.main, bytes.as_bytes(), std::time::Duration::from_millis(500));
            if outcome.status().is_some_and(|status| status == 500) {
                scene.fault(headers, &outcome.shown());
            }
        }
    }
}

fn odd_json(scene: &Scene<'_>) {
    let now = scene.now_ns;
    let push = |line: &str, labels: &str| {
        format!("{{\"streams\":[{{\"stream\":{labels},\"values\":[[\"{now}\",\"{line}\"]]}}]}}")
    };
    let texts = [
        push("\\ud800", "{\"app\":\"odd\"}"),
        push("\\udc00\\ud800", "{\"app\":\"odd\"}"),
        push("\\u0000", "{\"app\":\"odd\"}"),
        push("x", "{\"app\":\"\\ud800\"}"),
        push("x", "{\"\\ud800\":\"a\"}"),
        push("x", "{\"app\":1e400}"),
        push("x", "{\"app\":null}"),
        push("x", "{\"app\":{\"a\":1}}"),
        push("x", "{\"app\":\"a\",\"app\":\"b\"}"),
        push("x", "[]"),
        "{\"streams\":null}".to_owned(),
        "{\"streams\":[null]}".to_owned(),
        "{\"streams\":[{}],\"streams\":[{}]}".to_owned(),
        "\u{feff}{}".to_owned(),
        "{}{}".to_owned(),
        "\"\\u12\"".to_owned(),
        format!("{{\"a\":{}}}", "9".repeat(1_000_000)),
        format!("{{\"a\":1e{}}}", "9".repeat(1_000)),
        format!("{{\"a\":\"{}\"}}", "\\u0000".repeat(200_000)),
        "null".to_owned(),
        "NaN".to_owned(),
        format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"{}\",\"spanId\":\"\\ud800\"}}]}}]}}]}}", "é".repeat(16)),
        format!("{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"timeUnixNano\":{now},\"body\":{{\"stringValue\":\"\\ud800\"}},\"severityNumber\":-1}}]}}]}}]}}"),
        "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"\\u0000\",\"gauge\":{\"dataPoints\":[{\"asDouble\":\"NaN\",\"timeUnixNano\":\"-1\"}]}}]}]}]}".to_owned(),
    ];
    for text in &texts {
        for door in surface::receivers() {
            let shown: String = text.chars().take(60).collect();
            scene.polite(&format!("{shown} at {}", door.path), &scene.post(&door.path, JSON, text.as_bytes()));
        }
    }
    let raw = [b"{\"streams\":[{\"stream\":{\"app\":\"".as_slice(), &[0xff, 0xfe, 0xc0, 0x80], b"\"},\"values\":[]}]}"]
        .concat();
    scene.polite("bytes", &scene.post("/loki/api/v1/push", JSON, &raw));
}

fn random_bytes(scene: &Scene<'_>) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut body = vec![0; 4_000];
    for _ in 0..scene.pick(1, 20) {
        for byte in &mut body {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        for door in surface::all(scene).iter().filter(|door| door.posts()) {
            for headers in
                [JSON, PROTOBUF, super::encode::SNAPPY, "Content-Encoding: gzip\r\n", "Content-Encoding: zstd\r\n"]
            {
                scene.polite(&door.path, &scene.post(&door.path, headers, &body));
            }
        }
        for door in surface::calls() {
            scene.called(&door.path, &scene.grpc(&door.path, super::http2::framed(&body)));
        }
    }
}

fn odd_paths(scene: &Scene<'_>) {
    for path in [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/ui/../../Cargo.toml",
        "//api//v1//query",
        "/%2e%2e/%2e%2e/",
        "/%",
        "/%f",
        "/%zz",
        "/api/v1/label/%ff/values",
        "/api/v1/label//values",
        "/api/v1/label/%00/values",
        "/loki/api/v1/label/%F0%9F%92%A9/values",
        "/tempo/api/traces/%ff",
        "/tempo/api/traces/",
        "/tempo/api/v2/traces/zz",
        "/tempo/api/search/tag//values",
        "/tempo/api/v2/search/tag/%22%22%22/values",
        "/tempo/api/v2/search/tag/a",
        "/jaeger/api/services//operations",
        "/jaeger/api/services/%ff/operations",
        "/jaeger/api/traces/%00",
        "/loki/loki/loki/loki",
        "/tempo/jaeger/loki/api/v1/query",
        "/;/?;#",
    ] {
        scene.polite(path, &scene.get(path));
    }
    let deep = "/tempo".repeat(5_000);
    scene.polite("a base five thousand times", &scene.get(&deep));
    scene.polite(
        "a tag of 30,000 bytes",
        &scene.get(&format!("/tempo/api/v2/search/tag/{}/values", "a.".repeat(15_000))),
    );
    scene.polite("an id of 30,000 digits", &scene.get(&format!("/tempo/api/traces/{}", "a".repeat(30_000))));
    scene.polite("a label of 30,000 bytes", &scene.get(&format!("/loki/api/v1/label/{}/values", "a".repeat(30_000))));
}

fn odd_headers(scene: &Scene<'_>) {
    let odd = [
        "Accept-Encoding: gzip;q=NaN, zstd;q=1e400, *;q=-1\r\n",
        "Accept: \u{fffd}/\u{fffd};q=\"\r\n",
        "Content-Type: ;;;;====\r\n",
        "Content-Type: application/json; charset=utf-7\r\n",
        "Content-Type: multipart/form-data\r\n",
        "Content-Type: multipart/form-data; boundary=\r\n",
        "Content-Type: application/x-protobuf;proto=io.prometheus.write.v9.Request\r\n",
        "Content-Type: application/grpc\r\n",
        "Content-Encoding: gzip, gzip, gzip, snappy\r\n",
        "Content-Encoding: br\r\n",
        "Range: bytes=0-,1-,2-,3-\r\n",
        "Expect: 100-continue\r\n",
        "Expect: nonsense\r\n",
        "X-Scope-OrgID: ../../etc\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: AAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n",
        "If-None-Match: *\r\nIf-Modified-Since: soon\r\n",
        "X-Prometheus-Remote-Write-Version: 99999999999\r\nX-Prometheus-Remote-Read-Version: -1\r\n",
        "grpc-timeout: 99999999999999999999H\r\ngrpc-encoding: gzip\r\n",
        "Origin: \u{fffd}\r\nAccess-Control-Request-Method: \u{1}\r\n",
    ];
    for (turn, headers) in odd.iter().enumerate() {
        // All of them in the long run; in the short one each is met by some door.
        let doors = surface::all(scene);
        for door in doors.iter().skip(if scene.full { 0 } else { turn % 6 }).step_by(scene.pick(6, 1)) {
            scene.polite(&format!("{} {headers:?}", door.path), &scene.send(door.method(), &door.call(), headers, b""));
        }
    }
    for timeout in ["0n", "99999999S", "999999999H", "-1S", "S", "1e9S", "\u{fffd}"] {
        for door in surface::calls() {
            scene.touch(&door.path);
            let body = super::http2::framed(b"");
            let called =
                super::http2::call(scene.main, &door.path, &[("grpc-timeout", timeout)], body, scene.patience());
            scene.called(&format!("{} in {timeout}", door.path), &called);
        }
    }
}

fn odd_websockets(scene: &Scene<'_>) {
    let path = "/loki/api/v1/tail?query=%7Bapp%3D%22shop%22%7D";
    for headers in [
        "Upgrade: websocket\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 99\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \u{fffd}\r\nSec-WebSocket-Version: 13\r\n",
    ] {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n");
        scene.touch(path);
        let outcome = super::client::exchange(scene.main, bytes.as_bytes(), std::time::Duration::from_millis(500));
        if outcome.status().is_some_and(|status| status >= 500) {
            scene.fault(headers, &outcome.shown());
        }
    }
    // A frame of 2^63 bytes, one that nobody masked, a thousand pings, a text that is not UTF-8.
    let garbage: [&[u8]; 4] = [
        &[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4],
        &[0x81, 0x05, b'h', b'e', b'l', b'l', b'o'],
        &[0x89, 0x80, 0, 0, 0, 0].repeat(1_000),
        &[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe],
    ];
    for bytes in garbage {
        let socket = scene.open(path, &super::slow::upgrade(path));
        if let Some(mut socket) = socket {
            let _ = std::io::Write::write_all(&mut socket, bytes);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
