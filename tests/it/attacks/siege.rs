//! The long run: a server in a memory cgroup of 256 MiB with `--memory-limit` unset, over a million series, a
//! million lines and 400,000 spans, is attacked at random while ordinary senders and queries go on. No death, no
//! acknowledged item lost (also after `kill -9`), no ordinary write or query over 5 s.
//! `just attack ROUNDS`; `ATTACK_SEED` repeats a run, `ATTACK_ONLY` has only rows with that in their name. It says "skipped" where no cgroup can be made.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::TABLES;
use super::cgroup::Cgroup;
use super::client::{Outcome, exchange, request};
use super::load::{Amount, load};
use super::ordinary::{self, Seen, senders};
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::target::{now_ns, resident};
use crate::crash::wait_ready;
use crate::program::Process;

const MEMORY_BYTES: u64 = 256 << 20;
const AMOUNT: Amount = Amount { series: 1_000_000, samples: 1, lines: 1_000_000, spans: 400_000 };
/// More resident bytes than this are said, with what is under way.
const LARGE_BYTES: u64 = 180 << 20;
/// What an ordinary write or query may take, in milliseconds.
const ORDINARY_MS_MAX: u64 = 5_000;
/// Attacks under way at once: those that work the server, and those that mostly wait.
const BUSY: usize = 2;
const WAITING: usize = 6;

/// What an attack of one name did, over all its turns.
#[derive(Default)]
struct Record {
    turns: u64,
    longest_ms: u64,
    /// Most resident bytes seen at the end of a turn.
    resident: u64,
    faults: u64,
    first_fault: String,
}

fn start(dir: &Path, group: &Cgroup) -> Process {
    let mut command = crate::program::in_group(&group.procs());
    command.args(["--log-level", "info"]);
    let process = Process::spawn(command, dir, &[]);
    wait_ready(process.main);
    process
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The rows of a run in their order: all of them once, shuffled, again and again.
fn order(rounds: usize, mut seed: u64) -> Vec<&'static Attack> {
    let only = std::env::var("ATTACK_ONLY").unwrap_or_default();
    let rows: Vec<&Attack> = TABLES.iter().copied().flatten().filter(|row| row.name.contains(&only)).collect();
    let mut order = Vec::new();
    while order.len() < rounds {
        let mut turn = rows.clone();
        for at in (1..turn.len()).rev() {
            turn.swap(at, (random(&mut seed) % (at as u64 + 1)) as usize);
        }
        order.extend(turn);
    }
    order.truncate(rounds);
    order
}

fn waits(row: &Attack) -> bool {
    row.kind == Kind::Slowness
}

/// What the attackers share.
struct Siege<'a> {
    main: SocketAddr,
    pid: u32,
    now_ns: i64,
    over: &'a AtomicBool,
    records: Mutex<BTreeMap<&'static str, Record>>,
    seen: &'a Seen,
    done: AtomicU64,
}

