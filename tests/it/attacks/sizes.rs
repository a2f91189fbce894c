//! Attacks by size: bodies, heads, URLs, frames and single items that are larger than anything right.

use super::client::{head, percent};
use super::encode::{
    JSON, PROTOBUF, SNAPPY, attribute, bytes, deflate_bomb, gauge, gzip_bomb, int, otlp, record, snappy_bomb,
    snappy_lie, span, zstd_bomb,
};
use super::http2::framed;
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::surface;
use crate::bodies::{Series, remote_write, snappy};

pub(super) const ATTACKS: &[Attack] = &[
    row("a body of a terabyte is announced", announced),
    row("a body without end in chunks", endless_chunks),
    row("gzip, zstd and deflate bombs", packed_bombs),
    row("snappy bombs", snappy_bombs),
    row("snappy headers that lie", snappy_lies),
    row("packed bombs at query endpoints", bombs_at_queries),
    row("forms of many MiB", huge_forms),
    row("headers of a MiB", huge_headers),
    row("URLs of up to 10 MiB", huge_urls),
    row("chunk sizes with long extensions, long trailers", chunk_extensions),
    row("gRPC frames that lie", grpc_lies),
    row("gRPC messages of 12 MiB at calls that ask", grpc_large),
    row("a line, a label value and a span of 10 MiB", huge_items),
    row("OTLP bodies of 15 MiB in one attribute", huge_attributes),
    row("a query of a MiB", huge_queries),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::Size, run }
}

fn announced(scene: &Scene<'_>) {
    for door in surface::all(scene).iter().filter(|door| door.posts()) {
        let mut bytes = head("POST", &door.path, SNAPPY, Some(1 << 40));
        bytes.extend([b'x'; 100]);
        scene.touch(&door.path);
        // Some wait for what was announced, and we hang up after a moment.
        let outcome = super::client::exchange(scene.main, &bytes, std::time::Duration::from_millis(100));
        if let Some(status) = outcome.status()
            && status >= 500
            && status != 503
        {
            scene.fault(&door.path, &outcome.shown());
        }
    }
}

fn endless_chunks(scene: &Scene<'_>) {
    let mut chunks = Vec::new();
    let chunk = [b"100000\r\n".as_slice(), &[b'x'; 1 << 20], b"\r\n"].concat();
    (0..40).for_each(|_| chunks.extend_from_slice(&chunk));
    for path in ["/api/v1/write", "/loki/api/v1/push", "/v1/logs", "/api/v1/read", "/api/v1/query", "/tempo/api/search"]
    {
        let form = "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n";
        let bytes = [head("POST", path, form, None), chunks.clone()].concat();
        scene.touch(path);
        scene.refused(path, &scene.raw(&bytes));
    }
}

fn packed_bombs(scene: &Scene<'_>) {
    let mib = scene.pick(256, 1_024);
    let bombs = [("gzip", gzip_bomb(mib)), ("zstd", zstd_bomb(mib)), ("deflate", deflate_bomb(mib))];
    for door in surface::receivers() {
        for (encoding, bomb) in &bombs {
            let kinds = [PROTOBUF, JSON, "Content-Type: text/plain\r\n"];
            for kind in &kinds[..scene.pick(1, 3)] {
                let what = format!("{encoding} at {} as {}", door.path, kind.trim());
                let outcome = scene.post(&door.path, &format!("{kind}Content-Encoding: {encoding}\r\n"), bomb);
                scene.refused(&what, &outcome);
            }
        }
    }
}

fn snappy_bombs(scene: &Scene<'_>) {
    for mib in [31, 33, 300] {
        let bomb = snappy_bomb(mib);
        for door in surface::receivers() {
            scene.refused(&format!("{mib} MiB at {}", door.path), &scene.post(&door.path, SNAPPY, &bomb));
        }
        scene.refused("/api/v1/read", &scene.post("/api/v1/read", SNAPPY, &bomb));
    }
}

fn snappy_lies(scene: &Scene<'_>) {
    for claimed in [1 << 24, u64::from(u32::MAX), 1 << 40, u64::MAX] {
        let lie = snappy_lie(claimed);
        for door in surface::receivers() {
            scene.refused(&format!("{claimed} at {}", door.path), &scene.post(&door.path, SNAPPY, &lie));
        }
        scene.refused("/api/v1/read", &scene.post("/api/v1/read", SNAPPY, &lie));
    }
    // The framed format, which remote write does not use.
    let framed = [b"\xff\x06\x00\x00sNaPpY".as_slice(), &[0xfe; 1 << 20]].concat();
    scene.refused("framed", &scene.post("/api/v1/write", SNAPPY, &framed));
}

