//! Answers of the metrics store: heads and parts as one.
//! Flow: parts, oldest first, then heads say which series match; their samples are read later, by
//! [`StoreSet`]. Memory is charged before it is taken; the deadline is looked at with each frame.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::gone::gone;
use super::head::{Head, same_exemplar};
use super::keep::Sieve;
use super::segment::Part;
use super::set::{SetBuilder, StoreSet};
use super::{MetricsKind, MetricsStore};
use crate::base::limits::QueryBudget;
use crate::model::batch::{MetricMetadata, Signal};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;
use crate::store::lane::View;
use crate::store::waist::Cardinality;
use crate::store::waist::RefusedMetric;
use crate::store::waist::{SelectMetrics, SeriesSet};

/// Charged for a series or a string beside its text.
const ITEM_BYTES: usize = 160;

pub(super) fn overlapping(view: &View<MetricsKind>, range: RangeMs) -> impl Iterator<Item = &Arc<Part>> {
    view.parts.iter().filter(move |part| part.overlaps(range))
}

pub(super) fn heads(view: &View<MetricsKind>, range: RangeMs) -> impl Iterator<Item = &Arc<Head>> {
    view.heads.iter().filter(move |head| head.overlaps(range))
}

/// The series of a part whose labels are shown: those that match, but for what a sieve leaves nothing
/// of; `None` is all of them.
fn shown(
    part: &Part,
    sieve: &Sieve,
    matchers: &[Matcher],
    range: RangeMs,
    budget: &QueryBudget,
) -> Result<Option<RoaringBitmap>, StoreError> {
    let gone = if sieve.is_open() { RoaringBitmap::new() } else { gone(part, sieve, range, budget)? };
    if matchers.is_empty() && gone.is_empty() {
        return Ok(None);
    }
    Ok(Some(part.matched_ever(matchers, budget)? - gone))
}

/// Distinct strings, charged as they come.
struct Strings<'a> {
    budget: &'a QueryBudget,
    set: BTreeSet<String>,
    seen: usize,
}

impl<'a> Strings<'a> {
    fn new(budget: &'a QueryBudget) -> Self {
        Self { budget, set: BTreeSet::new(), seen: 0 }
    }

    fn add(&mut self, text: &str) -> Result<(), StoreError> {
        self.seen += 1;
        if self.seen.is_multiple_of(10_000) {
            self.budget.check()?;
        }
        if !self.set.contains(text) {
            self.budget.charge(text.len() + ITEM_BYTES)?;
            self.set.insert(text.to_owned());
        }
        Ok(())
    }
}

impl MetricsStore {
    fn set(&self, matchers: &[Matcher], range: RangeMs, budget: &QueryBudget) -> Result<StoreSet, StoreError> {
        let sieves = self.sieves();
        let view = self.lane.whole_view()?;
        let mut set = SetBuilder::new(range, budget);
        for part in overlapping(&view, range) {
            let numbers = part.matched(matchers, range, budget)?;
            set.part(part.clone(), numbers, sieves.of(Some(part.reader())))?;
        }
        for head in heads(&view, range) {
            let mut series = head.matching(matchers, budget)?;
            series.retain(|series| series.overlaps(range));
            set.head(series, sieves.of(None))?;
        }
        set.finish()
    }
}

impl SelectMetrics for MetricsStore {
    fn select(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        Ok(Box::new(self.set(matchers, range, budget)?))
    }

