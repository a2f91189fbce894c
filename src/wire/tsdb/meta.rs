//! What a block says of itself, and which of its samples were deleted.

use std::collections::HashMap;

use serde::Deserialize;

use super::bytes::{Bytes, checked, malformed};
use crate::wire::error::WireError;

/// Most bytes of meta.json or tombstones that are read.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

const TOMBSTONES_MAGIC: u32 = 0x0130_BA30;

/// meta.json.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Meta {
    /// Its name, also that of its folder.
    pub ulid: String,
    /// First time in it, inclusive.
    #[serde(rename = "minTime")]
    pub min_t: i64,
    /// First time after it.
    #[serde(rename = "maxTime")]
    pub max_t: i64,
    /// Version of the format.
    pub version: i64,
    /// Numbers.
    #[serde(default)]
    pub stats: Stats,
}

/// Numbers of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Samples of all kinds.
    #[serde(rename = "numSamples")]
    pub samples: u64,
    /// Series.
    #[serde(rename = "numSeries")]
    pub series: u64,
}

impl Meta {
    /// Reads meta.json.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let meta: Self = serde_json::from_slice(bytes).map_err(|error| malformed(format!("meta.json: {error}")))?;
        if meta.version != 1 {
            return Err(malformed(format!("meta.json has version {}; version 1 is read here", meta.version)));
        }
        Ok(meta)
    }
}

/// Times that were deleted, both inclusive, by the number of their series: its offset in the index, divided by 16.
pub type Tombstones = HashMap<u64, Vec<(i64, i64)>>;

/// Reads the file of tombstones.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn tombstones(bytes: &[u8]) -> Result<Tombstones, WireError> {
    let mut reader = Bytes(bytes);
    let (magic, [version]) = (reader.u32()?, reader.array()?);
    if magic != TOMBSTONES_MAGIC || version != 1 {
        return Err(malformed(format!("the tombstones begin with {magic:08x}, version {version}")));
    }
    let body = checked(reader.0, "the tombstones")?;
    let mut reader = Bytes(body);
    let mut all = Tombstones::new();
    while !reader.0.is_empty() {
        let (series, min_t, max_t) = (reader.uvarint()?, reader.varint()?, reader.varint()?);
        all.entry(series).or_default().push((min_t, max_t));
    }
    Ok(all)
}
