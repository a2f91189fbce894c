//! Attacks by many at once: connections, queries, HTTP/2 frames, flushes.

use std::time::Duration;

use super::client::{exchange, percent, request};
use super::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, ask,
    block, frame,
};
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::surface;
use super::{encode, hang_up, slow};

pub(super) const ATTACKS: &[Attack] = &[
    row("hundreds of dear queries at once", queries),
    row("hundreds of pushes at once", pushes),
    row("connections that come and go by the thousand", connections),
    row("hundreds of tails at once", tails),
    row("flushes and reloads at once", flushes),
    row("HTTP/2 rapid reset", rapid_reset),
    row("HTTP/2 floods of pings and settings", pings),
    row("HTTP/2 headers without end", continuations),
    row("HTTP/2 headers that unpack to much", header_bombs),
    row("HTTP/2 frames of nothing", empty_frames),
    row("HTTP/2 streams by the thousand", streams),
    row("HTTP/2 frames that break the rules", broken_frames),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::Many, run }
}

fn queries(scene: &Scene<'_>) {
    let paths = hang_up::dear(scene);
    let patience = Duration::from_millis(scene.pick(1_500, 5_000) as u64);
    scene.at_once(scene.pick(150, 300), |number| {
        let path = &paths[number % paths.len()];
        scene.touch(path);
        let outcome = exchange(scene.main, &request("GET", path, "", b""), patience);
        scene.dear(
            path,
            &match outcome {
                // With so many at once the listener may refuse the connection.
                super::client::Outcome::Cut => super::client::Outcome::Silent,
                other => other,
            },
        );
    });
}

fn pushes(scene: &Scene<'_>) {
    let doors = surface::receivers();
    let bomb = encode::gzip_bomb(40);
    scene.at_once(scene.pick(100, 200), |number| {
        let door = &doors[number % doors.len()];
        let headers = "Content-Type: application/x-protobuf\r\nContent-Encoding: gzip\r\n";
        scene.polite(&door.path, &scene.post(&door.path, headers, &bomb));
    });
    let body = vec![b'a'; 8 << 20];
    scene.at_once(scene.pick(30, 100), |number| {
        let door = &doors[number % doors.len()];
        scene.polite(&door.path, &scene.post(&door.path, encode::JSON, &body));
    });
}

fn connections(scene: &Scene<'_>) {
    scene.at_once(8, |_| {
        for _ in 0..scene.pick(200, 1_000) {
            drop(scene.open("/", b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"));
        }
    });
    scene.others("connections that come and go");
}

fn tails(scene: &Scene<'_>) {
    let path = "/loki/api/v1/tail?query=%7Bapp%3D~%22.%2B%22%7D&start=0&limit=5000";
    let open: Vec<_> = (0..scene.pick(200, 500)).filter_map(|_| scene.open(path, &slow::upgrade(path))).collect();
    std::thread::sleep(Duration::from_millis(300));
    scene.others("tails");
    drop(open);
}

fn flushes(scene: &Scene<'_>) {
    scene.at_once(scene.pick(20, 40), |number| {
        let path = if number % 2 == 0 { "/-/flush" } else { "/-/reload" };
        for _ in 0..scene.pick(2, 5) {
            scene.polite(path, &scene.post(path, "", b""));
        }
    });
}

fn rapid_reset(scene: &Scene<'_>) {
    for reads in [true, false] {
        let Some(mut frames) = Frames::open(scene.main, &[], reads) else { continue };
        let path = format!("/api/v1/query?query={}", percent("sum(rate({__name__=~\".+\"}[5m]))"));
        scene.touch(&path);
        let head = ask("GET", &path);
        for at in 0..scene.pick(5_000, 50_000) as u32 {
            let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, at * 2 + 1, &head);
            bytes.extend(frame(RST_STREAM, 0, at * 2 + 1, &8_u32.to_be_bytes()));
            if !frames.write(&bytes) {
                break;
            }
        }
    }
    scene.others("rapid reset");
}

/// Sends `bytes` again and again over a connection of HTTP/2, until the server takes no more.
fn flood(scene: &Scene<'_>, what: &str, bytes: &[u8]) {
    let most = scene.pick(8 << 20, 64 << 20) / bytes.len();
    let block = bytes.repeat(100);
    for reads in [true, false] {
        if let Some(mut frames) = Frames::open(scene.main, &[], reads) {
            for _ in 0..most / 100 {
                if !frames.write(&block) {
                    break;
                }
            }
        }
    }
    scene.others(what);
}

fn pings(scene: &Scene<'_>) {
    flood(scene, "pings", &frame(PING, 0, 0, &[7; 8]));
    flood(scene, "settings", &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]));
    flood(scene, "settings acknowledged", &frame(SETTINGS, 1, 0, &[]));
    flood(scene, "windows", &frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()));
    flood(scene, "unknown frames", &frame(77, 0, 0, &[0; 100]));
}

