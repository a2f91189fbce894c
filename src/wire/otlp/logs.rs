//! Log records of OTLP to streams, as Loki maps them: some resource attributes become labels, all
//! else structured metadata, names cleaned and nested maps flattened.
//! Spec: <https://grafana.com/docs/loki/latest/send-data/otel/>.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};

use super::attrs::{flattened, id, text_bytes, time, to_text};
use crate::model::batch::LogsBatch;
use crate::model::log::{ARRIVAL, LogEntry};
use crate::wire::Decoded;
use crate::wire::error::WireError;
use crate::wire::limits::{Meter, Options};
use crate::wire::loki_labels::clean_name;
use crate::wire::loki_streams::{Building, Pair};

/// Resource attributes that become labels; Loki's defaults.
const LABELS: &[&str] = &[
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
    "service.instance.id",
    "service.name",
    "service.namespace",
];

type Pairs = Vec<(String, String)>;

/// Makes a batch of a request.
pub(super) fn convert(
    request: ExportLogsServiceRequest,
    options: &Options,
    meter: Meter,
) -> Result<Decoded<LogsBatch>, WireError> {
    let mut building = Building::with_meter(options, meter);
    for resource_logs in request.resource_logs {
        let attributes = resource_logs.resource.map(|resource| resource.attributes).unwrap_or_default();
        let (mut labels, resource): (Pairs, Pairs) = flattened(&attributes, &mut building.meter)?
            .into_iter()
            .partition(|(name, _)| LABELS.contains(&name.as_str()));
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        labels.dedup_by(|next, kept| next.0 == kept.0);
        let mut entries = Vec::new();
        for scope_logs in resource_logs.scope_logs {
            let scope = scope_metadata(&scope_logs, &mut building.meter)?;
            for record in scope_logs.log_records {
                entry(record, &scope, &resource, &mut building, &mut entries)?;
            }
        }
        if !entries.is_empty() {
            let pairs: Vec<(Cow<'_, str>, &str)> =
                labels.iter().map(|(name, value)| (clean_name(name), value.as_str())).collect();
            let pairs = pairs.iter().map(|(name, value)| (name.as_ref(), Cow::Borrowed(*value))).collect();
            building.stream(Ok(pairs), entries)?;
        }
    }
    Ok(building.into_decoded())
}

/// What all records of a scope carry.
fn scope_metadata(scope_logs: &ScopeLogs, meter: &mut Meter) -> Result<Pairs, WireError> {
    let Some(scope) = &scope_logs.scope else { return Ok(Pairs::new()) };
    let mut pairs = flattened(&scope.attributes, meter)?;
    pairs.push(("scope_name".to_owned(), scope.name.clone()));
    pairs.push(("scope_version".to_owned(), scope.version.clone()));
    Ok(pairs)
}

fn entry(
    record: LogRecord,
    scope: &Pairs,
    resource: &Pairs,
    building: &mut Building<'_>,
    entries: &mut Vec<LogEntry>,
) -> Result<(), WireError> {
    let t = match (record.time_unix_nano, record.observed_time_unix_nano) {
        (0, 0) => ARRIVAL,
        (0, t) | (t, _) => time(t),
    };
    building.meter.take(record.body.as_ref().map_or(0, text_bytes))?;
    let line = record.body.as_ref().map(to_text).unwrap_or_default();
    let own = flattened(&record.attributes, &mut building.meter)?;
    let fields = fields(&record);
    // A level is added later. Asked before the pairs are gathered: a resource may have a million of them, for each record.
    if building.refuses_pairs(fields.len() + 1 + own.len() + scope.len() + resource.len()) {
        return Ok(());
    }
    // Of equal names the first counts: what a record says of itself is not hidden by an attribute.
    let fields = fields.iter().map(|(name, value)| (*name, value.as_ref()));
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let shared = scope.iter().chain(resource).map(|(name, value)| (name.as_str(), value.as_str()));
    let pairs: Vec<Pair<'_>> = fields
        .chain(own)
        .chain(shared)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    building.entry(t, line, &pairs, entries)
}

/// The fields of a record that are structured metadata; those that say nothing are empty.
fn fields(record: &LogRecord) -> [(&'static str, Cow<'_, str>); 8] {
    let number = |value: u64| if value == 0 { Cow::Borrowed("") } else { Cow::Owned(value.to_string()) };
    [
        ("severity_text", Cow::Borrowed(record.severity_text.as_str())),
        ("severity_number", number(severity(record))),
        ("trace_id", id::<16>(&record.trace_id).into()),
        ("span_id", id::<8>(&record.span_id).into()),
        ("flags", number(u64::from(record.flags))),
        ("observed_timestamp", number(record.observed_time_unix_nano)),
        ("dropped_attributes_count", number(u64::from(record.dropped_attributes_count))),
        ("event_name", Cow::Borrowed(record.event_name.as_str())),
    ]
}

fn severity(record: &LogRecord) -> u64 {
    u64::try_from(record.severity_number).unwrap_or_default()
}
