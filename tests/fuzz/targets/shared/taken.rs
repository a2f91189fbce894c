//! What remote write decodes to is taken by a head, whether its labels are read at once or only
//! where a series is new.

use std::borrow::Cow;
use std::sync::Arc;

use trilith::model::batch::{Appended, MetricsBatch};
use trilith::model::raw::RawMetrics;
use trilith::store::metrics::Options;
use trilith::store::metrics::head::Head;
use trilith::store::metrics::record_v2;
use trilith::store::metrics::registry::Registry;
use trilith::wire::decompress::{Encoding, decompress};
use trilith::wire::limits::DEFAULT;
use trilith::wire::prometheus::parse_labels;

/// The body, decompressed where it is snappy.
pub fn inflated(bytes: &[u8]) -> Cow<'_, [u8]> {
    decompress(Encoding::Snappy, bytes, 1 << 20).unwrap_or(Cow::Borrowed(bytes))
}

fn head() -> Head {
    Head::new(Registry::new(), Options::default())
}

/// A head takes a batch.
pub fn all(batch: &MetricsBatch) -> Appended {
    for series in &batch.series {
        assert!(series.starts.is_empty() || series.starts.len() == series.samples.len(), "starts are of samples");
    }
    let head = head();
    let taken = head.apply(head.resolve(batch));
    assert!(taken.accepted + taken.rejected.count() >= batch.samples() as u64, "each sample is taken or refused");
    taken
}

/// A head takes the same twice, the second time as series that it knows, and writes it down.
pub fn raw(raw: &RawMetrics<'_>) {
    let parse = |labels: &[u8]| parse_labels(labels, &DEFAULT);
    let head = head();
    let accepted = head.resolve_raw(raw.clone(), &parse);
    let mut out = Vec::new();
    record_v2::put_columns(&mut out, &accepted.columns);
    let first = head.apply(accepted);
    let second = head.apply(head.resolve_raw(raw.clone(), &parse));
    assert_eq!(first.accepted, second.accepted, "a known series takes what a new one took");
    assert!(Arc::strong_count(head.registry()) >= 1);
}
