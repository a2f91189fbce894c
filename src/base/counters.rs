//! The server's own numbers, shown at `/metrics`. Registered by name and label pairs at first use;
//! the set of names and label values is fixed by the code, not by data from outside, but for families
//! that are put there as a whole and bounded by whoever does ([`Counters::replace`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// How a number behaves, as the exposition format calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A number that can be raised, lowered and set from any thread. Cheap to clone and to change.
#[derive(Clone, Debug, Default)]
pub struct Cell(Arc<AtomicU64>);

impl Cell {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes `amount` off a gauge.
    pub fn sub(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Names and values of labels.
pub type LabelPairs = Vec<(&'static str, String)>;

struct Family {
    kind: Kind,
    help: &'static str,
    /// Values are divided by this when shown (1e9 for a counter of nanoseconds shown in seconds).
    scale: f64,
    cells: BTreeMap<LabelPairs, Cell>,
}

/// Durations counted by how long they are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Durations(Arc<DurationCells>);

/// Upper bounds of the buckets, in seconds.
const DURATION_BOUNDS: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0];

#[derive(Debug, Default)]
struct DurationCells {
    /// Of each bucket alone; the last has no bound.
    counts: [AtomicU64; DURATION_BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Durations {
    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = DURATION_BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

struct DurationFamily {
    help: &'static str,
    cells: BTreeMap<LabelPairs, Durations>,
}

#[derive(Default)]
struct Families {
    numbers: BTreeMap<&'static str, Family>,
    durations: BTreeMap<&'static str, DurationFamily>,
}

/// All numbers of one server. One is made by `app` and handed down.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<Families>>);

impl Counters {
    /// The counter `name{labels}`, made at its first use. `name` ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Cell {
        self.cell(Kind::Counter, name, help, 1.0, labels)
    }

    /// The gauge `name{labels}`, made at its first use.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Cell {
        self.cell(Kind::Gauge, name, help, 1.0, labels)
    }

    /// A counter that is raised in nanoseconds and shown in seconds. `name` ends in `_seconds_total`.
    pub fn nanoseconds(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Cell {
        self.cell(Kind::Counter, name, help, 1e9, labels)
    }

    fn cell(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        scale: f64,
        labels: &[(&'static str, &str)],
    ) -> Cell {
        let mut families = self.0.lock();
        let family =
            families.numbers.entry(name).or_insert_with(|| Family { kind, help, scale, cells: BTreeMap::new() });
        let key = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        family.cells.entry(key).or_default().clone()
    }

    /// Puts `values` in place of all that the counter `name` had.
    pub fn replace(&self, name: &'static str, help: &'static str, values: impl Iterator<Item = (LabelPairs, u64)>) {
        let cells = values.map(|(labels, value)| (labels, Cell(Arc::new(AtomicU64::new(value))))).collect();
        self.0.lock().numbers.insert(name, Family { kind: Kind::Counter, help, scale: 1.0, cells });
    }

    /// Everything in the Prometheus text exposition format 0.0.4.
    pub fn expose(&self) -> String {
        let mut text = String::new();
        let families = self.0.lock();
        for (name, family) in &families.numbers {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, cell) in &family.cells {
                let _ = writeln!(text, "{name}{} {}", braces(labels, None), cell.get() as f64 / family.scale);
            }
        }
        for (name, family) in &families.durations {
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} histogram", family.help);
            for (labels, durations) in &family.cells {
                let mut total = 0;
                let bounds = DURATION_BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
                for (count, bound) in durations.0.counts.iter().zip(bounds) {
                    total += count.load(Ordering::Relaxed);
                    let _ = writeln!(text, "{name}_bucket{} {total}", braces(labels, Some(&bound)));
                }
                let sum = durations.0.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
                let own = braces(labels, None);
                let _ = writeln!(text, "{name}_sum{own} {sum}\n{name}_count{own} {total}");
            }
        }
        text
    }

    /// The histogram of durations `name{labels}`, made at its first use. `name` ends in `_seconds`.
    pub fn durations(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Durations {
        let mut families = self.0.lock();
        let family = families.durations.entry(name).or_insert_with(|| DurationFamily { help, cells: BTreeMap::new() });
        let key = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        family.cells.entry(key).or_insert_with(|| Durations(Arc::default())).clone()
    }

    /// The values of a counter or gauge, by labels.
    pub fn values(&self, name: &str) -> Vec<(LabelPairs, u64)> {
        let families = self.0.lock();
        let cells = families.numbers.get(name).map(|family| family.cells.iter()).into_iter().flatten();
        cells.map(|(labels, cell)| (labels.clone(), cell.get())).collect()
    }
}

/// Labels as the format has them, with the bound of a bucket.
fn braces(labels: &LabelPairs, bound: Option<&str>) -> String {
    let own = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let all: Vec<String> = own
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_and_labels_is_one_number() {
        let counters = Counters::default();
        counters.counter("a_total", "help", &[("x", "1")]).add(2);
        counters.counter("a_total", "help", &[("x", "1")]).inc();
        counters.gauge("b", "help", &[]).set(7);
        let text = counters.expose();
        assert!(text.contains("a_total{x=\"1\"} 3\n"), "{text}");
        assert!(text.contains("# TYPE b gauge\nb 7\n"), "{text}");
        assert_eq!(counters.values("a_total"), [(vec![("x", "1".to_owned())], 3)]);
        assert_eq!(counters.values("none"), []);
        counters.replace("a_total", "help", [(vec![("x", "a\"\n".to_owned())], 5)].into_iter());
        let text = counters.expose();
        assert!(text.contains("# TYPE a_total counter\na_total{x=\"a\\\"\\n\"} 5\n# HELP b"), "{text}");
    }

    #[test]
    fn durations_are_counted_into_buckets_that_add_up() {
        let counters = Counters::default();
        for ms in [1, 2, 500, 500_000] {
            counters.durations("d_seconds", "help", &[("x", "y")]).observe(Duration::from_millis(ms));
        }
        let text = counters.expose();
        for line in [
            "# TYPE d_seconds histogram\nd_seconds_bucket{x=\"y\",le=\"0.001\"} 1\n",
            "d_seconds_bucket{x=\"y\",le=\"0.003\"} 2\n",
            "d_seconds_bucket{x=\"y\",le=\"1\"} 3\n",
            "d_seconds_bucket{x=\"y\",le=\"+Inf\"} 4\nd_seconds_sum{x=\"y\"} 500.503\nd_seconds_count{x=\"y\"} 4\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