fn bombs_at_queries(scene: &Scene<'_>) {
    let bomb = gzip_bomb(64);
    for door in surface::queries().iter().filter(|door| door.posts()) {
        let headers = "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n";
        scene.polite(&door.path, &scene.post(&door.path, headers, &bomb));
    }
}

fn huge_forms(scene: &Scene<'_>) {
    let form = format!("query={}", "a".repeat(12 << 20));
    for door in surface::queries().iter().filter(|door| door.posts()) {
        scene.polite(&door.path, &scene.form(&door.path, &form));
    }
}

fn huge_headers(scene: &Scene<'_>) {
    for (name, value) in
        [("X-Scope-OrgID", "a"), ("Cookie", "a=b; "), ("Accept", "text/html,"), ("Accept-Encoding", "gzip,")]
    {
        let headers = format!("{name}: {}\r\n", value.repeat((1 << 20) / value.len()));
        scene.refused(name, &scene.send("GET", "/api/v1/labels", &headers, b""));
    }
    let many: String = (0..20_000).map(|n| format!("x-{n}: 1\r\n")).collect();
    scene.refused("20,000 headers", &scene.send("GET", "/api/v1/labels", &many, b""));
    // Just under the bound, at everything that reads headers.
    let near = format!("X-Grafana-User: {}\r\n", "é".repeat(30_000));
    for path in ["/api/v1/query?query=1", "/loki/api/v1/labels", "/tempo/api/echo", "/v1/logs"] {
        scene.polite(path, &scene.send("GET", path, &near, b""));
    }
}

fn huge_urls(scene: &Scene<'_>) {
    for length in [60_000, 70_000, 200_000, scene.pick(1 << 20, 10 << 20)] {
        let outcome = scene.get(&format!("/api/v1/query?query={}", "1".repeat(length)));
        scene.polite(&format!("{length} bytes"), &outcome);
        scene.refused(&format!("{length} bytes of path"), &scene.get(&format!("/{}", "a/".repeat(length / 2))));
    }
    for door in surface::queries() {
        scene.polite(&door.path, &scene.get(&format!("{}?{}&x={}", door.path, door.params, "é".repeat(28_000))));
    }
}

fn chunk_extensions(scene: &Scene<'_>) {
    let head = head("POST", "/api/v1/write", "Transfer-Encoding: chunked\r\n", None);
    let extension = format!("1;{}\r\nx\r\n", "a".repeat(15_000));
    scene.polite("extensions", &scene.raw(&[head.clone(), extension.repeat(500).into_bytes()].concat()));
    let trailers = format!("0\r\n{}", "a: b\r\n".repeat(100_000));
    scene.polite("trailers", &scene.raw(&[head.clone(), trailers.into_bytes()].concat()));
    // A size that is waited for is a body that trickles; the client hangs up.
    for size in [b"ffffffffffffffff\r\nx".to_vec(), vec![b'0'; 1 << 20]] {
        let bytes = [head.clone(), size].concat();
        scene.dear("a size", &super::client::exchange(scene.main, &bytes, std::time::Duration::from_millis(200)));
    }
}

fn grpc_lies(scene: &Scene<'_>) {
    let bomb = gzip_bomb(64);
    let lies: [(&str, Vec<u8>); 6] = [
        ("4 GiB to come", [0, 255, 255, 255, 255].to_vec()),
        ("packed, and it is not", [&[1, 0, 0, 0, 50][..], &[7; 50]].concat()),
        ("packed, a bomb", [vec![1], (bomb.len() as u32).to_be_bytes().to_vec(), bomb].concat()),
        ("a flag that is none", [&[77, 0, 0, 0, 5][..], b"hello"].concat()),
        ("a cut head", vec![0, 0]),
        ("a hundred thousand empty messages", [0, 0, 0, 0, 0].repeat(100_000)),
    ];
    for door in surface::calls() {
        for (what, body) in &lies {
            scene.called(&format!("{what} at {}", door.path), &scene.grpc(&door.path, body.clone()));
        }
    }
}

