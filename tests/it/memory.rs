//! A server with as little memory as it may have: pushes and queries together reach the limit of the
//! account, what does not fit is refused politely, and it heals when they end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use trilith::app::config::{Amount, Config};
use trilith::app::run;

use super::doors::{Answer, ask, get, send, server};
use super::trace_api::q;

const JSON: &str = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";

fn now_ns() -> i64 {
    chrono::Utc::now().timestamp_nanos_opt().unwrap()
}

/// Lines that do not compress much, of streams that are all new; so many bytes when they are inflated.
fn push(main: SocketAddr, thread: usize, round: usize, bytes: usize) -> Answer {
    let mut state = (thread * 1_000 + round) as u64 + 1;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{state:016x}")
    };
    let now = now_ns();
    let streams: Vec<_> = (0..20i64)
        .map(|stream| {
            let values: Vec<_> = (0..(bytes / 20 / 200) as i64)
                .map(|at| json!([(now + at).to_string(), (0..10).map(|_| word()).collect::<String>()]))
                .collect();
            json!({"stream": {"app": "full", "stream": format!("{thread}-{round}-{stream}")}, "values": values})
        })
        .collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(json!({ "streams": streams }).to_string().as_bytes()).unwrap();
    ask(main, "POST", "/loki/api/v1/push", JSON, &packed.finish().unwrap())
}

/// The value of a share in `/metrics`.
fn share(metrics: &str, family: &str, name: &str) -> f64 {
    let start = format!("{family}{{share=\"{name}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {start} in\n{metrics}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_the_account_is_refused_politely_and_it_heals() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    config.memory_limit = Amount::Bytes(64 << 20);
    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    let main = server.addresses.main;
    let (stored, refused, answered) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let most = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let (stored, refused, answered) = (&stored, &refused, &answered);
            let pushing: Vec<_> = (0..4)
                .map(|thread| {
                    scope.spawn(move || {
                        for round in 0..60 {
                            let answer = push(main, thread, round, 2_900_000);
                            match answer.status {
                                204 => stored.fetch_add(1, Ordering::Relaxed),
                                503 => {
                                    assert!(answer.head.contains("retry-after"), "{}", answer.head);
                                    refused.fetch_add(1, Ordering::Relaxed)
                                }
                                other => panic!("a push is answered {other}: {}", answer.text()),
                            };
                            if round > 5 && refused.load(Ordering::Relaxed) > 5 && stored.load(Ordering::Relaxed) > 5 {
                                break;
                            }
                        }
                    })
                })
                .collect();
            let query = q("sum by (stream) (count_over_time({app=\"full\"} |= \"a\" [1h]))");
            let mut most = 0.0;
            while pushing.iter().any(|thread| !thread.is_finished()) {
                let answer = ask(main, "GET", &format!("/loki/api/v1/query?query={query}"), "", b"");
                assert!([200, 400, 422, 429, 503, 504].contains(&answer.status), "{} {}", answer.status, answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
                let metrics = ask(main, "GET", "/metrics", "", b"").text();
                most = f64::max(most, share(&metrics, "trilith_memory_bytes", "all"));
            }
            most
        })
    });
    let (stored, refused) = (stored.into_inner(), refused.into_inner());
    assert!(refused > 0, "{stored} pushes were stored and none refused, with {most} bytes at most");
    assert!(stored > 0 && answered.into_inner() > 0, "nothing gets through");
    let text = get(main, "/metrics").await.text();
    let limit = share(&text, "trilith_memory_share_limit_bytes", "all");
    // What is acknowledged is charged as it is, so heads and their flush may reach over it by a little.
    assert!(most <= 1.25 * limit, "{most} of {limit} bytes");
    // It heals: bodies and queries hold nothing any more, and ordinary requests are answered.
    let begun = Instant::now();
    let status = loop {
        let status = tokio::task::spawn_blocking(move || push(main, 9, 9, 200_000).status).await.unwrap();
        if status == 204 || begun.elapsed() > Duration::from_secs(60) {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(status, 204, "{}", get(main, "/metrics").await.text());
    let line = q("{app=\"full\",stream=\"9-9-3\"}");
    let answer = get(main, &format!("/loki/api/v1/query_range?query={line}&limit=5")).await;
    assert!(answer.status == 200 && answer.text().contains("9-9-3"), "{}", answer.text());
    let text = get(main, "/metrics").await.text();
    for name in ["bodies_in_flight", "queries", "answers"] {
        assert_eq!(share(&text, "trilith_memory_bytes", name), 0.0, "{name}\n{text}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_memory_is_refused_at_the_start_with_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    config.memory_limit = Amount::Bytes(50);
    let error = run(config, None).await.err().expect("no server with 50 bytes").to_string();
    assert!(error.contains("--memory-limit comes to 50 bytes") && error.contains("67108864"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_heads_and_parts_take_is_in_the_account() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    assert_eq!(tokio::task::spawn_blocking(move || push(main, 1, 1, 100_000).status).await.unwrap(), 204);
    let heads = |text: &str| share(text, "trilith_memory_bytes", "logs_heads");
    let before = get(main, "/metrics").await.text();
    assert!(heads(&before) > 50_000.0, "{before}");
    assert_eq!(send(main, "POST", "/-/flush", "", b"").await.status, 200);
    let after = get(main, "/metrics").await.text();
    assert!(heads(&after) < heads(&before) / 2.0, "{after}");
    assert!(share(&after, "trilith_memory_bytes", "parts") > 0.0, "{after}");
    server.stop().await;
}
