//! One body as a request of each signal.

use trilith::model::span::AttrValue;
use trilith::wire::limits::DEFAULT;
use trilith::wire::otlp::{Format, decode_logs, decode_metrics, decode_traces};

fn depth(value: &AttrValue) -> usize {
    match value {
        AttrValue::Array(list) => 1 + list.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Decodes `bytes` three times, and looks whether what comes out is within its limits.
pub fn all(bytes: &[u8], format: Format) {
    if let Ok(decoded) = decode_traces(bytes, format, &DEFAULT) {
        for span in &decoded.batch.spans {
            assert!(span.attrs.len() <= DEFAULT.attributes_max, "attributes of a span");
            assert!(span.attrs.iter().all(|(_, value)| depth(value) <= DEFAULT.depth_max), "depth of an attribute");
        }
    }
    if let Ok(decoded) = decode_logs(bytes, format, &DEFAULT) {
        for stream in &decoded.batch.streams {
            assert!(!stream.entries.is_empty() || stream.labels.iter().count() <= DEFAULT.labels_max, "labels");
        }
    }
    if let Ok(decoded) = decode_metrics(bytes, format, &DEFAULT) {
        let _ = decoded.rejected.count();
    }
}
