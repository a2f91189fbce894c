//! What remote write decodes to is taken by a head and can be read again.

use std::borrow::Cow;

use trilith::model::batch::MetricsBatch;
use trilith::store::metrics::Options;
use trilith::store::metrics::head::Head;
use trilith::wire::decompress::{Encoding, decompress};

/// The body, decompressed where it is snappy.
pub fn inflated(bytes: &[u8]) -> Cow<'_, [u8]> {
    decompress(Encoding::Snappy, bytes, 1 << 20).unwrap_or(Cow::Borrowed(bytes))
}

pub fn all(batch: &MetricsBatch) {
    for series in &batch.series {
        assert!(series.starts.is_empty() || series.starts.len() == series.samples.len(), "starts are of samples");
    }
    let head = Head::new(0, Options::default());
    let resolved = head.resolve(batch);
    let taken = head.apply(batch, resolved);
    assert!(taken.accepted + taken.rejected.count() >= batch.samples() as u64, "each sample is taken or refused");
}
