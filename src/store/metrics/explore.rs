//! Counts series by label over heads and parts, each series once.
//! Flow: of each source a bitmap of the series that match; those that an earlier source has too are taken
//! out of it; then the pairs are gone through with how many of the rest have them. Parts are gone through
//! in order, side by side; a head is asked for each pair, and at last for those that no part has. In
//! memory are bitmaps, a frame of each part and the largest rows: nothing for each series or value.
//! Locks: a registry's, for one look-up or a few thousand pairs.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::MetricsStore;
use super::gone::gone;
use super::head::Head;
use super::names::{Names, PartNames, merge};
use super::pairs::PairCursor;
use super::segment::Part;
use super::select::{heads, overlapping};
use crate::base::limits::QueryBudget;
use crate::model::matcher::Matcher;
use crate::model::raw;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;
use crate::store::waist::{Cardinality, Counter};

/// Pairs of a registry that are counted under one lock.
const PAIRS_AT_ONCE: u32 = 4096;

/// Series of several sources; after [`Sources::once`] each is in one of them.
#[derive(Default)]
struct Sources {
    parts: Vec<(Arc<Part>, RoaringBitmap)>,
    heads: Vec<(Arc<Head>, RoaringBitmap)>,
}

impl MetricsStore {
    /// The series of the newest head by label, `rows` of each list.
    ///
    /// # Errors
    /// [`StoreError::Limit`].
    pub fn cardinality_now(&self, rows: usize, budget: &QueryBudget) -> Result<Cardinality, StoreError> {
        let Some(head) = self.lane.view().heads.pop() else { return Ok(Cardinality::default()) };
        let (span, numbers) = (head.span(), head.present());
        Sources { parts: Vec::new(), heads: vec![(head, numbers)] }.count(rows, span, budget)
    }

    /// The series that satisfy one of `selectors` and may have samples in `range`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn cardinality_of(
        &self,
        selectors: &[Vec<Matcher>],
        range: RangeMs,
        rows: usize,
        budget: &QueryBudget,
    ) -> Result<Cardinality, StoreError> {
        loop {
            let mut sources = self.sources(selectors, range, budget)?;
            let indexed = |sources: &Sources| sources.parts.iter().filter(|(part, _)| part.has_index()).count();
            let before = indexed(&sources);
            let counted = sources.once(budget).and_then(|()| sources.count(rows, None, budget));
            match counted {
                // What was damaged is left out the next time.
                Err(StoreError::Damaged { .. }) if indexed(&sources) < before => {}
                counted => return counted,
            }
        }
    }

    fn sources(&self, selectors: &[Vec<Matcher>], range: RangeMs, budget: &QueryBudget) -> Result<Sources, StoreError> {
        let sieves = self.sieves();
        let view = self.lane.whole_view()?;
        let mut sources = Sources::default();
        for part in overlapping(&view, range) {
            let mut numbers = RoaringBitmap::new();
            for selector in selectors {
                numbers |= part.matched(selector, range, budget)?;
            }
            let sieve = sieves.of(Some(part.reader()));
            if !sieve.is_open() {
                numbers -= gone(part, &sieve, range, budget)?;
            }
            sources.parts.push((part.clone(), numbers));
        }
        for head in heads(&view, range) {
            sources.heads.push((head.clone(), head.numbers(selectors, range, budget)?));
        }
        sources.leave_out_empty();
        Ok(sources)
    }
}

impl Sources {
    fn leave_out_empty(&mut self) {
        self.parts.retain(|(_, numbers)| !numbers.is_empty());
        self.heads.retain(|(_, numbers)| !numbers.is_empty());
    }

    /// Takes series out of all sources but the first that has them.
    fn once(&mut self, budget: &QueryBudget) -> Result<(), StoreError> {
        for at in 1..self.heads.len() {
            let Some((earlier, [(head, numbers), ..])) = self.heads.split_at_mut_checked(at) else { continue };
            for (other, theirs) in earlier {
                take_out(head, numbers, other, theirs, budget)?;
            }
        }
        if !self.parts.is_empty() && self.parts.len() + self.heads.len() > 1 {
            let names =
                self.parts.iter().map(|(part, own)| PartNames::new(part.clone(), Some(own.clone())).map(Names::Part));
            let names = names.collect::<Result<Vec<Names>, StoreError>>()?;
            let (parts, heads) = (&mut self.parts, &mut self.heads);
            let mut text = Vec::new();
            merge(names, budget, &mut |labels, series| {
                for (source, number) in series.iter().skip(1) {
                    if let Some((_, numbers)) = parts.get_mut(*source as usize) {
                        numbers.remove(*number);
                    }
                }
                if !heads.is_empty() {
                    text.clear();
                    raw::put_labels(&mut text, &labels);
                }
                for (head, numbers) in heads.iter_mut() {
                    if let Some(id) = head.registry().read().find(&text, u32::MAX) {
                        numbers.remove(id);
                    }
                }
                Ok(())
            })?;
        }
        self.leave_out_empty();
        Ok(())
    }

