//! Attacks by time: items from the far future and past, ranges from the first to the last moment.

use super::encode::{JSON, PROTOBUF, SNAPPY, bytes, fixed64, gauge, int, otlp, record, span};
use super::http2::framed;
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::surface;
use crate::bodies::{Series, remote_write, snappy};

pub(super) const ATTACKS: &[Attack] = &[
    row("samples from the far future and past", samples),
    row("lines from the far future and past", lines),
    row("spans from the far future and past", spans),
    row("ranges from the first to the last moment", ranges),
    row("offsets and instants beyond all times", offsets),
    row("clients with little time", timeouts),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::Time, run }
}

fn samples(scene: &Scene<'_>) {
    let now = scene.now_ns / 1_000_000;
    let year = 365 * 86_400_000;
    for time in [
        i64::MIN,
        i64::MIN + 1,
        -1,
        0,
        1,
        now - 100 * year,
        now + year,
        now + 100 * year,
        now * 1_000,
        now * 1_000_000,
        i64::MAX - 1,
        i64::MAX,
    ] {
        let series = Series { labels: vec![("__name__", "displaced")], samples: vec![(time, 1.0)] };
        scene.refused(&format!("{time}"), &scene.post("/api/v1/write", SNAPPY, &remote_write(&[series])));
        let text = format!("displaced 1 {time}\n");
        let import = "/api/v1/import/prometheus";
        scene.polite(&format!("{time}"), &scene.post(import, "Content-Type: text/plain\r\n", text.as_bytes()));
        let otlp = otlp("displaced", &gauge("displaced", time as u64, b""));
        scene.polite(&format!("{time}"), &scene.post("/v1/metrics", PROTOBUF, &otlp));
    }
    for text in
        ["displaced 1 1e400\n", "displaced 1 NaN\n", "displaced 1 -1e18\n", "displaced{} 1 99999999999999999999\n"]
    {
        scene.polite(
            text,
            &scene.post("/api/v1/import/prometheus", "Content-Type: application/openmetrics-text\r\n", text.as_bytes()),
        );
    }
    for path in ["/api/v1/status/tsdb?start=0&end=99999999999", "/api/v1/labels?start=-9e15&end=9e15"] {
        scene.polite(path, &scene.get(path));
    }
}

fn lines(scene: &Scene<'_>) {
    let now = scene.now_ns;
    for time in [i64::MIN, -1, 0, 1, now / 1_000, now / 1_000_000_000, now + 86_400_000_000_000 * 365, i64::MAX] {
        let push =
            format!("{{\"streams\":[{{\"stream\":{{\"app\":\"displaced\"}},\"values\":[[\"{time}\",\"x\"]]}}]}}");
        scene.polite(&format!("{time}"), &scene.post("/loki/api/v1/push", JSON, push.as_bytes()));
        let at = [int(1, time as u64), int(2, u64::MAX)].concat();
        let entry = bytes(2, &[bytes(1, &at), bytes(2, b"x")].concat());
        let push = snappy(&bytes(1, &[bytes(1, b"{app=\"displaced\"}"), entry].concat()));
        scene.polite(&format!("{time}"), &scene.post("/loki/api/v1/push", SNAPPY, &push));
        let body = bytes(1, b"x");
        let logs = otlp(
            "displaced",
            &[record(time as u64, &body), bytes(2, &[fixed64(11, time as u64), bytes(5, &body)].concat())].concat(),
        );
        scene.polite(&format!("{time}"), &scene.post("/v1/logs", PROTOBUF, &logs));
    }
    for time in ["\"\"", "\"-\"", "1.5", "\"99999999999999999999999\"", "\"1e18\"", "null"] {
        let push = format!("{{\"streams\":[{{\"stream\":{{\"app\":\"displaced\"}},\"values\":[[{time},\"x\"]]}}]}}");
        scene.refused(time, &scene.post("/loki/api/v1/push", JSON, push.as_bytes()));
    }
}

