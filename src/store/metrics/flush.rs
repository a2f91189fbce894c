//! From the head to parts: which day's part a sample goes to, and what it holds.
//! Flow: [`slices`] finds the days with their series; [`write`] hands the series of one day, sorted
//! by labels, to a [`PartBuilder`].

use std::collections::BTreeMap;

use super::build::{PartBuilder, Samples};
use super::head::Head;
use super::rows::Rows;
use super::series::Series;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;
use crate::store::lane::{SliceSpan, partition};
use crate::store::part::PartWriter;

const DAY_MS: i64 = 86_400_000;
/// Days around now that have parts of their own or, far off, share them; all others share two.
const DAYS_MAX: i64 = 40_000;
/// What goes to one part.
pub struct Slice {
    place: Place,
    span: RangeMs,
    /// In the order of their labels.
    ids: Vec<u32>,
    with_metadata: bool,
}

/// The days of one part: what `partition` gives for each of its times, seen from `now`.
#[derive(Clone, Copy)]
struct Place {
    number: i64,
    now: i64,
}

impl Place {
    fn holds(self, t: i64) -> bool {
        place(t, self.now) == self.number
    }
}

/// The number of the part for `t`.
fn place(t: i64, now: i64) -> i64 {
    let today = now.div_euclid(DAY_MS);
    match t.div_euclid(DAY_MS) {
        day if day < today.saturating_sub(DAYS_MAX) => i64::MIN,
        day if day > today.saturating_add(DAYS_MAX) => i64::MAX,
        _ => partition(t, now, DAY_MS),
    }
}

struct Building {
    span: (i64, i64),
    rows: u64,
    ids: Vec<u32>,
}

#[derive(Default)]
struct Places(BTreeMap<i64, Building>);

impl Places {
    fn at(&mut self, number: i64, t: i64) -> &mut Building {
        let building = self.0.entry(number).or_insert_with(|| Building { span: (t, t), rows: 0, ids: Vec::new() });
        building.span = (building.span.0.min(t), building.span.1.max(t));
        building
    }

    /// All series have all their samples in one part.
    fn all(&mut self, number: i64, span: RangeMs, series: &[Series]) {
        let building = self.at(number, span.start);
        building.span.1 = span.end;
        building.ids = series.iter().map(|own| own.id).collect();
        building.rows = series.iter().map(|own| own.count(RangeMs::ALL) as u64).sum();
    }

    /// `times` is ascending.
    fn add(&mut self, id: u32, times: &[i64], now: i64) {
        let mut rest = times;
        while let Some(first) = rest.first() {
            let number = place(*first, now);
            let len = rest.partition_point(|t| place(*t, now) <= number);
            let (own, others) = rest.split_at(len.max(1));
            self.at(number, *first).rows += own.len() as u64;
            let building = self.at(number, own.last().copied().unwrap_or(*first));
            if building.ids.last() != Some(&id) {
                building.ids.push(id);
            }
            rest = others;
        }
    }
}

/// Divides a head into the parts it makes.
pub fn slices(head: &Head, now: i64) -> Vec<SliceSpan<Slice>> {
    let mut places = Places::default();
    let series = head.sorted();
    match head.span().filter(|span| place(span.start, now) == place(span.end, now)) {
        // Mostly all is of one day, and nobody need look at every sample.
        Some(span) => places.all(place(span.start, now), span, &series),
        None => {
            let mut rows = Rows::default();
            for own in &series {
                read(own, RangeMs::ALL, &mut rows);
                places.add(own.id, &rows.times, now);
                let times: Vec<i64> = rows.histograms.iter().map(|sample| sample.t).collect();
                places.add(own.id, &times, now);
            }
            for exemplar in head.exemplars().iter().flat_map(|(_, own)| own) {
                places.at(place(exemplar.t, now), exemplar.t);
            }
        }
    }
    let metadata = head.has_metadata();
    if metadata && places.0.is_empty() {
        places.at(place(now, now), now);
    }
    let newest = places.0.keys().next_back().copied();
    let slice = |(number, building): (i64, Building)| SliceSpan {
        min_t: building.span.0,
        max_t: building.span.1,
        rows: building.rows,
        slice: Slice {
            place: Place { number, now },
            span: RangeMs { start: building.span.0, end: building.span.1 },
            ids: building.ids,
            with_metadata: metadata && Some(number) == newest,
        },
    };
    places.0.into_iter().map(slice).collect()
}

fn read(series: &Series, range: RangeMs, rows: &mut Rows) {
    rows.clear();
    if let Err(error) = series.read(range, rows) {
        tracing::error!(%error, labels = %series.labels(), "a chunk in memory does not decode; the log has its samples");
    }
    rows.settle();
}

/// Writes the frames of one part.
///
/// # Errors
/// [`StoreError`].
pub fn write(head: &Head, slice: Slice, out: &mut PartWriter) -> Result<(), StoreError> {
    let series = head.by_ids(&slice.ids);
    let mut part = PartBuilder::new(out);
    let mut rows = Rows::default();
    for own in &series {
        read(own, slice.span, &mut rows);
        write_series(&own.labels(), &rows, slice.place, &mut part)?;
    }
    for (id, exemplars) in head.exemplars() {
        let own: Vec<Exemplar> = exemplars.into_iter().filter(|exemplar| slice.place.holds(exemplar.t)).collect();
        let labels = head.labels_of(id);
        labels.map_or(Ok(()), |labels| part.exemplars(&labels, &own))?;
    }
    if slice.with_metadata {
        head.metadata().iter().try_for_each(|metadata| part.metadata(metadata))?;
    }
    part.finish()
}

/// Adds the samples that belong to the part's days.
fn write_series(labels: &Labels, rows: &Rows, place: Place, part: &mut PartBuilder<'_>) -> Result<(), StoreError> {
    let before = |t: i64| self::place(t, place.now) < place.number;
    let within = |t: i64| self::place(t, place.now) <= place.number;
    let floats = rows.times.partition_point(|t| before(*t))..rows.times.partition_point(|t| within(*t));
    let own = &rows.histograms;
    let histograms = own.partition_point(|own| before(own.t))..own.partition_point(|own| within(own.t));
    let starts = rows.float_starts();
    let samples = Samples {
        times: rows.times.get(floats.clone()).unwrap_or_default(),
        values: rows.values.get(floats.clone()).unwrap_or_default(),
        starts: starts.get(floats).unwrap_or_default(),
        histograms: own.get(histograms).unwrap_or_default(),
    };
    part.series(labels, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_times_make_few_parts_and_numbers_ascend_with_time() {
        let now = 20_000 * DAY_MS;
        let mut places = std::collections::BTreeSet::new();
        let mut last = i64::MIN;
        for step in 0..200_000i64 {
            let t = i64::MIN / 2 + step * (i64::MAX / 200_000);
            places.insert(place(t, now));
            assert!(place(t, now) >= last, "{t}");
            last = place(t, now);
        }
        (-50_000..50_000).for_each(|day| {
            places.insert(place(now + day * DAY_MS, now));
        });
        assert!(places.len() < 1_100, "{}", places.len());
    }
}
