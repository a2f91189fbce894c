//! Makes label sets of pairs as senders wrote them, and says what is wrong with those that are none.

use std::str;

use super::error::{WireError, cut};
use super::limits::{Meter, Options};
use crate::model::batch::Rejections;
use crate::model::labels::{Labels, METRIC_NAME};

/// Why one item is not taken while the others are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A fixed word, also a label value of `/metrics`.
    pub(super) reason: &'static str,
    /// For the sender.
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// Counts `count` items as refused for this.
    pub(super) fn count(self, rejected: &mut Rejections, count: u64) {
        rejected.add(self.reason, count, || self.text);
    }
}

/// A pair of raw bytes.
pub(super) type RawPair<'a> = (&'a [u8], &'a [u8]);

fn text<'a>(bytes: &'a [u8], what: &str, raw: &[RawPair<'_>]) -> Result<&'a str, Refusal> {
    str::from_utf8(bytes).map_err(|_| {
        let shown = cut(&bytes.escape_ascii().to_string());
        Refusal::new("invalid_utf8", format!("{what} {shown:?}{} is not UTF-8", of_metric(raw)))
    })
}

/// Whose label it is, where that is known.
fn of_metric<T: AsRef<[u8]>>(pairs: &[(T, T)]) -> String {
    let name = pairs.iter().find(|(name, _)| name.as_ref() == METRIC_NAME.as_bytes());
    let name = name.and_then(|(_, value)| str::from_utf8(value.as_ref()).ok());
    name.map_or_else(String::new, |name| format!(" of {:?}", cut(name)))
}

/// The label set of raw pairs.
pub(super) fn raw_labels(
    raw: &[RawPair<'_>],
    options: &Options,
    meter: &mut Meter,
) -> Result<Result<Labels, Refusal>, WireError> {
    if raw.len() > options.labels_max {
        return Ok(Err(too_many(raw, options)));
    }
    let mut pairs = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        match text(name, "label name", raw).and_then(|name| Ok((name, text(value, "label value", raw)?))) {
            Ok(pair) => pairs.push(pair),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    labels(&pairs, options, meter)
}

fn too_many<T: AsRef<[u8]>>(pairs: &[(T, T)], options: &Options) -> Refusal {
    let (count, metric) = (pairs.len(), of_metric(pairs));
    Refusal::new("too_many_labels", format!("{count} labels or more{metric}, over the limit of {}", options.labels_max))
}

/// The label set of pairs, each within the limits.
pub(super) fn labels(
    pairs: &[(&str, &str)],
    options: &Options,
    meter: &mut Meter,
) -> Result<Result<Labels, Refusal>, WireError> {
    if pairs.len() > options.labels_max {
        return Ok(Err(too_many(pairs, options)));
    }
    let mut bytes = 32;
    for (name, value) in pairs {
        let limit = |what: &str, length: usize, limit: usize| {
            let (name, metric) = (cut(name), of_metric(pairs));
            Refusal::new(
                "label_too_long",
                format!("the {what} of label {name:?}{metric} has {length} bytes, over the limit of {limit}"),
            )
        };
        if name.len() > options.label_name_bytes_max {
            return Ok(Err(limit("name", name.len(), options.label_name_bytes_max)));
        }
        if value.len() > options.label_value_bytes_max {
            return Ok(Err(limit("value", value.len(), options.label_value_bytes_max)));
        }
        bytes += name.len() + value.len() + 4;
    }
    meter.take(bytes)?;
    Ok(Labels::from_pairs(pairs.iter().copied()).map_err(|error| {
        let shown: Vec<String> =
            pairs.iter().take(8).map(|(name, value)| format!("{}={:?}", cut(name), cut(value))).collect();
        Refusal::new("invalid_labels", format!("{error} in {{{}}}", shown.join(", ")))
    }))
}

/// Refuses a series without a name.
pub(super) fn named(labels: Labels) -> Result<Labels, Refusal> {
    if labels.metric_name().is_empty() {
        let shown = cut(&labels.to_string());
        return Err(Refusal::new("missing_metric_name", format!("series {shown} has no {METRIC_NAME}")));
    }
    Ok(labels)
}
