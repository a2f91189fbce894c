//! The samples behind a selector or a subquery, read series by series: nobody holds all of them.

use std::ops::Range;

use super::PromqlError;
use super::ast::Selector;
use super::counts;
use super::run::Eval;
use crate::base::limits::LimitError;
use crate::model::labels::Labels;
use crate::model::sample::{Columns, is_stale};
use crate::model::time::RangeMs;
use crate::store::series_set::InMemory;
use crate::store::{SeriesSet, StoreError};

/// One series of a subquery.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Its labels.
    pub labels: Labels,
    /// Whether the name goes at the end of the query.
    pub drop_name: bool,
    /// Its samples, without stale markers.
    pub columns: Columns,
}

/// Series and their samples.
pub(super) enum Samples {
    /// In the store, sorted by labels.
    Stored(Box<dyn SeriesSet>),
    /// What a subquery gave.
    Held(Vec<Held>),
}

/// What is done with the samples of the series at a place.
type Visit<'v> = dyn FnMut(&mut Eval<'_>, usize, &mut Columns) -> Result<(), PromqlError> + 'v;

impl Samples {
    /// The series of the store that match.
    ///
    /// # Errors
    /// What the store or the budget says.
    pub(super) fn select(eval: &Eval<'_>, selector: &Selector, range: RangeMs) -> Result<Self, PromqlError> {
        if range.start > range.end {
            return Ok(Self::Stored(Box::new(InMemory::new(Vec::new(), range))));
        }
        let set = counts::select(eval.store, selector, range, eval.lookback, eval.budget)?;
        let found = set.labels().len();
        if found as u64 > eval.series_max {
            return Err(LimitError::QuerySeries { found, limit: eval.series_max }.into());
        }
        Ok(Self::Stored(set))
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Stored(set) => set.labels().len(),
            Self::Held(all) => all.len(),
        }
    }

    /// The labels of the series at a place, and whether its name goes at the end of the query.
    pub(super) fn series(&self, place: usize) -> Option<(&Labels, bool)> {
        match self {
            Self::Stored(set) => set.labels().get(place).map(|labels| (labels, false)),
            Self::Held(all) => all.get(place).map(|held| (&held.labels, held.drop_name)),
        }
    }

    /// Reads the series at `places`, in order. Whoever changes columns does so for nobody else.
    ///
    /// # Errors
    /// What the store, the budget or `visit` says.
    pub(super) fn read(
        &self,
        eval: &mut Eval<'_>,
        places: Range<usize>,
        visit: &mut Visit<'_>,
    ) -> Result<(), PromqlError> {
        match self {
            Self::Stored(set) => {
                let (budget, mut failed) = (eval.budget, None);
                let read = set.read(places, budget, &mut |place, columns| {
                    eval.samples += columns.len() as u64;
                    visit(eval, place, columns).map_err(|error| {
                        failed = Some(error);
                        // Only ends the reading: what is told is what failed.
                        StoreError::Limit(LimitError::Canceled)
                    })
                });
                match failed {
                    Some(error) => Err(error),
                    None => Ok(read?),
                }
            }
            Self::Held(all) => {
                // Whoever looks at a series gets a copy, which lasts as long.
                let copy = crate::query::pace::Held::new(eval.budget);
                for place in places {
                    let Some(held) = all.get(place) else { continue };
                    let Columns { values, histograms, .. } = &held.columns;
                    let bytes = size_of_val(values.as_slice()) + size_of_val(histograms.as_slice());
                    if bytes > copy.bytes() {
                        copy.add(bytes - copy.bytes())?;
                    }
                    eval.spend(10 + held.columns.len())?;
                    visit(eval, place, &mut held.columns.clone())?;
                }
                Ok(())
            }
        }
    }
}

/// Leaves stale markers out.
pub(super) fn drop_stale(columns: &mut Columns) {
    // Without an early end the loop is one over vectors.
    if columns.values.iter().fold(false, |any, value| any | is_stale(*value)) {
        let keep: Vec<bool> = columns.values.iter().map(|value| !is_stale(*value)).collect();
        let kept = columns.times.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(t, _)| *t);
        columns.times = kept.collect();
        let mut alive = keep.iter().copied();
        columns.values.retain(|_| alive.next().unwrap_or_default());
        let mut alive = keep.iter().copied();
        columns.starts.retain(|_| alive.next().unwrap_or_default());
    }
    if !columns.histograms.is_empty() {
        columns.histograms.retain(|sample| !is_stale(sample.histogram.sum));
    }
}
