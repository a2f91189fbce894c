//! Exemplars and metadata of a part: frames that are read from one end to the other.

use super::part::{Halt, Part};
use crate::base::limits::QueryBudget;
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::{Matcher, all_match};
use crate::model::time::RangeMs;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::StoreError;
use crate::store::metrics::layout::{FRAME_EXEMPLARS, FRAME_METADATA};
use crate::store::metrics::record::{take_exemplar, take_labels, take_metadata};

impl Part {
    /// The payloads of all frames of a kind that are whole, one after the other.
    fn each_frame(
        &self,
        kind: u8,
        budget: &QueryBudget,
        work: &mut dyn FnMut(&mut Reader<'_>) -> Result<(), Halt>,
    ) -> Result<(), StoreError> {
        for frame in self.reader.frames().iter().filter(|frame| frame.kind == kind) {
            budget.check()?;
            let bytes = frame.raw as usize + frame.stored as usize;
            budget.charge(bytes)?;
            match self.reader.read(*frame) {
                Ok(payload) => {
                    let mut reader = Reader::new(&payload);
                    while !reader.is_empty() {
                        match work(&mut reader) {
                            Ok(()) => {}
                            Err(Halt::Store(error)) => return Err(error),
                            Err(Halt::Malformed(Malformed(what))) => {
                                self.lose_frame(frame.offset, what);
                                break;
                            }
                        }
                    }
                }
                Err(error) => self.lose(frame.offset, error)?,
            }
            budget.release(bytes);
        }
        Ok(())
    }

    /// Hands out exemplars of matching series in `range`.
    ///
    /// # Errors
    /// [`StoreError::Limit`], [`StoreError::Io`].
    pub fn exemplars(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
        visit: &mut dyn FnMut(&Labels, Exemplar) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each_frame(FRAME_EXEMPLARS, budget, &mut |reader| {
            let (labels, exemplars) = take_exemplars(reader)?;
            if all_match(matchers, &labels) {
                for exemplar in exemplars.into_iter().filter(|exemplar| range.contains(exemplar.t)) {
                    visit(&labels, exemplar)?;
                }
            }
            Ok(())
        })
    }

    /// The metadata in it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn metadata(&self) -> Result<Vec<MetricMetadata>, StoreError> {
        let mut all = Vec::new();
        self.each_frame(FRAME_METADATA, &QueryBudget::unlimited(), &mut |reader| {
            all.push(take_metadata(reader)?);
            Ok(())
        })?;
        Ok(all)
    }
}

pub(super) fn take_exemplars(reader: &mut Reader<'_>) -> Result<(Labels, Vec<Exemplar>), Malformed> {
    let labels = take_labels(reader)?;
    let mut exemplars = Vec::new();
    for _ in 0..reader.count(reader.rest().len())? {
        exemplars.push(take_exemplar(reader)?);
    }
    Ok((labels, exemplars))
}
