//! Numbers that are looked up when somebody asks: memory, disk, build, process, refused metrics.

use crate::base::disk::{Disk as _, RealDisk};

use super::host;
use super::memory;
use super::state::ServerState;

/// Metrics that are named with what was refused of them; `status/tsdb` has more.
const REFUSED_NAMES: usize = 20;

/// Brings the gauges up to date before they are shown.
pub(super) fn refresh(state: &ServerState) {
    let counters = &state.counters;
    let set = |name, help, value| counters.gauge(name, help, &[]).set(value);
    set("process_resident_memory_bytes", "Resident memory of the process.", host::memory_resident());
    set("process_open_fds", "Open files of the process.", host::open_files());
    set("process_start_time_seconds", "When the process started, in seconds since the Unix epoch.", state.started_at);
    let cpu = counters.nanoseconds("process_cpu_seconds_total", "CPU time of the process.", &[]);
    cpu.set(host::cpu_ns());
    set("trilith_memory_limit_bytes", "What --memory-limit comes to.", state.memory_limit);
    let help = "Bytes of requests that are being received or worked on.";
    set("trilith_requests_in_flight_bytes", help, state.in_flight.bytes());
    memory::refresh(&state.memory, counters);
    let ready = u64::from(state.readiness.phase().reason().is_none());
    set("trilith_ready", "1 when requests are answered.", ready);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    counters.gauge("trilith_build_info", "The build; always 1.", &version).set(1);
    if let Some(services) = state.services.get() {
        let api = &services.api;
        let running = api.engine.options.concurrency.saturating_sub(api.places.free());
        let memory = api.engine.memory.as_ref().map_or(0, |memory| memory.used());
        set("trilith_queries_running", "Queries that run now.", running as u64);
        set("trilith_queries_waiting", "Queries that wait for a place.", api.places.waiting() as u64);
        set("trilith_query_memory_bytes", "Memory charged to queries and to answers that flow.", memory);
    }
    let data_dir = state.config.lock().data_dir.clone();
    if let Ok(space) = RealDisk.space(&data_dir) {
        set("trilith_disk_free_bytes", "Room left on the file system of the data directory.", space.free);
        set("trilith_disk_total_bytes", "Size of the file system of the data directory.", space.total);
    }
    if let Some(services) = state.services.get() {
        let refused = services.store.metrics.refused(REFUSED_NAMES).into_iter();
        let labelled = refused.map(|own| (vec![("metric", own.name), ("reason", own.reason.to_owned())], own.count));
        let help = "Samples of new series refused, of the metrics most are refused of.";
        counters.replace("trilith_refused_metric_samples_total", help, labelled);
    }
}
