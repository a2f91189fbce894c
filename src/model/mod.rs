//! The nouns of telemetry. No I/O and no serde: JSON shapes belong to `wire` and `api`, bytes on
//! disk to the codecs of `store`.

pub mod batch;
pub mod exemplar;
pub mod histogram;
pub mod labels;
pub mod log;
pub mod matcher;
pub mod raw;
pub mod sample;
pub mod span;
pub mod time;
