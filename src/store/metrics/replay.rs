//! Records of the log back to columns: what a number of a series or pair stood for in its segment.

use super::accepted::{Accepted, Columns, NO_SERIES};
use super::head::Head;
use super::record;
use super::record_v2::{self, Record};
use super::replaying::Replaying;
use crate::model::labels::LABEL_BYTES_MAX;
use crate::store::codec::Malformed;

impl Head {
    /// Takes a record of the log. Limits do not hold here: what is in the log was accepted.
    ///
    /// # Errors
    /// [`Malformed`] when the record, or the one with the labels of a series, is damaged; the
    /// rest of the record has been taken.
    pub fn replay(&self, bytes: &[u8], segment: u64) -> Result<(), Malformed> {
        let (columns, whole) = self.replaying.lock().read(self, bytes, segment)?;
        let (registry, rejected) = (self.registry().clone(), Default::default());
        self.apply(Accepted { registry, columns, rejected });
        if whole { Ok(()) } else { Err(Malformed("a series whose labels were in a damaged record")) }
    }

    /// Lets go of what only replay needs.
    pub fn end_replay(&self) {
        *self.replaying.lock() = Replaying::default();
    }
}

impl Replaying {
    /// Reads a record, and makes the series that it names; says whether it knows all that it has
    /// samples for.
    ///
    /// # Errors
    /// [`Malformed`]: nothing of it is taken.
    pub(super) fn read(&mut self, head: &Head, bytes: &[u8], segment: u64) -> Result<(Columns, bool), Malformed> {
        if self.segment != segment {
            *self = Self { segment, ..Self::default() };
        }
        if bytes.first() == Some(&record::VERSION) {
            return self.read_first(head, bytes);
        }
        let record = record_v2::take(bytes)?;
        self.define(head, &record)?;
        let mut columns = record.columns;
        let mut whole = columns.series().all(|id| self.series.get(id) != NO_SERIES);
        if columns.series().eq(columns.series().map(|id| self.series.get(id))) {
            return Ok((columns, whole));
        }
        columns.renumber(|id| self.series.get(id));
        whole &= !columns.ids.contains(&NO_SERIES);
        Ok((columns, whole))
    }

    fn define(&mut self, head: &Head, record: &Record<'_>) -> Result<(), Malformed> {
        if record.pairs.is_empty() && record.series.is_empty() {
            return Ok(());
        }
        let mut known = head.registry().write();
        let mut pairs = Vec::with_capacity(record.pairs.len());
        for (name, value) in &record.pairs {
            let fits = |text: &str| (1..=LABEL_BYTES_MAX).contains(&text.len());
            if !fits(name) || !fits(value) {
                return Err(Malformed("a pair that is none"));
            }
            pairs.push(known.intern_pair(name, value).ok_or(Malformed("more pairs than there is room for"))?);
        }
        let mut start = 0;
        for (number, end) in &record.series {
            let own = record.members.get(start..*end).unwrap_or_default();
            let own: Option<Vec<u32>> = own.iter().map(|place| pairs.get(*place as usize).copied()).collect();
            let own = own.filter(|own| known.are_sorted(own)).ok_or(Malformed("a series without its pairs"))?;
            start = *end;
            self.series.put(*number, head.make_of_pairs(&mut known, &own).unwrap_or(NO_SERIES));
        }
        Ok(())
    }

    fn read_first(&mut self, head: &Head, bytes: &[u8]) -> Result<(Columns, bool), Malformed> {
        let (mut columns, mut whole) = (Columns::default(), true);
        columns.metadata = record::decode(bytes, |entry| {
            if entry.has_labels
                && let Some(id) = head.make_unlimited(&mut head.registry().write(), &entry.batch.labels)
            {
                self.first.insert(entry.id, id);
            }
            let Some(id) = self.first.get(&entry.id) else {
                whole = false;
                return;
            };
            columns.ids.resize(columns.ids.len() + entry.batch.samples.len(), *id);
            columns.times.extend(entry.batch.samples.iter().map(|sample| sample.t));
            columns.values.extend(entry.batch.samples.iter().map(|sample| sample.value));
            if !entry.batch.histograms.is_empty() {
                columns.histograms.push((*id, entry.batch.histograms));
            }
            if !entry.batch.exemplars.is_empty() {
                columns.exemplars.push((*id, entry.batch.exemplars));
            }
        })?;
        Ok((columns, whole))
    }
}