fn grpc_large(scene: &Scene<'_>) {
    // A field that no message has, so that only its size counts; and one that all have.
    for number in [15, 1] {
        let message = framed(&bytes(number, &vec![b'a'; 12 << 20]));
        for door in surface::calls() {
            scene.called(&door.path, &scene.grpc(&door.path, message.clone()));
        }
    }
}

fn huge_items(scene: &Scene<'_>) {
    let huge = "y".repeat(10 << 20);
    let now_ms = scene.now_ns / 1_000_000;
    let series = Series { labels: vec![("__name__", "huge"), ("a", huge.as_str())], samples: vec![(now_ms, 1.0)] };
    scene.refused("a label value", &scene.post("/api/v1/write", SNAPPY, &remote_write(&[series])));
    let at = [int(1, scene.now_ns as u64 / 1_000_000_000), int(2, 1)].concat();
    let entry = bytes(2, &[bytes(1, &at), bytes(2, huge.as_bytes())].concat());
    let line = snappy(&bytes(1, &[bytes(1, b"{app=\"huge\"}"), entry].concat()));
    scene.refused("a line", &scene.post("/loki/api/v1/push", SNAPPY, &line));
    let name = format!("{{app=\"{huge}\"}}");
    let entry = bytes(2, &[bytes(1, &at), bytes(2, b"x")].concat());
    let stream = snappy(&bytes(1, &[bytes(1, name.as_bytes()), entry].concat()));
    scene.refused("a stream", &scene.post("/loki/api/v1/push", SNAPPY, &stream));
    let text = format!("huge{{a=\"{huge}\"}} 1\n# HELP huge {huge}\n");
    scene.polite("text", &scene.post("/api/v1/import/prometheus", "Content-Type: text/plain\r\n", text.as_bytes()));
    let endless = format!("huge{{a=\"{}", "z".repeat(10 << 20));
    scene.polite("text without an end", &scene.post("/api/v1/import/prometheus", "", endless.as_bytes()));
}

fn huge_attributes(scene: &Scene<'_>) {
    let now = scene.now_ns as u64;
    let huge = bytes(9, &attribute("huge", &"z".repeat(15 << 20)));
    scene.polite("a span", &scene.post("/v1/traces", PROTOBUF, &otlp("huge", &span(0xbad, 1, now, &huge))));
    let body = bytes(1, "z".repeat(15 << 20).as_bytes());
    scene.polite("a record", &scene.post("/v1/logs", PROTOBUF, &otlp("huge", &record(now, &body))));
    let huge = bytes(7, &attribute("huge", &"z".repeat(15 << 20)));
    scene.polite("a point", &scene.post("/v1/metrics", PROTOBUF, &otlp("huge", &gauge("huge", now, &huge))));
    let service = "s".repeat(8 << 20);
    for (path, item) in [
        ("/v1/traces", span(0xbae, 1, now, b"")),
        ("/v1/logs", record(now, &bytes(1, b"x"))),
        ("/v1/metrics", gauge("huge", now, b"")),
    ] {
        scene.polite(path, &scene.post(path, PROTOBUF, &otlp(&service, &item)));
    }
}

fn huge_queries(scene: &Scene<'_>) {
    let long = "a".repeat(1 << 20);
    for query in [format!("{{a=\"{long}\"}}"), format!("{{a=~\"{long}\"}}"), long.clone(), format!("\"{long}\"")] {
        for path in ["/api/v1/query", "/api/v1/format_query", "/api/v1/parse_query"] {
            scene.polite(path, &scene.form(path, &format!("query={}", percent(&query))));
        }
    }
    for query in [
        format!("{{app=\"shop\"}} |= \"{long}\""),
        format!("{{app=~\"{long}\"}}"),
        format!("{{app=\"shop\"}} |~ \"{long}\""),
    ] {
        for path in ["/loki/api/v1/query_range", "/loki/api/v1/format_query", "/loki/api/v1/index/stats"] {
            scene.polite(path, &scene.form(path, &format!("query={}", percent(&query))));
        }
    }
    let query = format!("{{ .a = \"{}\" }}", "a".repeat(500_000));
    scene.polite("traceql", &scene.form("/tempo/api/search", &format!("q={}", percent(&query))));
}
