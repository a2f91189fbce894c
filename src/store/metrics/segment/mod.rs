//! A part of metrics, open for reading: frames of label sets, of times and of values, postings, and a
//! directory that says what lies in which frame.
//! Flow: [`Part::matched`] finds the series of matchers in the postings, [`Part::keys_at`] tells
//! who they are, `read::PartScan` reads their samples. Only the directory stays in memory; frames read
//! lately are in the store's [`FrameCache`](super::cache::FrameCache).
//! Invariants: the directory can be rebuilt from the frames, and postings from the label sets; so
//! when they are damaged, the frames are searched instead. Any other damaged frame costs what it
//! holds. Damage is logged and counted once for each frame. A read that fails is not damage: whoever
//! wanted the frame gets the error, and the next one may read it.
//! Bytes: docs/format/metrics.md.

mod exemplars;
mod part;
mod postings;
mod search;

pub use part::{Halt, Part};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::Reader;
    use proptest::prelude::*;
    use roaring::RoaringBitmap;

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoders(bytes: Vec<u8>) {
            let _ = postings::visit_pairs(&bytes, |_, _, ids| ids.add_to(&mut RoaringBitmap::new()).map(|()| true));
            let _ = exemplars::take_exemplars(&mut Reader::new(&bytes));
        }
    }
}
