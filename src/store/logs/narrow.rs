//! The text index of a part of logs: which packs may hold a literal.

use roaring::RoaringBitmap;

use super::cache::FrameCache;
use super::part::LogsPart;
use crate::base::memory::MemoryBudget;
use crate::model::batch::Signal;
use crate::store::error::StoreError;
use crate::store::part::PartReader;
use crate::store::text::TextBuilder;
use crate::store::text::narrow::{BuildError, Indexed, PartText};

/// Frames kept while an index is built, in bytes.
const CACHE_BYTES: usize = 8 << 20;

impl LogsPart {
    /// The numbers of packs that cannot hold all of `literals`; `None` when there is no index to say.
    pub(super) fn packs_without(&self, literals: &[String]) -> Option<RoaringBitmap> {
        if literals.is_empty() {
            return None;
        }
        self.text.ask(|index| {
            let mut found = index.blocks().clone();
            for literal in literals {
                found &= index.blocks_with_substring_words(literal)?;
            }
            Ok(index.blocks() - found)
        })
    }
}

impl Indexed for LogsPart {
    const SIGNAL: Signal = Signal::Logs;

    fn reader(&self) -> &PartReader {
        self.reader()
    }

    fn text(&self) -> &PartText {
        &self.text
    }

    /// Words of lines are no terms, so that no line has it.
    fn seal(&self) -> String {
        let info = self.reader().info();
        format!("part {} {} {} {}", info.created_ms, info.rows, self.reader().bytes(), self.packs.len())
    }

    fn add_to(&self, builder: &mut TextBuilder, stops: &dyn Fn() -> bool) -> Result<(), BuildError> {
        if let Some(pack) = self.packs.first() {
            builder.add(pack.number, [self.seal().as_str()])?;
        }
        let cache = FrameCache::new(CACHE_BYTES, &MemoryBudget::new(u64::MAX));
        for runs in self.runs.chunk_by(|a, b| a.pack == b.pack) {
            if stops() {
                return Err(BuildError::Stopped);
            }
            let pack = runs.first().and_then(|run| self.packs.get(run.pack as usize));
            let Some(number) = pack.map(|pack| pack.number) else { continue };
            let mut rows = Vec::new();
            for run in runs {
                match self.read(run, true, false, &cache) {
                    Ok(read) => rows.push(read),
                    // Nobody can read it, so nothing is lost when it is left out.
                    Err(StoreError::Damaged { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            builder.add_texts(number, rows.iter().flat_map(|rows| rows.lines()))?;
        }
        Ok(())
    }
}
