//! Attacks by slowness: heads and bodies that trickle or never come, answers that nobody reads, tails that
//! listen to nothing. While they last, others are served.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use super::client::{head, percent};
use super::encode::SNAPPY;
use super::http2::{DATA, END_HEADERS, Frames, HEADERS, ask, block};
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::surface;

pub(super) const ATTACKS: &[Attack] = &[
    row("connections that say nothing", idle),
    row("heads that trickle", trickled_heads),
    row("bodies that trickle at every receiver", trickled_pushes),
    row("bodies that trickle at every endpoint", trickled_forms),
    row("bodies that are announced and do not come", announced),
    row("bodies in chunks of one byte", tiny_chunks),
    row("an import that trickles", trickled_import),
    row("gRPC bodies that never end", endless_calls),
    row("answers that nobody reads", unread_answers),
    row("HTTP/2 answers without a window", no_window),
    row("tails that nobody reads", unread_tails),
    row("requests in a pipeline, answers unread", pipelines),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::Slowness, run }
}

/// Feeds `bytes` to each connection a piece at a time for as long as the scene lasts.
fn trickle(scene: &Scene<'_>, what: &str, streams: &mut [TcpStream], bytes: &[u8]) {
    for round in 0..scene.pick(5, 20) {
        for stream in streams.iter_mut() {
            let _ = stream.write_all(bytes);
        }
        std::thread::sleep(Duration::from_millis(scene.pick(40, 500) as u64));
        if round == 2 {
            scene.others(what);
        }
    }
}

fn idle(scene: &Scene<'_>) {
    let streams: Vec<_> = (0..scene.pick(800, 1_000)).filter_map(|_| scene.open("/", b"")).collect();
    scene.others("idle connections");
    std::thread::sleep(Duration::from_secs(scene.pick(0, 5) as u64));
    drop(streams);
}

fn trickled_heads(scene: &Scene<'_>) {
    let start = b"GET /api/v1/labels HTTP/1.1\r\nHost: t\r\n";
    let mut streams: Vec<_> = (0..300).filter_map(|_| scene.open("/api/v1/labels", start)).collect();
    trickle(scene, "heads", &mut streams, b"X-A: b\r\n");
}

fn trickled_pushes(scene: &Scene<'_>) {
    let doors = surface::receivers();
    let mut streams: Vec<_> = (0..scene.pick(300, 600))
        .filter_map(|n| {
            let door = &doors[n % doors.len()];
            scene.open(&door.path, &head("POST", &door.path, SNAPPY, Some(8 << 20)))
        })
        .collect();
    trickle(scene, "pushes", &mut streams, &[b'x'; 64]);
    // As much of each body as a server will hold.
    for stream in &mut streams[..scene.pick(40, 100)] {
        let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
        let _ = stream.write_all(&vec![b'x'; 4 << 20]);
    }
    scene.others("pushes of which half has come");
}

fn trickled_forms(scene: &Scene<'_>) {
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let doors: Vec<_> = surface::queries().into_iter().filter(surface::Door::posts).collect();
    let mut streams: Vec<_> = (0..scene.pick(200, 600))
        .filter_map(|n| {
            let door = &doors[n % doors.len()];
            scene.open(&door.path, &[head("POST", &door.path, form, Some(1 << 20)), b"query=".to_vec()].concat())
        })
        .collect();
    trickle(scene, "forms", &mut streams, &[b'x'; 64]);
    for stream in &mut streams[..scene.pick(100, 300)] {
        let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
        let _ = stream.write_all(&vec![b'x'; 1_000_000]);
    }
    scene.others("forms of which nearly all has come");
}

fn announced(scene: &Scene<'_>) {
    let doors = surface::receivers();
    let streams: Vec<_> = (0..scene.pick(500, 1_000))
        .filter_map(|n| {
            let door = &doors[n % doors.len()];
            scene.open(&door.path, &head("POST", &door.path, SNAPPY, Some(15 << 20)))
        })
        .collect();
    scene.others("announced bodies");
    std::thread::sleep(Duration::from_secs(scene.pick(0, 5) as u64));
    drop(streams);
}

fn tiny_chunks(scene: &Scene<'_>) {
    let chunked = format!("{SNAPPY}Transfer-Encoding: chunked\r\n");
    let body = "1\r\nx\r\n".repeat(100_000);
    scene.at_once(scene.pick(10, 30), |_| {
        let bytes = [head("POST", "/api/v1/write", &chunked, None), body.clone().into_bytes()].concat();
        drop(scene.open("/api/v1/write", &bytes));
    });
    scene.others("tiny chunks");
}

