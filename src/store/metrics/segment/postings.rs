//! The postings of a part: frames of label pairs, each with the series that have it.

use roaring::RoaringBitmap;

use super::part::Part;
use crate::base::limits::QueryBudget;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::StoreError;
use crate::store::metrics::layout::key;
use crate::store::metrics::postings::{Ids, Postings, Visit};

/// Label pairs and who has them, read from frames.
pub(super) struct PartPostings<'a, 'b> {
    pub(super) part: &'a Part,
    pub(super) budget: &'b QueryBudget,
}

impl PartPostings<'_, '_> {
    /// Reads the frames that can hold pairs `from..=to`, as keys.
    fn frames(
        &self,
        from: (&str, &[u8]),
        to: Option<(&str, &[u8])>,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), Malformed>,
    ) -> Result<(), StoreError> {
        let refs = &self.part.directory.postings;
        for (at, own) in refs.iter().enumerate() {
            let begins_after = to.is_some_and(|to| (own.name.as_str(), own.value.as_slice()) > to);
            let ends_before = refs.get(at + 1).is_some_and(|next| (next.name.as_str(), next.value.as_slice()) < from);
            if begins_after || ends_before {
                continue;
            }
            self.budget.check()?;
            let payload = self.part.payload(own.offset)?;
            visit(&payload).map_err(|Malformed(what)| self.part.reader.damaged(what))?;
        }
        Ok(())
    }
}

/// Hands out the pairs of a postings frame until `visit` says no.
pub(super) fn visit_pairs(
    payload: &[u8],
    mut visit: impl FnMut(&str, &str, Ids<'_>) -> Result<bool, Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        let name = reader.str()?;
        for _ in 0..reader.count(payload.len())? {
            let (value, runs) = (reader.str()?, reader.bytes()?);
            if !visit(name, value, Ids::Runs(runs))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Postings for PartPostings<'_, '_> {
    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.part.directory.count);
        all
    }

    fn add(&self, name: &str, value: &str, set: &mut RoaringBitmap) -> Result<(), StoreError> {
        let wanted = (name, key(value));
        self.frames(wanted, Some(wanted), &mut |payload| {
            visit_pairs(payload, |own_name, own_value, ids| {
                if (own_name, own_value) == (name, value) {
                    ids.add_to(set)?;
                }
                Ok((own_name, own_value) < (name, value))
            })
        })
    }

    fn visit(&self, name: Option<&str>, prefix: &str, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut failure = None;
        // No value with the prefix is larger than this one.
        let mut last = key(prefix).to_vec();
        last.resize(last.len() + 65, 0xFF);
        let from = (name.unwrap_or_default(), key(prefix));
        self.frames(from, name.map(|name| (name, last.as_slice())), &mut |payload| {
            visit_pairs(payload, |own_name, value, ids| {
                if failure.is_none() && name.is_none_or(|name| name == own_name) && value.starts_with(prefix) {
                    failure = visit(own_name, value, ids).err();
                }
                Ok(failure.is_none() && name.is_none_or(|name| own_name <= name))
            })
        })?;
        failure.map_or(Ok(()), Err)
    }
}
