//! Does the cost of a sample grow with the number of series, or with the days that are kept?
//! CPU of the server process: ingest per sample (series known, and the making of new ones), memory
//! per active series, query per sample touched. `cargo bench --bench growth -- [series] [days]`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

mod server;

use server::{Fleet, Server, disk_mib};
use trilith::base::clock::{Clock as _, SystemClock};

/// Sends scrapes a minute apart that end now; returns CPU microseconds of the server per sample.
fn send(server: &Server, fleet: &mut Fleet, from_step: usize, steps: usize, end: i64, step_ms: i64) -> f64 {
    let mut spent = 0.0;
    for step in from_step..from_step + steps {
        let bodies = fleet.scrape(end + step as i64 * step_ms);
        spent += server.cpu_of(|| {
            bodies.iter().for_each(|body| {
                server.write(body);
            });
        });
    }
    spent * 1e6 / (fleet.len() * steps) as f64
}

/// CPU nanoseconds of the server per sample touched by a query that reads `samples`.
fn query(server: &Server, path: &str, samples: usize) -> f64 {
    server.query(path);
    let runs = (40_000_000 / samples).clamp(3, 200);
    let spent = server.cpu_of(|| (0..runs).for_each(|_| drop(server.query(path))));
    spent * 1e9 / (runs * samples) as f64
}

/// From ten thousand to a million series.
fn by_series() {
    // The same for all, so that what a series costs weighs alike in what a sample costs.
    let steps = 48;
    println!(
        "series | CPU us a new series | CPU us a sample, flushed | bytes a series | query CPU ns a sample | disk MiB | parts written, merged"
    );
    for series in [10_000, 100_000, 1_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), None, &[]);
        let mut fleet = Fleet::new(series);
        let start = SystemClock.now_ms() - (steps as i64 + 2) * 60_000;
        let idle = server.memory_mib().0;
        let made = send(&server, &mut fleet, 0, 1, start, 60_000);
        let bytes = (server.memory_mib().0 - idle) * 1_048_576.0 / series as f64;
        let known = send(&server, &mut fleet, 1, steps, start, 60_000);
        // At a million series some of it was flushed by then.
        let known = known + server.cpu_of(|| server.flush()) * 1e6 / (series * steps) as f64;
        let (written, parts) = (server.parts(), server.settle());
        let end = start / 1000 + steps as i64 * 60 + 10;
        let path = format!("/api/v1/query?query=sum(count_over_time(%7Bjob=%22node%22%7D%5B{steps}m%5D))&time={end}");
        let asked = query(&server, &path, series / 5 * steps);
        let disk = disk_mib(dir.path());
        println!("{series} | {made:.2} | {known:.3} | {bytes:.0} | {asked:.1} | {disk:.1} | {written}, {parts}");
    }
}

/// From four hours to thirty days of 500 series.
fn by_days() {
    const SERIES: usize = 500;
    println!("minutes kept | CPU us a sample | query CPU ns a sample | one hour of it, CPU ms | disk bytes a sample");
    for minutes in [240, 43_200 - 60] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), None, &[]);
        let mut fleet = Fleet::new(SERIES);
        let start = SystemClock.now_ms() - (minutes as i64 + 1) * 60_000;
        let sent = send(&server, &mut fleet, 0, minutes, start, 60_000);
        server.flush();
        let end = start / 1000 + minutes as i64 * 60;
        let (from, step) = (start / 1000, (minutes * 60 / 1000).max(60));
        let window = (step / 60).max(1);
        let rate = format!("query=sum(increase(%7Bjob!=%22%22%7D%5B{}m%5D))&step={step}", window + 1);
        let asked = query(&server, &format!("/api/v1/query_range?{rate}&start={from}&end={end}"), SERIES * minutes);
        let hour = format!("/api/v1/query_range?{rate}&start={}&end={end}", end - 3600);
        let hour_ms = query(&server, &hour, SERIES * 60) * (SERIES * 60) as f64 / 1e6;
        let bytes = disk_mib(dir.path()) * 1_048_576.0 / (SERIES * minutes) as f64;
        println!("{minutes} | {sent:.3} | {asked:.1} | {hour_ms:.2} | {bytes:.2}");
    }
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|own| own == name);
    if wanted("series") {
        by_series();
    }
    if wanted("days") {
        by_days();
    }
}
