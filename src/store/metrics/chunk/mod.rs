//! Samples as bytes, one codec a file. Values are kept bit for bit, times are any `i64`, and no
//! bytes make a decoder panic or allocate more than a small multiple of their length.

pub mod floats;
pub mod gorilla;
pub mod histogram;
pub mod histograms;
pub mod pack;
