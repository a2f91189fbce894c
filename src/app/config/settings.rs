//! The table of settings: one row gives a flag, a variable, a key of the file and a line of help.

use std::path::PathBuf;
use std::time::Duration;

use super::listeners::{Extra, Place};
use super::value;
use super::values::{Config, LogFormat};
use crate::app::memory::LIMIT_MIN as MEMORY_LIMIT_MIN;
use crate::app::user::RunAs;
use crate::store::wal::Fsync;
use crate::wire::limits;

/// The least `--disk-limit` of bytes: with less, the logs alone are over it.
const DISK_LIMIT_MIN: u64 = 64 << 20;

/// The least `--query-memory-max` of bytes: the smallest queries need some of it.
const QUERY_MEMORY_MIN: u64 = 1 << 20;

/// The least `--query-timeout`: with less, no query ends before it.
const QUERY_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// One thing that can be set.
pub struct Setting {
    /// Its name: the flag without dashes, the key in the file; the variable is made from it.
    pub name: &'static str,
    /// What stands for its value in the help; empty for a switch.
    pub value: &'static str,
    /// What it is when nobody says anything, for people.
    pub default: &'static str,
    /// What it does, in a few words.
    pub help: &'static str,
    /// Whether `POST /-/reload` can change it.
    pub live: bool,
    /// Reads its text.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Setting {
    /// Whether it is a switch, a flag without a value.
    pub fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
}

const fn fixed(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
) -> Setting {
    Setting { name, value, default, help, live: false, set }
}

const fn live(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
) -> Setting {
    Setting { name, value, default, help, live: true, set }
}

