//! What the numbers of a segment of the log stand for, while it is replayed.

use ahash::AHashMap;

use super::accepted::NO_SERIES;

const PAGE: usize = 1024;

/// Numbers to numbers. A page of them is made when one of it is noted, so that a wild number in a
/// damaged record costs little.
#[derive(Default)]
pub(super) struct Numbers(Vec<Option<Box<[u32; PAGE]>>>);

impl Numbers {
    pub(super) fn get(&self, number: u32) -> u32 {
        let page = self.0.get(number as usize / PAGE).and_then(Option::as_ref);
        page.and_then(|page| page.get(number as usize % PAGE)).copied().unwrap_or(NO_SERIES)
    }

    pub(super) fn put(&mut self, number: u32, own: u32) {
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
    pub(super) segment: u64,
    /// Of version 1: it has no pairs, and its numbers are 64 bits wide.
    pub(super) first: AHashMap<u64, u32>,
    pub(super) series: Numbers,
}
