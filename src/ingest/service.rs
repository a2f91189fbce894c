//! Gives every stream a `service_name`, as Loki does: Grafana's log views group by it.

use crate::model::batch::StreamBatch;
use crate::model::labels::Labels;

const SERVICE_NAME: &str = "service_name";

/// Labels that may name the service, best first.
const NAMED_BY: &[&str] = &[
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// What names the service of a stream; `unknown_service` where nothing does.
pub(super) fn name(labels: &Labels) -> &str {
    let named = labels.get(SERVICE_NAME).or_else(|| NAMED_BY.iter().find_map(|name| labels.get(name)));
    named.unwrap_or("unknown_service")
}

/// Adds `service_name` unless the stream has it.
pub(super) fn name_stream(stream: &mut StreamBatch) {
    let labels = &stream.labels;
    if labels.get(SERVICE_NAME).is_none() {
        stream.labels = labels.with(SERVICE_NAME, name(labels));
    }
}
