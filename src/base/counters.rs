//! The server's own numbers, shown at `/metrics`. Registered by name and label pairs at first use;
//! the set of names and label values is fixed by the code, never by data from outside.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

type LabelPairs = Vec<(&'static str, String)>;

struct Family {
    kind: Kind,
    help: &'static str,
    /// Values are divided by this when shown (1e9 for a counter of nanoseconds shown in seconds).
    scale: f64,
    cells: BTreeMap<LabelPairs, Cell>,
}

/// All numbers of one server. One is made by `app` and handed down.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<&'static str, Family>>>);

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
        let family = families.entry(name).or_insert_with(|| Family { kind, help, scale, cells: BTreeMap::new() });
        let key = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        family.cells.entry(key).or_default().clone()
    }

    /// Everything in the Prometheus text exposition format 0.0.4.
    pub fn expose(&self) -> String {
        let mut text = String::new();
        for (name, family) in self.0.lock().iter() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, cell) in &family.cells {
                text.push_str(name);
                for (at, (label, value)) in labels.iter().enumerate() {
                    text.push(if at == 0 { '{' } else { ',' });
                    let _ = write!(text, "{label}=\"{}\"", escape(value));
                }
                if !labels.is_empty() {
                    text.push('}');
                }
                let _ = writeln!(text, " {}", cell.get() as f64 / family.scale);
            }
        }
        text
    }
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
    }
}
