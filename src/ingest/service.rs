//! Gives every stream a `service_name`, as Loki does: Grafana's log views group by it.

use crate::model::batch::StreamBatch;

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

/// Adds `service_name` unless the stream has it.
pub(super) fn name_stream(stream: &mut StreamBatch) {
    let labels = &stream.labels;
    if labels.get(SERVICE_NAME).is_none() {
        let name = NAMED_BY.iter().find_map(|name| labels.get(name)).unwrap_or("unknown_service");
        stream.labels = labels.with(SERVICE_NAME, name);
    }
}
