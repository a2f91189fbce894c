//! Attacks by hanging up: in the head, in the body, while a dear query runs, in the middle of its answer; what
//! the client no longer wants must end with it.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use super::client::{head, percent};
use super::encode::{SNAPPY, bytes, int};
use super::http2::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, ask, block, framed};
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::surface;

pub(super) const ATTACKS: &[Attack] = &[
    row("hang-ups in the head", in_heads),
    row("hang-ups in the body, everywhere", in_bodies),
    row("hang-ups while dear queries run", in_queries),
    row("half-closed connections", half_closed),
    row("hang-ups in the middle of an answer", in_answers),
    row("HTTP/2 streams reset while queries run", resets),
    row("gRPC calls cancelled", cancelled),
    row("tails that come and go", tails),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::HangUp, run }
}

/// Queries of every dialect that take long over what is there.
pub(super) fn dear(scene: &Scene<'_>) -> Vec<String> {
    let end = scene.now_ns / 1_000_000_000;
    let hour = format!("start={}&end={end}&step=1", end - 3_600);
    let all = percent("{__name__=~\".+\"}");
    let logs = percent("quantile_over_time(0.5, {app=\"shop\"} | json | unwrap took [1h]) by (user)");
    let lines = percent("{app=\"shop\"} |~ \".*(x|y).*(z|w).*qqq\" | json | line_format `{{.user}}`");
    vec![
        format!("/api/v1/query_range?query=quantile_over_time(0.5,{all}%5B1h%5D)&{hour}"),
        format!("/api/v1/query?query=max_over_time(rate({all}%5B5m%5D)%5B1h:1s%5D)"),
        format!("/loki/api/v1/query_range?query={logs}&{hour}"),
        format!("/loki/api/v1/query_range?query={lines}&{hour}"),
        format!("/tempo/api/search?q={}&limit=100000", percent("{} >> {} >> {}")),
        format!("/tempo/api/metrics/query_range?q={}&{hour}", percent("{} | compare({ status = error })")),
        "/jaeger/api/traces?service=service-1&limit=100000".to_owned(),
        format!("/api/v1/export?match%5B%5D={all}"),
        format!("/federate?match%5B%5D={all}"),
        format!("/api/v1/series?match%5B%5D={all}"),
        "/loki/api/v1/detected_fields?query=%7Bapp%3D%22shop%22%7D&line_limit=1000000".to_owned(),
        "/tempo/api/v2/search/tag/user/values".to_owned(),
    ]
}

fn in_heads(scene: &Scene<'_>) {
    for _ in 0..scene.pick(20, 100) {
        for text in [
            "",
            "G",
            "GET /api/v1/labels",
            "GET /api/v1/labels HTTP/1.1\r\nHo",
            "POST /v1/logs HTTP/1.1\r\nHost: t\r\n\r",
        ] {
            drop(scene.open("/api/v1/labels", text.as_bytes()));
        }
    }
}

fn in_bodies(scene: &Scene<'_>) {
    for door in surface::all(scene).iter().filter(|door| door.posts()) {
        for length in [10, 4 << 20] {
            let start = [head("POST", &door.path, SNAPPY, Some(length)), vec![b'x'; length / 2]].concat();
            drop(scene.open(&door.path, &start));
            let chunked = format!("{SNAPPY}Transfer-Encoding: chunked\r\n");
            let start = [head("POST", &door.path, &chunked, None), b"fffff\r\nxxxxx".to_vec()].concat();
            drop(scene.open(&door.path, &start));
        }
    }
}

fn in_queries(scene: &Scene<'_>) {
    for wait_ms in [0, 5, 50] {
        for _ in 0..scene.pick(3, 10) {
            let open: Vec<_> =
                dear(scene).iter().filter_map(|path| scene.open(path, &head("GET", path, "", None))).collect();
            std::thread::sleep(Duration::from_millis(wait_ms));
            drop(open);
        }
    }
    scene.others("queries that nobody waits for");
}

fn half_closed(scene: &Scene<'_>) {
    let mut open = Vec::new();
    for path in dear(scene) {
        let Some(stream) = scene.open(&path, &head("GET", &path, "", None)) else { continue };
        let _ = stream.shutdown(Shutdown::Write);
        open.push(stream);
    }
    std::thread::sleep(Duration::from_millis(200));
    scene.others("half-closed connections");
}

fn in_answers(scene: &Scene<'_>) {
    for _ in 0..scene.pick(2, 10) {
        for path in dear(scene) {
            let Some(mut stream) = scene.open(&path, &head("GET", &path, "Accept-Encoding: gzip\r\n", None)) else {
                continue;
            };
            let _ = stream.set_read_timeout(Some(Duration::from_millis(30)));
            let _ = stream.read(&mut [0; 100]);
        }
    }
}

fn resets(scene: &Scene<'_>) {
    for wait_ms in [0, 30] {
        let Some(mut frames) = Frames::open(scene.main, &[], true) else { continue };
        for (at, path) in dear(scene).iter().cycle().take(scene.pick(60, 200)).enumerate() {
            scene.touch(path);
            let stream = at as u32 * 2 + 1;
            frames.frame(HEADERS, END_HEADERS | END_STREAM, stream, &ask("GET", path));
            std::thread::sleep(Duration::from_millis(wait_ms));
            frames.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        }
    }
    scene.others("streams that were reset");
}

fn cancelled(scene: &Scene<'_>) {
    let search = framed(&[bytes(8, b"{} >> {} >> {}"), int(4, 100_000)].concat());
    let rate = framed(
        &[bytes(1, b"{} | compare({ status = error })"), int(2, 1), int(3, scene.now_ns as u64), int(4, 1 << 40)]
            .concat(),
    );
    for _ in 0..scene.pick(2, 5) {
        let Some(mut frames) = Frames::open(scene.main, &[], true) else { continue };
        for (at, door) in surface::calls().iter().cycle().take(60).enumerate() {
            scene.touch(&door.path);
            let stream = at as u32 * 2 + 1;
            let mut fields = ask("POST", &door.path);
            fields.extend(block(&[("content-type", "application/grpc"), ("te", "trailers")]));
            frames.frame(HEADERS, END_HEADERS, stream, &fields);
            let body = if door.path.contains("Metrics") { &rate } else { &search };
            frames.frame(DATA, END_STREAM, stream, body);
            std::thread::sleep(Duration::from_millis(2));
            frames.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        }
    }
    scene.others("cancelled calls");
}

fn tails(scene: &Scene<'_>) {
    let path = "/loki/api/v1/tail?query=%7Bapp%3D~%22.%2B%22%7D&start=0&limit=5000";
    for _ in 0..scene.pick(100, 500) {
        if let Some(mut stream) = scene.open(path, &super::slow::upgrade(path)) {
            let _ = stream.write_all(&[0x88, 0x80, 1, 2, 3, 4]);
        }
    }
    scene.others("tails that come and go");
}