fn spans(scene: &Scene<'_>) {
    let now = scene.now_ns as u64;
    for (at, (start, end)) in [
        (0, u64::MAX),
        (u64::MAX, 0),
        (now, 0),
        (now, now - 1),
        (now, u64::MAX),
        (0, 0),
        (1 << 63, 1 << 63),
        (now + (1 << 58), now + (1 << 59)),
        (now - (1 << 60), now),
    ]
    .into_iter()
    .enumerate()
    {
        let traces = otlp("displaced", &span(0xd15 + at as u128, 1, start, &fixed64(8, end)));
        scene.polite(&format!("{start} to {end}"), &scene.post("/v1/traces", PROTOBUF, &traces));
        scene.polite("the trace", &scene.get(&format!("/tempo/api/v2/traces/{:032x}", 0xd15 + at as u128)));
        scene.polite("the trace", &scene.get(&format!("/jaeger/api/traces/{:032x}", 0xd15 + at as u128)));
    }
    for path in [
        "/tempo/api/search?q=%7Bduration%3E1s%7D&start=0&end=4294967295",
        "/tempo/api/metrics/query?q=%7B%7D%7Cmax_over_time(duration)",
        "/jaeger/api/dependencies?endTs=9223372036854775807&lookback=9223372036854775807",
    ] {
        scene.polite(path, &scene.get(path));
    }
}

fn ranges(scene: &Scene<'_>) {
    let bounds = [
        ("-9223372036854775808", "9223372036854775807"),
        ("9223372036854775807", "-9223372036854775808"),
        ("-9007199254740992", "9007199254740992"),
        ("0", "18446744073709551615"),
        ("-62135596800", "253402300799"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"),
        ("-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54Z"),
    ];
    for door in surface::queries() {
        for (start, end) in bounds.iter().take(scene.pick(4, 9)) {
            for step in ["", "&step=9223372036854775807", "&step=1e9"] {
                let call = format!(
                    "{}?{}&start={start}&end={end}&time={end}&endTs={end}&lookback={end}{step}",
                    door.path, door.params
                );
                scene.dear(&call, &scene.hasty().send(door.method(), &call, "", b""));
            }
        }
    }
    for (start, end) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, 0), (-1, -1)] {
        let matcher = bytes(3, &[int(1, 2), bytes(2, b"__name__"), bytes(3, b"shop_requests_1.*")].concat());
        let query = bytes(1, &[int(1, start as u64), int(2, end as u64), matcher].concat());
        scene.dear("remote read", &scene.hasty().post("/api/v1/read", SNAPPY, &snappy(&query)));
        let message = framed(&[bytes(8, b"{}"), int(5, start as u64), int(6, end as u64)].concat());
        scene.called("Search", &scene.grpc("/tempopb.StreamingQuerier/Search", message));
    }
}

fn offsets(scene: &Scene<'_>) {
    for query in [
        "up offset 290y",
        "up offset -290y",
        "up offset 1000000y",
        "up @ 1e300",
        "up @ -1e300",
        "up @ NaN",
        "up[1000000y]",
        "up[1e10y]",
        "up @ 9223372036854775807",
        "max_over_time(up[290y:290y] @ 9e15 offset -290y)",
        "vector(time() * 1e300)",
        "year(vector(1e300))",
        "days_in_month(vector(-1e300))",
        "timestamp(up @ 1e15)",
        "rate(up[1ms] offset 1y1w1d1h1m1s1ms)",
    ] {
        let query = super::client::percent(query);
        for time in ["0", "9007199254740992", "-9007199254740992", "1e300"] {
            scene.dear(&query, &scene.hasty().get(&format!("/api/v1/query?query={query}&time={time}")));
        }
        scene.dear(
            &query,
            &scene.hasty().get(&format!("/api/v1/query_range?query={query}&start=-9e15&end=9e15&step=9e14")),
        );
    }
    for query in [
        "count_over_time({app=\"shop\"}[290y])",
        "rate({app=\"shop\"}[1ns])",
        "rate({app=\"shop\"}[1h] offset 290y)",
        "rate({app=\"shop\"}[10000y])",
        "rate({app=\"shop\"}[1h] offset -290y)",
    ] {
        let query = super::client::percent(query);
        for time in ["0", "9223372036854775807", "-9223372036854775808", "1e300"] {
            scene.dear(&query, &scene.hasty().get(&format!("/loki/api/v1/query?query={query}&time={time}")));
        }
    }
}

fn timeouts(scene: &Scene<'_>) {
    for timeout in ["0", "1ms", "1ns", "-1s", "290y", "1e300", "NaN"] {
        for path in [
            "/api/v1/query?query=sum(up)",
            "/api/v1/query_range?query=up&start=0&end=60&step=15",
            "/loki/api/v1/query?query=vector(1)",
            "/tempo/api/search?q=%7B%7D",
        ] {
            scene.dear(path, &scene.hasty().get(&format!("{path}&timeout={timeout}")));
        }
    }
}