/// Everything that can be set, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    fixed("data-dir", "DIR", "trilith-data", "where data lies; made when missing", |config, text| {
        config.data_dir = PathBuf::from(text);
        if text.is_empty() { Err("the path is empty".to_owned()) } else { Ok(()) }
    }),
    fixed("listen", "ADDR:PORT", "127.0.0.1:9090", "the main listener, everything on it", |config, text| {
        config.listen = value::address(text)?;
        Ok(())
    }),
    fixed("listen-otlp-grpc", "ADDR:PORT|off", "main's address, 4317", "OTLP over gRPC", |config, text| {
        extra(config, Extra::OtlpGrpc, text)
    }),
    fixed("listen-otlp-http", "ADDR:PORT|off", "main's address, 4318", "OTLP over HTTP", |config, text| {
        extra(config, Extra::OtlpHttp, text)
    }),
    fixed("listen-loki", "ADDR:PORT|off", "main's address, 3100", "Loki's paths at the root", |config, text| {
        extra(config, Extra::Loki, text)
    }),
    fixed("listen-tempo", "ADDR:PORT|off", "main's address, 3200", "Tempo's paths at the root", |config, text| {
        extra(config, Extra::Tempo, text)
    }),
    fixed("no-extra-listeners", "", "false", "turn those four off", |config, text| {
        config.no_extra_listeners = value::boolean(text)?;
        Ok(())
    }),
    live("retention-metrics", "DURATION", "30d", "how long samples are kept (30d, 12h, forever)", |config, text| {
        config.retention.metrics = value::retention(text)?;
        Ok(())
    }),
    live(
        "retention-metrics-rules",
        "RULES",
        "none",
        "for some series, as '{job=\"debug\"}=2d; …'",
        |config, text| {
            config.metrics_rules = value::rules(text)?;
            Ok(())
        },
    ),
    live("retention-logs", "DURATION", "14d", "how long log lines are kept", |config, text| {
        config.retention.logs = value::retention(text)?;
        Ok(())
    }),
    live("retention-traces", "DURATION", "7d", "how long spans are kept", |config, text| {
        config.retention.traces = value::retention(text)?;
        Ok(())
    }),
    fixed("memory-limit", "SIZE", "50%", "memory to use (2GiB, or % of the cgroup or host)", |config, text| {
        config.memory_limit = value::amount_from(text, MEMORY_LIMIT_MIN)?;
        Ok(())
    }),
    fixed("disk-limit", "SIZE", "80%", "disk to use; over it the oldest data goes", |config, text| {
        config.disk_limit = value::amount_from(text, DISK_LIMIT_MIN)?;
        Ok(())
    }),
    fixed("series-limit", "COUNT", "2000000", "active series; new ones over it are refused", |config, text| {
        config.metrics.active_series_max = value::count(text)?;
        Ok(())
    }),
    fixed("series-per-metric-limit", "COUNT", "1000000", "active series of one metric name", |config, text| {
        config.metrics.series_per_metric_max = value::count(text)?;
        Ok(())
    }),
    fixed("labels-limit", "COUNT", "64", "labels of a new series", |config, text| {
        config.metrics.labels_max = value::count_upto(text, limits::DEFAULT.labels_max)?;
        Ok(())
    }),
    fixed("label-name-limit", "BYTES", "1024", "longest label name of a new series", |config, text| {
        config.metrics.label_name_bytes_max = value::count_upto(text, limits::DEFAULT.label_name_bytes_max)?;
        Ok(())
    }),
    fixed("label-value-limit", "BYTES", "16384", "longest label value of a new series", |config, text| {
        config.metrics.label_value_bytes_max = value::count_upto(text, limits::DEFAULT.label_value_bytes_max)?;
        Ok(())
    }),
    fixed(
        "wal-fsync",
        "interval|always",
        "interval",
        "fsync within a second, or before each answer",
        |config, text| {
            config.wal_fsync = match text {
                "interval" => Fsync::Interval,
                "always" => Fsync::Always,
                _ => return Err(format!("\"{text}\" is neither interval nor always")),
            };
            Ok(())
        },
    ),
    fixed("slow-query", "DURATION|off", "5s", "log queries that take longer; 0s logs all", |config, text| {
        config.slow_query = value::slow(text)?;
        Ok(())
    }),
    fixed("type-and-unit-labels", "", "false", "label series with the type and unit sent along", |config, text| {
        config.type_and_unit_labels = value::boolean(text)?;
        Ok(())
    }),
    fixed("admin-api", "", "false", "let clients delete series and take snapshots", |config, text| {
        config.admin_api = value::boolean(text)?;
        Ok(())
    }),
    fixed("query-timeout", "DURATION", "60s", "longest time of a query, with its wait", |config, text| {
        config.query.timeout = value::time_from(text, QUERY_TIMEOUT_MIN)?;
        Ok(())
    }),
    fixed("query-concurrency", "N", "8", "queries that run at the same time", |config, text| {
        config.query.concurrency = value::number(text)?;
        Ok(())
    }),
    fixed("query-queue-max", "N", "100", "queries that may wait for a place", |config, text| {
        config.query.queue_max = value::number(text)?;
        Ok(())
    }),
    fixed("query-memory-max", "SIZE", "192MiB", "memory of one query, or % of memory-limit", |config, text| {
        config.query_memory_max = value::amount_from(text, QUERY_MEMORY_MIN)?;
        Ok(())
    }),
    fixed("query-rows-max", "N", "500000000", "samples, lines or spans of one query", |config, text| {
        config.query.rows_max = value::number(text)?;
        Ok(())
    }),
    fixed("query-series-max", "N", "3000000", "series that a selector may find", |config, text| {
        config.query.selected_series_max = value::number(text)?;
        Ok(())
    }),
    fixed("query-points-max", "N", "11000", "points of one series in a range query", |config, text| {
        config.query.points_max = value::number(text)?;
        Ok(())
    }),
    fixed("run-as", "UID:GID", "none", "who to become when root started it", |config, text| {
        config.run_as = Some(user(text)?);
        Ok(())
    }),
    live("log-level", "LEVEL", "info", "error, warn, info, debug, trace, or a filter", |config, text| {
        value::level(text)?;
        config.log_level = text.to_owned();
        Ok(())
    }),
    fixed("log-format", "text|json", "text", "how log lines look, on stderr", |config, text| {
        config.log_format = match text {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(format!("\"{text}\" is neither text nor json")),
        };
        Ok(())
    }),
];

fn user(text: &str) -> Result<RunAs, String> {
    let wrong = || format!("\"{text}\" is not a user and a group by number, such as 10001:10001");
    let (uid, gid) = text.split_once(':').ok_or_else(wrong)?;
    let (uid, gid) = (uid.parse().map_err(|_| wrong())?, gid.parse().map_err(|_| wrong())?);
    // The system calls take the largest number for "leave it as it is".
    if uid == 0 || uid == u32::MAX || gid == u32::MAX { Err(wrong()) } else { Ok(RunAs { uid, gid }) }
}

fn extra(config: &mut Config, extra: Extra, text: &str) -> Result<(), String> {
    let place = match text {
        // YAML tools are free to write `off` as the boolean it once was.
        "off" | "false" => Place::Off,
        _ => Place::At(value::address(text).map_err(|problem| format!("{problem}, or off"))?),
    };
    config.extra.insert(extra, place);
    Ok(())
}
