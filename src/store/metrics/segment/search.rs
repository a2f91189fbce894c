//! The series of a part by their labels.

use roaring::RoaringBitmap;

use super::part::Part;
use super::postings::PartPostings;
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::matcher::{Matcher, all_match};
use crate::model::time::RangeMs;
use crate::store::codec::Malformed;
use crate::store::error::StoreError;
use crate::store::metrics::keys::Keys;
use crate::store::metrics::layout::GroupRef;
use crate::store::metrics::postings::{Ids, Postings, matched};

impl Part {
    /// The series that satisfy `matchers` and may have samples in `range`.
    ///
    /// # Errors
    /// [`StoreError::Limit`], [`StoreError::Io`].
    pub fn matched(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<RoaringBitmap, StoreError> {
        let mut found = self.matched_ever(matchers, budget)?;
        self.keep_present(range, &mut found)?;
        Ok(found)
    }

    /// The series that satisfy `matchers`.
    ///
    /// # Errors
    /// [`StoreError::Limit`], [`StoreError::Io`].
    pub fn matched_ever(&self, matchers: &[Matcher], budget: &QueryBudget) -> Result<RoaringBitmap, StoreError> {
        if let Some(postings) = self.postings(budget)
            && let Some(found) = self.trusted(matched(&postings, matchers, budget))?
        {
            return Ok(found);
        }
        let mut found = RoaringBitmap::new();
        self.walk_labels(None, budget, &mut |number, labels| {
            if all_match(matchers, &labels) {
                found.insert(number);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Of the series keeps those that have a block in a group of the range.
    fn keep_present(&self, range: RangeMs, found: &mut RoaringBitmap) -> Result<(), StoreError> {
        let overlaps = |group: &&GroupRef| range.overlaps(group.span.0, group.span.1);
        if found.is_empty() || self.directory.groups.iter().all(|group| overlaps(&group)) {
            return Ok(());
        }
        let mut present = RoaringBitmap::new();
        for group in self.directory.groups.iter().filter(overlaps) {
            let Some(offset) = group.presence else { return Ok(()) };
            let added = self.payload(offset).and_then(|runs| {
                Ids::Runs(&runs).add_to(&mut present).map_err(|Malformed(what)| self.reader.damaged(what))
            });
            if let Err(error) = added {
                return self.lose(offset, error);
            }
        }
        *found &= present;
        Ok(())
    }

    /// Adds the label sets of the series of `wanted`, or of all, that lie in the frame at a place of
    /// the directory; says no behind the last frame.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn keys_at(&self, place: usize, wanted: Option<&RoaringBitmap>, keys: &mut Keys) -> Result<bool, StoreError> {
        let series = &self.directory.series;
        let Some(own) = series.get(place) else { return Ok(false) };
        let next = series.get(place + 1).map_or(u32::MAX, |next| next.first);
        let mut wanted = wanted.map(|wanted| wanted.range(own.first..next).peekable());
        if wanted.as_mut().is_none_or(|wanted| wanted.peek().is_some())
            && let Some(frame) = self.series_frame(own.offset)?
        {
            let walked = frame.walk(
                |number| wanted.as_mut().is_none_or(|wanted| wanted.next_if_eq(&number).is_some()),
                |number, key| {
                    keys.push(number, key);
                    Ok::<_, Malformed>(true)
                },
            );
            if let Err(Malformed(what)) = walked {
                self.lose_frame(own.offset, what);
            }
        }
        Ok(true)
    }

    /// The label sets of the frame at a place of the directory, with the number of the first; none
    /// behind the last frame, an empty list when the frame is damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn labels_at(&self, place: usize) -> Result<Option<(u32, Vec<Labels>)>, StoreError> {
        let Some(first) = self.directory().series.get(place).map(|series| series.first) else { return Ok(None) };
        let mut keys = Keys::default();
        self.keys_at(place, None, &mut keys)?;
        Ok(Some((first, keys.iter().filter_map(|(key, _)| Labels::from_key(key)).collect())))
    }

    /// Hands out the label sets of series, or of all, in order.
    pub(in crate::store::metrics) fn walk_labels(
        &self,
        numbers: Option<&RoaringBitmap>,
        budget: &QueryBudget,
        visit: &mut dyn FnMut(u32, Labels) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (mut keys, mut place) = (Keys::default(), 0);
        while self.keys_at(place, numbers, &mut keys)? {
            budget.check()?;
            for (key, number) in keys.iter() {
                if let Some(labels) = Labels::from_key(key) {
                    visit(number, labels)?;
                }
            }
            keys.clear();
            place += 1;
        }
        Ok(())
    }

    fn postings<'a, 'b>(&'a self, budget: &'b QueryBudget) -> Option<PartPostings<'a, 'b>> {
        self.has_index().then_some(PartPostings { part: self, budget })
    }

    /// What the index said; none when it turned out to be damaged.
    fn trusted<T>(&self, answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_damage() => {
                self.lose_index(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Hands out label pairs, of one name or of all, that the series `among`, or all, have; some more
    /// than once.
    ///
    /// # Errors
    /// [`StoreError::Limit`], [`StoreError::Io`], or what `visit` returns.
    pub fn pairs(
        &self,
        name: Option<&str>,
        among: Option<&RoaringBitmap>,
        budget: &QueryBudget,
        visit: &mut dyn FnMut(&str, &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Some(postings) = self.postings(budget) {
            let answer = postings.visit(name, "", &mut |name, value, ids| {
                let hit = among.map_or(Ok(true), |among| ids.touch(among));
                if hit.map_err(|Malformed(what)| self.reader.damaged(what))? {
                    visit(name, value)?;
                }
                Ok(())
            });
            if self.trusted(answer)?.is_some() {
                return Ok(());
            }
        }
        self.walk_labels(among, budget, &mut |_, labels| {
            for (own, value) in &labels {
                if name.is_none_or(|name| name == own) {
                    visit(own, value)?;
                }
            }
            Ok(())
        })
    }
}
