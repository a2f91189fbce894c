//! The numbers in a span set that encoding and decoding agree on, and what is wrong with one.

use crate::base::limits::LimitError;
use crate::store::codec::Malformed;

/// First byte of every span set.
pub(super) const VERSION: u8 = 1;
/// Who an attribute column belongs to; numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::store::traces) enum Owner {
    /// Spans.
    Span = 0,
    /// Events of spans.
    Event = 1,
    /// Links of spans.
    Link = 2,
}

impl Owner {
    pub(super) fn from_number(number: u8) -> Result<Self, Malformed> {
        match number {
            0 => Ok(Self::Span),
            1 => Ok(Self::Event),
            2 => Ok(Self::Link),
            _ => Err(Malformed("unknown owner of a column")),
        }
    }
}

/// Type of an attribute's value; numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::store::traces) enum Type {
    /// No value.
    Empty = 0,
    /// Text.
    Str = 1,
    /// Integer.
    Int = 2,
    /// Double.
    Double = 3,
    /// Truth.
    Bool = 4,
    /// Bytes.
    Bytes = 5,
    /// List.
    Array = 6,
    /// Map.
    Map = 7,
}

impl Type {
    const ALL: [Self; 8] =
        [Self::Empty, Self::Str, Self::Int, Self::Double, Self::Bool, Self::Bytes, Self::Array, Self::Map];

    pub(super) fn from_number(number: u8) -> Result<Self, Malformed> {
        Self::ALL.get(usize::from(number)).copied().ok_or(Malformed("unknown type of a value"))
    }
}

/// Which fields beyond the usual a span has; one bit each in the column of extras.
pub(super) mod extra {
    pub(in crate::store::traces::spanset) const TRACE_STATE: u8 = 1;
    pub(in crate::store::traces::spanset) const FLAGS: u8 = 2;
    pub(in crate::store::traces::spanset) const STATUS_MESSAGE: u8 = 4;
    pub(in crate::store::traces::spanset) const DROPPED: u8 = 8;
    pub(in crate::store::traces::spanset) const EVENTS: u8 = 16;
    pub(in crate::store::traces::spanset) const LINKS: u8 = 32;
}

/// Places of the fixed columns, in the order they are written.
pub(super) mod column {
    pub(in crate::store::traces::spanset) const IDS: usize = 0;
    pub(in crate::store::traces::spanset) const PARENTS: usize = 1;
    pub(in crate::store::traces::spanset) const PARENT_IDS: usize = 2;
    pub(in crate::store::traces::spanset) const STARTS: usize = 3;
    pub(in crate::store::traces::spanset) const DURATIONS: usize = 4;
    pub(in crate::store::traces::spanset) const KINDS: usize = 5;
    pub(in crate::store::traces::spanset) const EXTRAS: usize = 6;
    pub(in crate::store::traces::spanset) const RARE: usize = 7;
    pub(in crate::store::traces::spanset) const RESOURCES: usize = 8;
    pub(in crate::store::traces::spanset) const SCOPES: usize = 9;
    pub(in crate::store::traces::spanset) const SHAPES: usize = 10;
    pub(in crate::store::traces::spanset) const EVENTS: usize = 11;
    pub(in crate::store::traces::spanset) const LINKS: usize = 12;
    pub(in crate::store::traces::spanset) const COUNT: usize = 13;
}

/// Why spans could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::store::traces) enum DecodeError {
    /// The bytes are not what an encoder wrote.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The query's budget is used up.
    #[error(transparent)]
    Limit(#[from] LimitError),
}
