//! A series of a head: who it is, by its number in the registry, and its samples, in a page.
//! Locks: the page's, held while a run of its series takes samples or one is read.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::data::Data;
use super::registry::Registry;
use super::rows::Rows;
use crate::model::labels::Labels;
use crate::model::time::RangeMs;
use crate::store::codec::Malformed;

/// Series of a page, as many as a word has bits.
pub const PAGE_SERIES: u32 = 64;

/// The samples of series with neighbouring numbers.
pub struct Page(Mutex<Slots>);

/// What a page holds.
pub struct Slots {
    /// A bit for each series that has been given something.
    present: u64,
    data: Box<[Data]>,
}

impl Default for Page {
    fn default() -> Self {
        let data = (0..PAGE_SERIES).map(|_| Data::default()).collect();
        Self(Mutex::new(Slots { present: 0, data }))
    }
}

impl Page {
    /// Bytes of memory that an empty page takes.
    pub const BYTES: usize = PAGE_SERIES as usize * size_of::<Data>() + size_of::<Self>() + 32;

    /// The number of the page of a series.
    pub fn number(id: u32) -> usize {
        (id / PAGE_SERIES) as usize
    }

    /// Its series, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock()
    }
}

impl Slots {
    /// A bit for each series that has something.
    pub fn present(&self) -> u64 {
        self.present
    }

    /// The samples of the series, noted as present; says whether it was not before.
    #[inline]
    pub fn enter(&mut self, id: u32) -> Option<(&mut Data, bool)> {
        let bit = 1 << (id % PAGE_SERIES);
        let new = self.present & bit == 0;
        self.present |= bit;
        Some((self.data.get_mut((id % PAGE_SERIES) as usize)?, new))
    }

    fn data(&self, id: u32) -> Option<&Data> {
        self.data.get((id % PAGE_SERIES) as usize)
    }
}

/// A series as selects and flushes see it.
#[derive(Clone)]
pub struct Series {
    /// Its number in its registry; the log calls it so, too.
    pub id: u32,
    registry: Arc<Registry>,
    page: Arc<Page>,
}

impl Series {
    /// The series with this number, which is in `page`.
    pub fn new(id: u32, registry: Arc<Registry>, page: Arc<Page>) -> Self {
        Self { id, registry, page }
    }

    /// Who it is; made anew with each call.
    pub fn labels(&self) -> Labels {
        self.registry.labels(self.id)
    }

    /// Adds the samples in `range` to `rows`, in the order that makes the last one count.
    ///
    /// # Errors
    /// Never for what this process wrote.
    pub fn read(&self, range: RangeMs, rows: &mut Rows) -> Result<(), Malformed> {
        self.page.lock().data(self.id).map_or(Ok(()), |data| data.read(range, rows))
    }

    /// An upper bound of the samples in `range`.
    pub fn count(&self, range: RangeMs) -> usize {
        self.page.lock().data(self.id).map_or(0, |data| data.count(range))
    }

    /// Whether there may be samples in `range`.
    pub fn overlaps(&self, range: RangeMs) -> bool {
        self.count(range) > 0
    }
}
