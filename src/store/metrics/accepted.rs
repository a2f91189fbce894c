//! What a head accepts of a request, in columns: the form in which samples go to the log, and from
//! there or from the log to their series.

use std::sync::Arc;

use super::registry::Registry;
use crate::model::batch::{MetricMetadata, Rejections};
use crate::model::exemplar::Exemplar;
use crate::model::sample::HistogramSample;

/// In place of a series: refused, or not known.
pub const NO_SERIES: u32 = u32::MAX;

/// What was accepted.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// The series of each float sample.
    pub ids: Vec<u32>,
    /// Milliseconds since the Unix epoch.
    pub times: Vec<i64>,
    /// The floats.
    pub values: Vec<f64>,
    /// When counting began for each, 0 where not known; empty when known of none.
    pub starts: Vec<i64>,
    /// Histograms by series.
    pub histograms: Vec<(u32, Vec<HistogramSample>)>,
    /// Exemplars by series.
    pub exemplars: Vec<(u32, Vec<Exemplar>)>,
    /// Metadata that the head does not have yet.
    pub metadata: Vec<MetricMetadata>,
}

/// What was accepted, and of which series.
pub struct Accepted {
    /// Whose numbers the series are called by.
    pub registry: Arc<Registry>,
    /// What was accepted.
    pub columns: Columns,
    /// What was refused.
    pub rejected: Rejections,
}

impl Columns {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        let Self { ids, histograms, exemplars, metadata, .. } = self;
        ids.is_empty() && histograms.is_empty() && exemplars.is_empty() && metadata.is_empty()
    }

    /// All series; one that comes several times in a row at least once.
    pub fn series(&self) -> impl Iterator<Item = u32> {
        let mut last = NO_SERIES;
        let floats = self.ids.iter().copied().filter(move |id| std::mem::replace(&mut last, *id) != *id);
        let histograms = self.histograms.iter().map(|own| own.0);
        floats.chain(histograms).chain(self.exemplars.iter().map(|own| own.0))
    }

    /// Calls the series by the numbers that `to` gives; what has none is left out.
    pub fn renumber(&mut self, to: impl Fn(u32) -> u32) {
        self.ids.iter_mut().for_each(|id| *id = to(*id));
        self.histograms.iter_mut().for_each(|own| own.0 = to(own.0));
        self.exemplars.iter_mut().for_each(|own| own.0 = to(own.0));
        self.drop_unknown();
    }

    /// Leaves out what belongs to no series.
    pub fn drop_unknown(&mut self) {
        self.histograms.retain(|own| own.0 != NO_SERIES);
        self.exemplars.retain(|own| own.0 != NO_SERIES);
        if !self.ids.contains(&NO_SERIES) {
            return;
        }
        keep(&mut self.times, &self.ids);
        keep(&mut self.values, &self.ids);
        keep(&mut self.starts, &self.ids);
        self.ids.retain(|id| *id != NO_SERIES);
    }
}

fn keep<T>(column: &mut Vec<T>, ids: &[u32]) {
    let mut ids = ids.iter();
    column.retain(|_| ids.next() != Some(&NO_SERIES));
}