impl Siege<'_> {
    /// Runs rows from `queue` until it is empty or the siege is over.
    fn attack(&self, queue: &Mutex<Vec<&'static Attack>>) {
        while !self.over.load(Ordering::Relaxed) {
            let Some(row) = queue.lock().pop() else { return };
            let started = Instant::now();
            let scene = Scene::new(self.main, true, self.now_ns, &|| Ok(()));
            self.seen.running.lock().push(row.name);
            (row.run)(&scene);
            let mut running = self.seen.running.lock();
            if let Some(at) = running.iter().position(|own| *own == row.name) {
                running.swap_remove(at);
            }
            drop(running);
            let (faults, _) = scene.done();
            let mut records = self.records.lock();
            let record = records.entry(row.name).or_default();
            record.turns += 1;
            record.longest_ms = record.longest_ms.max(started.elapsed().as_millis() as u64);
            record.resident = record.resident.max(resident(self.pid));
            record.faults += faults.len() as u64;
            if record.first_fault.is_empty() {
                record.first_fault = faults.into_iter().next().unwrap_or_default();
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Attacks in `order` while `watch` says that the server lives.
    fn run(&self, order: Vec<&'static Attack>, watch: &mut dyn FnMut() -> bool) {
        let (waiting, busy): (Vec<_>, Vec<_>) = order.into_iter().rev().partition(|row| waits(row));
        let (waiting, busy) = (Mutex::new(waiting), Mutex::new(busy));
        std::thread::scope(|scope| {
            let mut workers: Vec<_> = (0..BUSY).map(|_| scope.spawn(|| self.attack(&busy))).collect();
            workers.extend((0..WAITING).map(|_| scope.spawn(|| self.attack(&waiting))));
            while !workers.iter().all(|worker| worker.is_finished()) {
                if !watch() {
                    self.over.store(true, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
    }

    fn table(&self) -> String {
        let records = self.records.lock();
        let mut rows: Vec<_> = records.iter().collect();
        rows.sort_by_key(|(_, record)| std::cmp::Reverse((record.faults > 0, record.longest_ms)));
        let mut text = String::from("turns  longest ms  resident MiB  faults  attack\n");
        for (name, record) in rows {
            let fault: String = record.first_fault.chars().take(200).collect();
            let (turns, longest, faults) = (record.turns, record.longest_ms, record.faults);
            let _ = writeln!(
                text,
                "{turns:>5}  {longest:>10}  {:>12}  {faults:>6}  {name}  {fault}",
                record.resident >> 20
            );
        }
        text
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Median, 99th percentile and maximum.
fn spread(times_ms: &Mutex<Vec<u64>>) -> (u64, u64, u64) {
    let mut times = times_ms.lock().clone();
    times.sort_unstable();
    let at =
        |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied();
    (at(0.5).unwrap_or(0), at(0.99).unwrap_or(0), times.last().copied().unwrap_or(0))
}

#[test]
fn a_small_server_withstands_a_siege() {
    let Ok(rounds) = std::env::var("ATTACK_ROUNDS") else { return };
    let rounds: usize = rounds.parse().unwrap();
    let seed = std::env::var("ATTACK_SEED").map_or_else(|_| now_ns() as u64 | 1, |seed| seed.parse().unwrap());
    let Some(group) = Cgroup::new(MEMORY_BYTES) else {
        say("skipped: no memory cgroup can be made here; root may, with cgroup version 1 or 2");
        return;
    };
    say(&format!("{rounds} attacks, seed {seed}"));
    let folder = tempfile::tempdir().unwrap();
    let mut process = start(folder.path(), &group);
    let (main, now, loading) = (process.main, now_ns(), Instant::now());
    load(main, AMOUNT, now);
    say(&format!("loaded in {:?}, {} MiB resident", loading.elapsed(), resident(process.child.id()) >> 20));

    let (seen, senders) = (Seen::default(), senders());
    let (over, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let base_ms = now_ns() / 1_000_000;
    let pid = process.child.id();
    let siege =
        Siege { main, pid, now_ns: now, over: &over, records: Mutex::default(), seen: &seen, done: AtomicU64::new(0) };
    let (mut death, mut peak, mut told, began) = (None, 0, Instant::now(), Instant::now());
    std::thread::scope(|scope| {
        for sender in &senders {
            scope.spawn(|| sender.run(main, base_ms, &seen, &stop));
        }
        scope.spawn(|| ordinary::ask(main, &seen, &stop));
        let mut watch = || {
            let held = resident(pid);
            if held > peak.max(LARGE_BYTES) {
                say(&format!("{:?}: {} MiB resident in {:?}", began.elapsed(), held >> 20, seen.running.lock()));
            }
            peak = peak.max(held);
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                let ((_, _, write), (_, _, query)) = (spread(&seen.writes_ms), spread(&seen.queries_ms));
                let done = siege.done.load(Ordering::Relaxed);
                say(&format!(
                    "{:?}: {done} attacks, {} MiB resident; slowest write {write} ms, query {query} ms",
                    began.elapsed(),
                    resident(pid) >> 20
                ));
            }
            death = process.child.try_wait().unwrap();
            death.is_none()
        };
        siege.run(order(rounds, seed), &mut watch);
        // The server comes to rest while the ordinary ones go on.
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
    });
    let done = siege.done.load(Ordering::Relaxed);
    say(&siege.table());
    for (what, times) in [("writes", &seen.writes_ms), ("queries", &seen.queries_ms)] {
        let (median, most, slowest) = spread(times);
        say(&format!(
            "ordinary {what}: {}, median {median} ms, p99 {most} ms, slowest {slowest} ms",
            times.lock().len()
        ));
    }
    for sender in &senders {
        let items = sender.acknowledged.load(Ordering::Relaxed) * ordinary::ITEMS;
        say(&format!(
            "{}: {items} items acknowledged, {} requests unsure",
            sender.signal,
            sender.unsure.load(Ordering::Relaxed)
        ));
    }
    say(&format!(
        "{done} attacks in {:?}, seed {seed}; peak {} MiB resident, {} MiB in the cgroup; {} requests were sent again",
        began.elapsed(),
        peak >> 20,
        group.peak() >> 20,
        seen.again.load(Ordering::Relaxed)
    ));
    let mut wrong = seen.wrong.lock().clone();
    if let Some(status) = death {
        let log = process.rest_of_log();
        let last: Vec<_> = log.lines().rev().take(5).collect();
        wrong.push(format!("the server died: {status}; {}", last.join(" | ")));
        process = start(folder.path(), &group);
    } else if number(main, "trilith_panics_total ") != Some(0.0) {
        wrong.push("a request met a defect of ours (trilith_panics_total)".to_owned());
    }
    wrong.extend(ordinary::check(process.main, base_ms, &senders).err());
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    process = start(folder.path(), &group);
    wrong.extend(ordinary::check(process.main, base_ms, &senders).err().map(|error| format!("after kill -9: {error}")));
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    drop(group);
    let slowest = spread(&seen.writes_ms).2.max(spread(&seen.queries_ms).2);
    if slowest > ORDINARY_MS_MAX {
        wrong.push(format!("an ordinary write or query took {slowest} ms"));
    }
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
}

fn number(main: SocketAddr, name: &str) -> Option<f64> {
    let Outcome::Answered(answer) = exchange(main, &request("GET", "/metrics", "", b""), Duration::from_secs(10))
    else {
        return None;
    };
    answer.text().lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