    fn count(&self, rows: usize, span: Option<RangeMs>, budget: &QueryBudget) -> Result<Cardinality, StoreError> {
        let mut counter = Counter::new(rows, budget);
        // The pairs of each head that are counted already.
        let mut seen = vec![RoaringBitmap::new(); self.heads.len()];
        let mut cursors = Vec::with_capacity(self.parts.len());
        for (part, numbers) in &self.parts {
            cursors.push(PairCursor::new(part, numbers, budget)?);
        }
        let (mut name, mut value) = (String::new(), String::new());
        while let Some((least, than, _)) = cursors.iter().filter_map(PairCursor::get).min() {
            name.replace_range(.., least);
            value.replace_range(.., than);
            let mut series = self.in_heads(0, &mut seen, &name, &value);
            for cursor in &mut cursors {
                if let Some((own, than, count)) = cursor.get()
                    && (own, than) == (name.as_str(), value.as_str())
                {
                    series += count;
                    cursor.advance()?;
                }
            }
            counter.add(&name, &value, series)?;
        }
        for at in 0..self.heads.len() {
            self.count_head(at, &mut seen, &mut counter, budget)?;
        }
        let heads = self.heads.iter().map(|(_, numbers)| numbers.len());
        let series = self.parts.iter().map(|(_, numbers)| numbers.len()).chain(heads).sum();
        counter.finish(series, span)
    }

    /// How many series of the heads from a place on have a pair, which is seen then.
    fn in_heads(&self, from: usize, seen: &mut [RoaringBitmap], name: &str, value: &str) -> u64 {
        let mut series = 0;
        for ((head, numbers), seen) in self.heads.iter().zip(seen).skip(from) {
            let known = head.registry().read();
            if let Some(pair) = known.find_pair(name, value) {
                seen.insert(pair);
                series += known.series_among(pair, numbers);
            }
        }
        series
    }

    /// Counts the pairs of a head that nobody before it has.
    fn count_head(
        &self,
        at: usize,
        seen: &mut [RoaringBitmap],
        counter: &mut Counter<'_>,
        budget: &QueryBudget,
    ) -> Result<(), StoreError> {
        let Some((head, numbers)) = self.heads.get(at) else { return Ok(()) };
        let own = std::mem::take(seen.get_mut(at).unwrap_or(&mut RoaringBitmap::new()));
        let is_last = at + 1 == self.heads.len();
        let mut from = 0;
        loop {
            budget.check()?;
            let mut others = Vec::new();
            {
                let known = head.registry().read();
                if from >= known.pair_count() {
                    return Ok(());
                }
                for pair in from..from.saturating_add(PAIRS_AT_ONCE).min(known.pair_count()) {
                    let series = known.series_among(pair, numbers);
                    if series == 0 || own.contains(pair) {
                        continue;
                    }
                    let (name, value) = known.pair(pair);
                    if is_last {
                        counter.add(name, value, series)?;
                    } else {
                        others.push((name.to_owned(), value.to_owned(), series));
                    }
                }
            }
            for (name, value, series) in others {
                let series = series + self.in_heads(at + 1, seen, &name, &value);
                counter.add(&name, &value, series)?;
            }
            from = from.saturating_add(PAIRS_AT_ONCE);
        }
    }
}

/// Takes out of `numbers` the series that are among `theirs` in another head.
fn take_out(
    head: &Head,
    numbers: &mut RoaringBitmap,
    other: &Head,
    theirs: &RoaringBitmap,
    budget: &QueryBudget,
) -> Result<(), StoreError> {
    if Arc::ptr_eq(head.registry(), other.registry()) {
        *numbers -= theirs;
        return Ok(());
    }
    let mut text = Vec::new();
    for (at, id) in theirs.iter().enumerate() {
        if at % PAIRS_AT_ONCE as usize == 0 {
            budget.check()?;
        }
        text.clear();
        raw::put_labels(&mut text, &other.registry().labels(id));
        if let Some(own) = head.registry().read().find(&text, u32::MAX) {
            numbers.remove(own);
        }
    }
    Ok(())
}
