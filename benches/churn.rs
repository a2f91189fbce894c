//! Does memory stay flat when series come and go? A day in which each hour a tenth of the series is
//! replaced, sent as fast as the server takes it, with the server in a cgroup of 512 MiB. Merges keep
//! their own pace, so that they fall behind here as they do not in a real day: memory is compared
//! when they have caught up, after half of the time and at the end.
//! `cargo bench --bench churn -- [SERIES] [HOURS] [STEP_SECONDS]`; ends with an error when the
//! server dies or refuses samples, or when memory grows.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

mod server;

use server::{Fleet, Server, disk_mib};
use trilith::base::clock::{Clock as _, SystemClock};

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let number = |at: usize, default: usize| numbers.get(at).copied().unwrap_or(default);
    let (series, hours, step_s) = (number(0, 100_000), number(1, 24), number(2, 60));
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), Some(512 << 20), &[]);
    let mut fleet = Fleet::new(series);
    let (mut again, mut settled) = (0, Vec::new());
    let start = SystemClock.now_ms() - (hours * 3_600_000) as i64;
    println!("hour | samples | series ever | CPU s | resident MiB | peak MiB | disk MiB | parts | retries");
    for hour in 0..hours {
        if hour > 0 {
            fleet.replace(0.1, hour);
        }
        for step in 0..3600 / step_s {
            let t = start + ((hour * 3600 + step * step_s) * 1000) as i64;
            again += fleet.scrape(t).iter().map(|body| server.write(body)).sum::<u64>();
        }
        assert!(server.lives(), "the server died");
        let (now, peak) = server.memory_mib();
        let ever = series + series * hour / 10;
        let (samples, cpu, disk) = ((hour + 1) * series * (3600 / step_s), server.cpu_s(), disk_mib(dir.path()));
        let parts = server.parts();
        println!("{hour} | {samples} | {ever} | {cpu:.1} | {now:.0} | {peak:.0} | {disk:.0} | {parts} | {again}");
        if hour + 1 == hours / 2 || hour + 1 == hours {
            server.flush();
            let parts = server.settle();
            settled.push(server.memory_mib().0);
            println!("when merges have caught up: {parts} parts, {:.0} MiB", server.memory_mib().0);
        }
    }
    let last = (start / 1000) + (hours * 3600) as i64;
    let count = server.query(&format!("/api/v1/query?query=count(%7Bjob!=%22%22%7D)&time={last}"));
    println!("at the end: {}", String::from_utf8_lossy(&count));
    let (half, whole) = (settled[0], settled[settled.len() - 1]);
    assert!(whole <= 1.3 * half, "memory grows with series that are gone");
}
