//! What the dialects of traces share, Tempo's and Jaeger's: their error, parameters, and how a query runs.

pub(super) mod error;
pub(super) mod json;
pub(super) mod params;
pub(super) mod run;
