//! Makes type and unit of a metric part of who its series are: the labels `__type__` and `__unit__`,
//! from metadata that comes in the same request, as in remote write 2.0 and OTLP. PromQL drops both
//! where it drops the name.

use std::collections::HashMap;

use crate::model::batch::{MetricMetadata, MetricsBatch};
use crate::model::labels::Labels;

const TYPE: &str = "__type__";
const UNIT: &str = "__unit__";
const UNKNOWN: &str = "unknown";

/// Endings of series of histograms and summaries.
const SUFFIXES: &[&str] = &["_bucket", "_count", "_sum"];

/// Adds the labels to all series whose metadata is in the batch.
pub(super) fn mark(batch: &mut MetricsBatch) {
    let families: HashMap<&str, &MetricMetadata> = batch.metadata.iter().map(|own| (own.name.as_str(), own)).collect();
    if families.is_empty() {
        return;
    }
    for series in &mut batch.series {
        if let Some(metadata) = family(&families, series.labels.metric_name()) {
            series.labels = marked(&series.labels, metadata);
        }
    }
}

fn family<'m>(families: &HashMap<&str, &'m MetricMetadata>, name: &str) -> Option<&'m MetricMetadata> {
    let of_part = |suffix: &&str| {
        let found = families.get(name.strip_suffix(*suffix)?)?;
        matches!(found.kind.as_str(), "histogram" | "gaugehistogram" | "summary").then_some(*found)
    };
    families.get(name).copied().or_else(|| SUFFIXES.iter().find_map(of_part))
}

fn marked(labels: &Labels, metadata: &MetricMetadata) -> Labels {
    let mut labels = labels.clone();
    for (name, value, known) in [
        (TYPE, &metadata.kind, !metadata.kind.is_empty() && metadata.kind != UNKNOWN),
        (UNIT, &metadata.unit, !metadata.unit.is_empty()),
    ] {
        if known {
            labels = labels.with(name, value);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::SeriesBatch;

    #[test]
    fn series_get_what_is_known_of_their_family() {
        let series = |name: &str| {
            let labels = Labels::from_pairs([("__name__", name), ("a", "b")]).unwrap();
            SeriesBatch { labels, ..SeriesBatch::default() }
        };
        let metadata = |name: &str, kind: &str, unit: &str| MetricMetadata {
            name: name.to_owned(),
            kind: kind.to_owned(),
            help: String::new(),
            unit: unit.to_owned(),
        };
        let names = ["size", "wait_bucket", "wait_count", "odd", "odd_sum", "other"];
        let mut batch = MetricsBatch {
            series: names.map(series).into(),
            metadata: vec![
                metadata("size", "gauge", "bytes"),
                metadata("wait", "histogram", ""),
                metadata("odd", "unknown", "seconds"),
            ],
        };
        mark(&mut batch);
        let texts: Vec<String> = batch.series.iter().map(|own| own.labels.to_string()).collect();
        assert_eq!(
            texts,
            [
                r#"{__name__="size", __type__="gauge", __unit__="bytes", a="b"}"#,
                r#"{__name__="wait_bucket", __type__="histogram", a="b"}"#,
                r#"{__name__="wait_count", __type__="histogram", a="b"}"#,
                r#"{__name__="odd", __unit__="seconds", a="b"}"#,
                r#"{__name__="odd_sum", a="b"}"#,
                r#"{__name__="other", a="b"}"#,
            ]
        );
    }
}
