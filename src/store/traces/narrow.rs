//! The text index of a part of traces: which blocks may hold a span for which hints hold.

use roaring::RoaringBitmap;

use super::part::TracesPart;
use super::spanset::SpanSet;
use super::terms::{hint_terms, terms_of};
use crate::model::batch::Signal;
use crate::store::part::PartReader;
use crate::store::text::TextBuilder;
use crate::store::text::narrow::{BuildError, Indexed, PartText};
use crate::store::waist::SpanHint;

/// Parts of fewer spans are searched without an index.
pub(super) const SPANS_MIN: u64 = 20_000;

impl TracesPart {
    /// Blocks that may hold a span for which all hints hold; `None` when there is no index to say.
    pub(super) fn blocks_with(&self, hints: &[SpanHint]) -> Option<RoaringBitmap> {
        self.text.ask(|index| {
            let mut found = index.blocks().clone();
            for terms in hints.iter().filter_map(hint_terms) {
                let mut any = RoaringBitmap::new();
                for term in terms {
                    any |= index.blocks_with_term(&term)?;
                }
                found &= any;
            }
            Ok(found)
        })
    }
}

impl Indexed for TracesPart {
    const SIGNAL: Signal = Signal::Traces;

    fn reader(&self) -> &PartReader {
        self.reader()
    }

    fn text(&self) -> &PartText {
        &self.text
    }

    /// No other term begins with a NUL.
    fn seal(&self) -> String {
        let info = self.reader().info();
        format!("\0part {} {} {} {}", info.created_ms, info.rows, self.reader().bytes(), self.blocks().len())
    }

    fn add_to(&self, builder: &mut TextBuilder, stops: &dyn Fn() -> bool) -> Result<(), BuildError> {
        builder.add(0, [self.seal().as_str()])?;
        for number in 0..self.blocks().len() {
            if stops() {
                return Err(BuildError::Stopped);
            }
            // A block that cannot be read has no spans to find.
            let Some(raw) = self.block(number)? else { continue };
            if let Ok(set) = SpanSet::parse(&raw) {
                let terms = terms_of(&set);
                builder.add(number as u32, terms.iter().map(String::as_str))?;
            }
        }
        Ok(())
    }
}
