//! Data that attacks run over: series, lines and spans like those of a shop, pushed over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use crate::bodies::{Series, remote_write};

use super::client::{Outcome, exchange, request};
use super::encode::{PROTOBUF, SNAPPY, attribute, bytes, fixed64, int, otlp};

/// How much of each.
#[derive(Clone, Copy)]
pub(super) struct Amount {
    pub(super) series: usize,
    /// Samples of each series, 15 s apart.
    pub(super) samples: usize,
    pub(super) lines: usize,
    pub(super) spans: usize,
}

/// Series in one request, lines and spans too.
const BATCH: usize = 2_000;

/// Spans of a trace.
const TRACE_SPANS: usize = 20;

/// Pushes it all; the newest is from `now_ns`. Sends again what is refused for the moment, as agents do.
pub(super) fn load(main: SocketAddr, amount: Amount, now_ns: i64) {
    for first in (0..amount.series).step_by(BATCH) {
        for step in (0..amount.samples).step_by(10) {
            push(main, "/api/v1/write", SNAPPY, &samples(amount, first, step, now_ns / 1_000_000));
        }
    }
    for first in (0..amount.lines).step_by(BATCH) {
        push(main, "/loki/api/v1/push", SNAPPY, &lines(amount, first, now_ns as u64));
    }
    for first in (0..amount.spans).step_by(BATCH) {
        push(main, "/v1/traces", PROTOBUF, &spans(amount, first, now_ns as u64));
    }
}

fn push(main: SocketAddr, path: &str, headers: &str, body: &[u8]) {
    for _ in 0..100 {
        match exchange(main, &request("POST", path, headers, body), Duration::from_secs(30)) {
            Outcome::Answered(answer) if answer.status / 100 == 2 => return,
            outcome => {
                let wait = matches!(outcome.status(), Some(429 | 503) | None);
                assert!(wait, "{path}: {}", outcome.shown());
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{path} takes nothing for 20 s");
}

fn samples(amount: Amount, first: usize, step: usize, now_ms: i64) -> Vec<u8> {
    let numbers: Vec<_> = (first..(first + BATCH).min(amount.series)).map(|n| (n, n.to_string())).collect();
    let jobs: Vec<_> = (0..20).map(|job| format!("job-{job}")).collect();
    let names: Vec<_> = (0..50).map(|name| format!("shop_requests_{name}_total")).collect();
    let one = |(n, number): &'_ (usize, String)| {
        let steps = step..(step + 10).min(amount.samples);
        let times =
            steps.map(|step| (now_ms - (amount.samples - 1 - step) as i64 * 15_000, (step * 7 + n % 13) as f64));
        (*n, number.clone(), times.collect::<Vec<_>>())
    };
    let rows: Vec<_> = numbers.iter().map(one).collect();
    let series: Vec<_> = rows
        .iter()
        .map(|(n, number, samples)| Series {
            labels: vec![
                ("__name__", names[n % names.len()].as_str()),
                ("job", jobs[n / 50 % jobs.len()].as_str()),
                ("n", number.as_str()),
            ],
            samples: samples.clone(),
        })
        .collect();
    remote_write(&series)
}

/// A Loki push with one stream for each of 20 pods.
fn lines(amount: Amount, first: usize, now_ns: u64) -> Vec<u8> {
    let rows = first..(first + BATCH).min(amount.lines);
    let mut request = Vec::new();
    for pod in 0..20 {
        let mut stream = bytes(1, format!("{{app=\"shop\", pod=\"pod-{pod}\"}}").as_bytes());
        for row in rows.clone().filter(|row| row % 20 == pod) {
            let time = now_ns - ((amount.lines - row) as u64) * (3_000_000_000_000 / amount.lines as u64);
            let level = ["info", "info", "warn", "error"][row % 4];
            let line = format!(
                "{{\"level\":\"{level}\",\"took\":{},\"path\":\"/cart/{}\",\"user\":\"u{:08x}\",\"msg\":\"request done\"}}",
                row % 997,
                row % 40,
                row.wrapping_mul(2_654_435_761) as u32,
            );
            let at = [int(1, time / 1_000_000_000), int(2, time % 1_000_000_000)].concat();
            stream.extend(bytes(2, &[bytes(1, &at), bytes(2, line.as_bytes())].concat()));
        }
        request.extend(bytes(1, &stream));
    }
    crate::bodies::snappy(&request)
}

/// Traces in which each span is the child of one before it.
fn spans(amount: Amount, first: usize, now_ns: u64) -> Vec<u8> {
    let mut services: Vec<Vec<u8>> = vec![Vec::new(); 10];
    for row in first..(first + BATCH).min(amount.spans) {
        let (trace, place) = (row / TRACE_SPANS, row % TRACE_SPANS);
        let start = now_ns - ((amount.spans - row) as u64) * (3_000_000_000_000 / amount.spans as u64);
        let mut span = [bytes(1, &trace_id(trace).to_be_bytes()), bytes(2, &(row as u64 + 1).to_be_bytes())].concat();
        if place > 0 {
            span.extend(bytes(4, &((row - place + place / 2) as u64 + 1).to_be_bytes()));
        }
        span.extend(
            [
                bytes(5, format!("GET /{}", row % 30).as_bytes()),
                int(6, (row % 5 + 1) as u64),
                fixed64(7, start),
                fixed64(8, start + (row % 1_000) as u64 * 100_000),
                bytes(9, &attribute("http.url", &format!("/cart/{}", row % 500))),
                bytes(9, &attribute("user", &format!("u{:08x}", row.wrapping_mul(2_654_435_761) as u32))),
            ]
            .concat(),
        );
        services[row % 10].extend(bytes(2, &span));
    }
    let requests = services.iter().enumerate().filter(|(_, spans)| !spans.is_empty());
    requests.map(|(service, spans)| otlp(&format!("service-{service}"), spans)).collect::<Vec<_>>().concat()
}

/// The id of a trace that was loaded.
pub(super) fn trace_id(number: usize) -> u128 {
    (0xabcd << 64) + number as u128
}