    fn series(&self, matchers: &[Matcher], range: RangeMs, budget: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        Ok(self.set(matchers, range, budget)?.into_labels())
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let sieves = self.sieves();
        let view = self.lane.whole_view()?;
        let mut names = Strings::new(budget);
        for part in overlapping(&view, range) {
            let info = part.reader().info();
            let among = shown(part, &sieves.of(Some(part.reader())), matchers, range, budget)?;
            let listed = match among {
                None => self.lane.env().catalog.label_names(Signal::Metrics, (info.seq, info.index)),
                Some(_) => None,
            };
            match listed {
                Some(listed) => listed.iter().try_for_each(|name| names.add(name))?,
                None => part.pairs(None, among.as_ref(), budget, &mut |name, _| names.add(name))?,
            }
        }
        for head in heads(&view, range) {
            head.pairs(None, matchers, budget, &mut |name, _| names.add(name))?;
        }
        Ok(names.set.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let sieves = self.sieves();
        let view = self.lane.whole_view()?;
        let mut values = Strings::new(budget);
        for part in overlapping(&view, range) {
            let info = part.reader().info();
            let among = shown(part, &sieves.of(Some(part.reader())), matchers, range, budget)?;
            let listed = match among {
                None => self.lane.env().catalog.label_values(Signal::Metrics, (info.seq, info.index), name),
                Some(_) => None,
            };
            match listed {
                Some(listed) => listed.iter().try_for_each(|value| values.add(value))?,
                None => part.pairs(Some(name), among.as_ref(), budget, &mut |_, value| values.add(value))?,
            }
        }
        for head in heads(&view, range) {
            head.pairs(Some(name), matchers, budget, &mut |_, value| values.add(value))?;
        }
        Ok(values.set.into_iter().collect())
    }

    fn cardinality_now(&self, rows: usize, budget: &QueryBudget) -> Result<Option<Cardinality>, StoreError> {
        MetricsStore::cardinality_now(self, rows, budget).map(Some)
    }

    fn cardinality(
        &self,
        selectors: &[Vec<Matcher>],
        range: RangeMs,
        rows: usize,
        budget: &QueryBudget,
    ) -> Result<Cardinality, StoreError> {
        self.cardinality_of(selectors, range, rows, budget)
    }

    fn refused(&self, rows: usize) -> Vec<RefusedMetric> {
        MetricsStore::refused(self, rows)
    }

    fn metadata(&self, budget: &QueryBudget) -> Result<Vec<MetricMetadata>, StoreError> {
        let (mut all, mut outcome) = (Vec::new(), Ok(()));
        // What is newest comes first, so that of equal names it stays.
        let mut add = |one: MetricMetadata| {
            if outcome.is_ok() {
                let bytes = one.name.len() + one.kind.len() + one.help.len() + one.unit.len() + ITEM_BYTES;
                outcome = budget.touch(1).and_then(|()| budget.charge(bytes));
                all.push(one);
            }
        };
        self.lane.view().heads.iter().rev().for_each(|head| head.visit_metadata(|one| add(one.clone())));
        self.lane.env().catalog.metadata(add);
        outcome?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|later, first| later.name == first.name);
        Ok(all)
    }

    fn exemplars(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        let sieves = self.sieves();
        let view = self.lane.whole_view()?;
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let mut add = |labels: &Labels, exemplar: Exemplar| -> Result<(), StoreError> {
            budget.touch(1)?;
            budget.charge(exemplar.labels.bytes() + ITEM_BYTES)?;
            let own = found.entry(labels.clone()).or_default();
            if !own.iter().any(|known| same_exemplar(known, &exemplar)) {
                own.push(exemplar);
            }
            Ok(())
        };
        for part in overlapping(&view, range) {
            let sieve = sieves.of(Some(part.reader()));
            part.exemplars(matchers, range, budget, &mut |labels, exemplar| {
                let left_out = !sieve.is_open() && sieve.left_out(labels).iter().any(|own| own.contains(exemplar.t));
                if left_out { Ok(()) } else { add(labels, exemplar) }
            })?;
        }
        for head in heads(&view, range) {
            for series in head.matching(matchers, budget)? {
                let (own, labels) = (head.exemplars_of(series.id), series.labels());
                own.into_iter()
                    .filter(|exemplar| range.contains(exemplar.t))
                    .try_for_each(|exemplar| add(&labels, exemplar))?;
            }
        }
        found.values_mut().for_each(|own| own.sort_by_key(|exemplar| exemplar.t));
        Ok(found.into_iter().collect())
    }
}
