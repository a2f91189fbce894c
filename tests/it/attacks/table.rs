//! Every row of the table once, over a small store: after it the server lives, has met no defect of its own, runs
//! no query that nobody waits for, holds less than 64 MiB more than before, and serves ordinary senders and
//! queries of all signals within 2 s.
//! `ATTACK=word cargo test --test it attacks` runs the rows whose kind and name hold the word.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::TABLES;
use super::load::{Amount, load};
use super::row::Attack;
use super::scene::Scene;
use super::surface;
use super::target::{Target, now_ns};

/// What resident memory may be more than before a row, 5 s after it.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// What ordinary requests may take after a row. Other tests run beside this one, so one of three tries counts.
const WITHIN: Duration = Duration::from_secs(2);

/// Rows that fail today on some machines, each with what has to be mended. It may only shrink.
const KNOWN: &[(&str, &str)] =
    &[("hundreds of pushes at once", "review 9: what is inflated and decoded is outside the account")];

const AMOUNT: Amount = Amount { series: 2_000, samples: 40, lines: 6_000, spans: 6_000 };

fn rows() -> impl Iterator<Item = &'static Attack> {
    TABLES.iter().copied().flatten()
}

#[test]
fn every_row_has_a_name_of_its_own_and_known_ones_are_rows() {
    let names: BTreeSet<_> = rows().map(|row| row.name).collect();
    assert_eq!(names.len(), rows().count());
    for (name, why) in KNOWN {
        assert!(names.contains(name) && !why.is_empty(), "{name}");
    }
}

/// A server with data, and its folder.
fn start() -> (tempfile::TempDir, Target, i64) {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(folder.path());
    let now = now_ns();
    load(target.main, AMOUNT, now);
    target.ordinary(Duration::from_secs(10)).unwrap();
    (folder, target, now)
}

fn served(target: &Target) -> Result<(), String> {
    target.ordinary(WITHIN).or_else(|_| target.ordinary(WITHIN)).or_else(|_| target.ordinary(WITHIN))
}

/// What is wrong after a row.
fn after(target: &mut Target, before: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(death) = target.dead() {
            return vec![death];
        }
        let grown = target.resident().saturating_sub(before);
        let running = target.number("trilith_queries_running").unwrap_or(f64::NAN);
        if grown < GROWTH_BYTES_MAX && running == 0.0 {
            break;
        }
        if Instant::now() > until {
            if grown >= GROWTH_BYTES_MAX {
                wrong.push(format!("5 s later it holds {} MiB more", grown >> 20));
            }
            if running != 0.0 {
                wrong.push(format!("5 s later {running} queries run for nobody"));
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    if let Err(error) = served(target) {
        wrong.push(format!("afterwards {error}"));
    }
    if target.number("trilith_panics_total").is_some_and(|panics| panics > 0.0) {
        wrong.push("it met a defect of its own (trilith_panics_total)".to_owned());
    }
    wrong.extend(target.dead());
    wrong
}

/// Runs a row; what is wrong, and the paths that it asked.
fn run(row: &Attack, target: &mut Target, now: i64) -> (Vec<String>, BTreeSet<String>) {
    let before = target.resident();
    target.peak();
    let started = Instant::now();
    let others = || served(target);
    let scene = Scene::new(target.main, false, now, &others);
    (row.run)(&scene);
    let (mut wrong, asked) = scene.done();
    let took = started.elapsed();
    wrong.extend(after(target, before));
    let peak = target.peak() >> 20;
    let line = format!(
        "{:>6} ms {:>4} → {:>4} MiB, peak {peak:>4}  {:?}: {}{}\n",
        took.as_millis(),
        before >> 20,
        target.resident() >> 20,
        row.kind,
        row.name,
        if wrong.is_empty() { String::new() } else { format!("\n        WRONG {}", wrong.join("\n              ")) }
    );
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    (wrong, asked)
}

#[test]
fn every_attack_leaves_the_server_as_it_was() {
    let word = std::env::var("ATTACK").unwrap_or_default();
    let (mut folder, mut target, mut now) = start();
    let (mut asked, mut failed, mut mended) = (BTreeSet::new(), Vec::new(), Vec::new());
    for row in rows().filter(|row| format!("{:?}: {}", row.kind, row.name).contains(&word)) {
        let known = KNOWN.iter().any(|(name, _)| *name == row.name);
        let (mut wrong, paths) = run(row, &mut target, now);
        asked.extend(paths);
        // A busy machine can be slow once: what is wrong is wrong on a fresh server, too.
        if !wrong.is_empty() && !known {
            (folder, target, now) = start();
            wrong = run(row, &mut target, now).0;
        }
        match (wrong.is_empty(), known) {
            (false, false) => failed.push(format!("{}: {}", row.name, wrong.join("; "))),
            (true, true) => mended.push(row.name),
            _ => {}
        }
        // What one row did to the server is not the next one's.
        if !wrong.is_empty() {
            (folder, target, now) = start();
        }
    }
    if word.is_empty() {
        let scene = Scene::new(target.main, false, now, &|| Ok(()));
        let doors = surface::all(&scene).into_iter().chain(surface::calls());
        let missed: Vec<_> =
            doors.filter(|door| !asked.iter().any(|path| door.answers(path))).map(|door| door.row).collect();
        assert!(missed.is_empty(), "no attack asks {missed:?}");
    }
    drop(folder);
    assert!(failed.is_empty(), "{} rows fail:\n{}", failed.len(), failed.join("\n"));
    // Whether they do depends on the machine, so that this is a hint and no failure.
    if !mended.is_empty() {
        let line = format!("passed, though they are in KNOWN: {mended:?}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}