fn trickled_import(scene: &Scene<'_>) {
    let path = "/api/v1/import/prometheus";
    let chunked = "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n";
    let mut streams: Vec<_> =
        (0..scene.pick(60, 200)).filter_map(|_| scene.open(path, &head("POST", path, chunked, None))).collect();
    trickle(scene, "imports", &mut streams, b"c\r\ntrickled 1\n\n\r\n");
}

/// A head of a gRPC call, by hand.
fn call_head(path: &str) -> Vec<u8> {
    let mut fields = ask("POST", path);
    fields.extend(block(&[("content-type", "application/grpc"), ("te", "trailers")]));
    fields
}

fn endless_calls(scene: &Scene<'_>) {
    let doors = surface::calls();
    let mut open = Vec::new();
    for _ in 0..scene.pick(4, 10) {
        let Some(mut frames) = Frames::open(scene.main, &[], true) else { continue };
        for (at, door) in doors.iter().cycle().take(100).enumerate() {
            scene.touch(&door.path);
            let stream = at as u32 * 2 + 1;
            frames.frame(HEADERS, END_HEADERS, stream, &call_head(&door.path));
            frames.frame(DATA, 0, stream, &[0, 0, 10, 0, 0, 1, 2, 3]);
        }
        open.push(frames);
    }
    scene.others("calls without an end");
    std::thread::sleep(Duration::from_secs(scene.pick(0, 5) as u64));
}

fn unread_answers(scene: &Scene<'_>) {
    let all = percent("{__name__=~\".+\"}");
    let shop = percent("{app=\"shop\"}");
    let paths = [
        format!("/api/v1/export?match%5B%5D={all}"),
        format!("/api/v1/query?query={all}%5B1h%5D"),
        format!("/federate?match%5B%5D={all}"),
        format!("/api/v1/series?match%5B%5D={all}"),
        format!("/loki/api/v1/query_range?query={shop}&limit=5000"),
        "/tempo/api/search?q=%7B%7D&limit=100000&spss=100".to_owned(),
        "/jaeger/api/traces?service=service-1&limit=1500".to_owned(),
        "/metrics".to_owned(),
    ];
    let streams: Vec<_> = (0..scene.pick(40, 100))
        .filter_map(|n| {
            let path = &paths[n % paths.len()];
            scene.open(path, &head("GET", path, "Accept-Encoding: gzip\r\n", None))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(scene.pick(200, 8_000) as u64));
    scene.others("answers that nobody reads");
    drop(streams);
}

fn no_window(scene: &Scene<'_>) {
    let all = percent("{__name__=~\".+\"}");
    let export = format!("/api/v1/export?match%5B%5D={all}");
    let mut open = Vec::new();
    for _ in 0..scene.pick(3, 10) {
        // SETTINGS_INITIAL_WINDOW_SIZE of nothing.
        let Some(mut frames) = Frames::open(scene.main, &[(4, 0)], true) else { continue };
        for at in 0..50_u32 {
            let path = if at % 2 == 0 { export.as_str() } else { "/tempo/api/search?q=%7B%7D&limit=1000" };
            scene.touch(path);
            frames.frame(HEADERS, END_HEADERS | 1, at * 2 + 1, &ask("GET", path));
        }
        open.push(frames);
    }
    std::thread::sleep(Duration::from_millis(200));
    scene.others("no window");
    std::thread::sleep(Duration::from_secs(scene.pick(0, 5) as u64));
}

/// The head of a request to become a websocket.
pub(super) fn upgrade(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

fn unread_tails(scene: &Scene<'_>) {
    for path in ["/loki/api/v1/tail", "/loki/loki/api/v1/tail"] {
        let streams: Vec<_> = (0..scene.pick(60, 200))
            .filter_map(|n| {
                let query = percent(&format!("{{app=~\"shop|ordinary\"}} != \"{n}\""));
                scene.open(path, &upgrade(&format!("{path}?query={query}&limit=5000&start=0&delay_for={}", n % 7)))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(scene.pick(200, 5_000) as u64));
        scene.others("tails");
        drop(streams);
    }
}

fn pipelines(scene: &Scene<'_>) {
    let one = "GET /api/v1/label/n/values HTTP/1.1\r\nHost: t\r\n\r\n".repeat(2_000);
    let streams: Vec<_> =
        (0..scene.pick(10, 50)).filter_map(|_| scene.open("/api/v1/label/n/values", one.as_bytes())).collect();
    std::thread::sleep(Duration::from_millis(scene.pick(200, 2_000) as u64));
    scene.others("pipelines");
    drop(streams);
}
