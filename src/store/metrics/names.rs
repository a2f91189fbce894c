//! Who the series of several sources are, merged: each label set once, in order, with all series
//! that have it. Of a part one frame of label sets is in memory at a time.
//! Flow: [`merge`] looks at the next set of each source, hands out the smallest, and moves on those
//! that have it. Mostly all sources have the same, so comparing is mostly comparing bytes.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::keys::Keys;
use super::segment::Part;
use crate::base::limits::QueryBudget;
use crate::model::labels::{Labels, compare_keys};
use crate::store::error::StoreError;

/// Series between two looks at the deadline.
const SERIES_PER_CHECK: usize = 4096;

/// Label sets of a part, in order.
pub struct PartNames {
    part: Arc<Part>,
    wanted: Option<RoaringBitmap>,
    /// Place of the next frame.
    next: usize,
    frame: Keys,
    at: usize,
}

impl PartNames {
    /// The series of these numbers, or all.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn new(part: Arc<Part>, wanted: Option<RoaringBitmap>) -> Result<Self, StoreError> {
        let mut names = Self { part, wanted, next: 0, frame: Keys::default(), at: 0 };
        names.enter()?;
        Ok(names)
    }

    /// Goes on to the next frame that has a series.
    fn enter(&mut self) -> Result<(), StoreError> {
        while self.at >= self.frame.len() {
            self.frame.clear();
            self.at = 0;
            if !self.part.keys_at(self.next, self.wanted.as_ref(), &mut self.frame)? {
                return Ok(());
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Key and number of the series; none behind the last.
    pub fn get(&self) -> Option<(&str, u32)> {
        self.frame.get(self.at)
    }

    /// Goes to the next series.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn advance(&mut self) -> Result<(), StoreError> {
        self.at += 1;
        if self.at >= self.frame.len() {
            self.enter()?;
        }
        Ok(())
    }
}

/// Label sets of a source, in order.
pub enum Names {
    /// Of a part.
    Part(PartNames),
    /// Of a head: sorted, with their numbers, and the place of the next one.
    Head(Vec<(Labels, u32)>, usize),
}

impl Names {
    fn get(&self) -> Option<(&str, u32)> {
        match self {
            Self::Part(names) => names.get(),
            Self::Head(all, at) => all.get(*at).map(|(labels, number)| (labels.key(), *number)),
        }
    }

    fn labels(&self) -> Option<Labels> {
        match self {
            Self::Part(names) => Labels::from_key(names.get()?.0),
            Self::Head(all, at) => all.get(*at).map(|(labels, _)| labels.clone()),
        }
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Part(names) => names.advance()?,
            Self::Head(_, at) => *at += 1,
        }
        Ok(())
    }
}

/// What is done with a label set and the series that have it, each as source and number.
pub type VisitNames<'a> = dyn FnMut(Labels, &[(u32, u32)]) -> Result<(), StoreError> + 'a;

/// Hands out each label set with the sources that have it, by place, and its number in each.
///
/// # Errors
/// [`StoreError::Limit`], [`StoreError::Io`], or what `visit` returns.
pub fn merge(mut sources: Vec<Names>, budget: &QueryBudget, visit: &mut VisitNames<'_>) -> Result<(), StoreError> {
    let (mut same, mut count) = (Vec::new(), 0usize);
    loop {
        same.clear();
        let mut least: Option<&str> = None;
        for (source, names) in sources.iter().enumerate() {
            let Some((key, number)) = names.get() else { continue };
            match least {
                Some(known) if known == key => {}
                Some(known) if compare_keys(known, key).is_lt() => continue,
                _ => {
                    least = Some(key);
                    same.clear();
                }
            }
            same.push((source as u32, number));
        }
        let Some(first) = same.first().and_then(|(source, _)| sources.get(*source as usize)) else { return Ok(()) };
        // What is no label set is damage that no checksum has found; there is no such series.
        if let Some(labels) = first.labels() {
            visit(labels, &same)?;
        }
        for (source, _) in &same {
            if let Some(names) = sources.get_mut(*source as usize) {
                names.advance()?;
            }
        }
        count += 1;
        if count.is_multiple_of(SERIES_PER_CHECK) {
            budget.check()?;
        }
    }
}
