//! What decoders give back.

use crate::model::batch::Rejections;

/// What a decoder made of one body: the good items, and the refused ones counted.
#[derive(Clone, Debug, Default)]
pub struct Decoded<B> {
    /// The good items.
    pub batch: B,
    /// The refused ones.
    pub rejected: Rejections,
}