fn continuations(scene: &Scene<'_>) {
    for piece in [block(&[("x-a", &"b".repeat(16_000))]), block(&[("x-a", "b")]), Vec::new()] {
        if let Some(mut frames) = Frames::open(scene.main, &[], true) {
            frames.frame(HEADERS, 0, 1, &ask("GET", "/api/v1/labels"));
            let most = scene.pick(16 << 20, 64 << 20) / (piece.len() + 9);
            let one = frame(CONTINUATION, 0, 1, &piece);
            for _ in 0..most.min(200_000) {
                if !frames.write(&one) {
                    break;
                }
            }
        }
    }
    scene.others("continuations");
}

fn header_bombs(scene: &Scene<'_>) {
    // An entry of 4,000 bytes goes to the dynamic table, then is named again and again by one byte.
    let mut head = ask("GET", "/api/v1/labels");
    head.push(0x40);
    head.extend([3, b'x', b'-', b'a']);
    head.extend([0x7f, 0xa1, 0x1e - 1]);
    head.extend(vec![b'v'; 4_000]);
    head.truncate(head.len() - 4_000);
    let length = 3_900_usize;
    head.truncate(head.len() - 3);
    head.extend([0x7f, ((length - 127) % 128) as u8 | 0x80, ((length - 127) / 128) as u8]);
    head.extend(vec![b'v'; length]);
    head.extend(vec![0xbe; 10_000]);
    if let Some(mut frames) = Frames::open(scene.main, &[], true) {
        for at in 0..scene.pick(50, 200) as u32 {
            if !frames.frame(HEADERS, END_HEADERS | END_STREAM, at * 2 + 1, &head) {
                break;
            }
        }
    }
    scene.others("header bombs");
}

fn empty_frames(scene: &Scene<'_>) {
    for path in ["/v1/logs", "/tempopb.StreamingQuerier/Search", "/api/v1/query"] {
        if let Some(mut frames) = Frames::open(scene.main, &[], true) {
            scene.touch(path);
            let mut fields = ask("POST", path);
            fields.extend(block(&[("content-type", "application/grpc")]));
            frames.frame(HEADERS, END_HEADERS, 1, &fields);
            let empty = frame(DATA, 0, 1, b"").repeat(1_000);
            for _ in 0..scene.pick(200, 2_000) {
                if !frames.write(&empty) {
                    break;
                }
            }
        }
    }
    scene.others("frames of nothing");
}

fn streams(scene: &Scene<'_>) {
    for _ in 0..scene.pick(3, 10) {
        let Some(mut frames) = Frames::open(scene.main, &[], true) else { continue };
        // Heads of requests whose bodies never come.
        for at in 0..3_000_u32 {
            if !frames.frame(HEADERS, END_HEADERS, at * 2 + 1, &ask("POST", "/api/v1/write")) {
                break;
            }
        }
        scene.touch("/api/v1/write");
        scene.others("streams");
    }
}

fn broken_frames(scene: &Scene<'_>) {
    let broken: Vec<Vec<u8>> = vec![
        frame(DATA, 0, 0, b"x"),
        frame(DATA, 0, 99, b"x"),
        frame(HEADERS, END_HEADERS, 2, &ask("GET", "/")),
        frame(HEADERS, END_HEADERS, 1, &[0xff; 100]),
        frame(HEADERS, END_HEADERS | 8, 1, &[255, 1, 2]),
        frame(RST_STREAM, 0, 1, b""),
        frame(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255]),
        frame(SETTINGS, 0, 0, &[1, 2, 3]),
        frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
        frame(WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes()),
        frame(CONTINUATION, 0, 1, b"x"),
        frame(PING, 0, 0, b"short"),
        frame(7, 0, 0, &[0; 8]),
        [vec![255, 255, 255, 0, 0, 0, 0, 0, 1], vec![0; 1 << 20]].concat(),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":method", "GET"), (":path", "")])),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":path", "/"), (":path", "/"), (":method", "G\u{0}T")])),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("content-length", "-1"), (":method", "GET")])),
    ];
    for bytes in broken {
        if let Some(mut frames) = Frames::open(scene.main, &[], true) {
            frames.write(&bytes);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
