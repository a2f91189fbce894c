//! Which metrics most new series were refused of: a few hundred names, whatever comes.
//! When all places are taken, the name with the least makes room, and the one that comes in its place
//! is ranked as if it had had as much before. So a name of which more is refused than one part in
//! [`NAMES_MAX`] of all is there; what is told of it is what was counted since it came in.

use std::collections::BTreeMap;

use ahash::AHashMap;
use parking_lot::Mutex;

use crate::store::waist::RefusedMetric;

/// Names that are told apart.
const NAMES_MAX: usize = 500;
/// Bytes of a name by which it is told apart from others.
const NAME_BYTES_MAX: usize = 200;

#[derive(Default)]
struct Row {
    /// What the name before had when this one took its place.
    before: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Row {
    fn rank(&self) -> u64 {
        self.before + self.counts.values().sum::<u64>()
    }
}

/// Counts refusals by metric. Locks: its own, for a look or a count.
#[derive(Default)]
pub struct Refused(Mutex<AHashMap<String, Row>>);

impl Refused {
    /// Counts `count` samples of a series of `metric` that was not made.
    pub fn add(&self, metric: &str, reason: &'static str, count: u64) {
        let name = beginning(metric);
        let mut rows = self.0.lock();
        if let Some(row) = rows.get_mut(name) {
            *row.counts.entry(reason).or_default() += count;
            return;
        }
        let mut row = Row::default();
        if rows.len() >= NAMES_MAX
            && let Some(least) = rows.iter().min_by_key(|(_, row)| row.rank()).map(|(name, _)| name.clone())
        {
            row.before = rows.remove(&least).map_or(0, |row| row.rank());
        }
        row.counts.insert(reason, count);
        rows.insert(name.to_owned(), row);
    }

    /// The `rows` largest, the largest first.
    pub fn top(&self, rows: usize) -> Vec<RefusedMetric> {
        let mut all: Vec<RefusedMetric> = {
            let own = self.0.lock();
            let counts = |(name, row): (&String, &Row)| -> Vec<RefusedMetric> {
                row.counts
                    .iter()
                    .map(|(reason, count)| RefusedMetric { name: name.clone(), reason, count: *count })
                    .collect()
            };
            own.iter().flat_map(counts).collect()
        };
        all.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| (&a.name, a.reason).cmp(&(&b.name, b.reason))));
        all.truncate(rows);
        all
    }
}

fn beginning(name: &str) -> &str {
    let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, reason: &'static str, count: u64) -> RefusedMetric {
        RefusedMetric { name: name.to_owned(), reason, count }
    }

    #[test]
    fn the_largest_come_first_by_name_and_reason() {
        let refused = Refused::default();
        refused.add("b", "series_limit", 2);
        refused.add("a", "series_limit", 2);
        refused.add("a", "metric_series_limit", 5);
        refused.add("a", "metric_series_limit", 5);
        let all = [row("a", "metric_series_limit", 10), row("a", "series_limit", 2), row("b", "series_limit", 2)];
        assert_eq!(refused.top(9), all);
        assert_eq!(refused.top(1), all[..1]);
    }

    #[test]
    fn a_flood_of_names_hides_no_large_one_and_takes_no_room() {
        let refused = Refused::default();
        for number in 0..20_000 {
            refused.add(&format!("new_{number}"), "series_limit", 1);
            if number % 100 == 0 {
                refused.add("large", "series_limit", 3);
            }
        }
        assert_eq!(refused.0.lock().len(), NAMES_MAX);
        let first = &refused.top(1)[0];
        assert_eq!(first.name, "large");
        assert!((500..=600).contains(&first.count), "{first:?}");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let refused = Refused::default();
        refused.add(&format!("x{}", "ü".repeat(1_000)), "series_limit", 1);
        let name = &refused.top(1)[0].name;
        assert_eq!(name.len(), 199);
        assert!(name.ends_with('ü'));
    }
}
