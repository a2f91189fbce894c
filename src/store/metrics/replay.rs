//! Records of the log back to columns: what a number of a series or pair stood for in its segment.

use ahash::AHashMap;

use super::accepted::{Columns, NO_SERIES};
use super::head::Head;
use super::record;
use super::record_v2::{self, Record};
use crate::model::labels::LABEL_BYTES_MAX;
use crate::store::codec::Malformed;

const PAGE: usize = 1024;

/// Numbers to numbers. A page of them is made when one of it is noted, so that a wild number in a
/// damaged record costs little.
#[derive(Default)]
struct Numbers(Vec<Option<Box<[u32; PAGE]>>>);

impl Numbers {
    fn get(&self, number: u32) -> u32 {
        let page = self.0.get(number as usize / PAGE).and_then(Option::as_ref);
        page.and_then(|page| page.get(number as usize % PAGE)).copied().unwrap_or(NO_SERIES)
    }

    fn put(&mut self, number: u32, own: u32) {
        let page = number as usize / PAGE;
        if self.0.len() <= page {
            self.0.resize_with(page + 1, || None);
        }
        if let Some(page) = self.0.get_mut(page)
            && let Some(place) = page.get_or_insert_with(|| Box::new([NO_SERIES; PAGE])).get_mut(number as usize % PAGE)
        {
            *place = own;
        }
    }
}

/// What the numbers of a segment stand for.
#[derive(Default)]
pub(super) struct Replaying {
    segment: u64,
    /// Of version 1: it has no pairs, and its numbers are 64 bits wide.
    first: AHashMap<u64, u32>,
    series: Numbers,
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
