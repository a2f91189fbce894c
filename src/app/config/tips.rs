//! Tips for flags and commands that other programs have, or that people try first.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

/// What is written, and what is meant.
const FLAGS: &[(&[&str], &str)] = &[
    (
        &[
            "p",
            "port",
            "http-port",
            "host",
            "bind",
            "addr",
            "address",
            "listen-address",
            "web.listen-address",
            "httpListenAddr",
        ],
        "--listen 127.0.0.1:9090",
    ),
    (
        &["d", "dir", "data", "data-path", "path", "storage", "storage.path", "storage.tsdb.path", "storageDataPath"],
        "--data-dir DIR",
    ),
    (
        &["retention", "retention.time", "storage.tsdb.retention.time", "storage.tsdb.retention", "retentionPeriod"],
        "--retention-metrics 30d, --retention-logs 14d, --retention-traces 7d",
    ),
    (&["disk", "max-disk", "storage.tsdb.retention.size"], "--disk-limit SIZE"),
    (&["m", "memory", "mem", "max-memory"], "--memory-limit SIZE"),
    (&["c", "f", "file", "conf", "config.file", "config-file"], "--config FILE"),
    (&["v", "verbose", "debug", "log.level", "loglevel", "loggerLevel"], "--log-level debug"),
    (&["q", "quiet"], "--log-level warn"),
    (&["log.format", "json"], "--log-format json"),
    (&["web.enable-admin-api"], "--admin-api"),
    (&["query.timeout"], "--query-timeout 60s"),
    (&["otlp", "otlp-port", "grpc", "grpc-port"], "--listen-otlp-grpc ADDR:PORT, --listen-otlp-http ADDR:PORT"),
    (&["loki-port"], "--listen-loki ADDR:PORT"),
    (&["tempo-port"], "--listen-tempo ADDR:PORT"),
];

/// Commands likewise.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["start", "run", "server", "up", "daemon"], "trilith serve"),
    (&["check", "config", "validate", "verify", "test"], "trilith check-config"),
    (&["health", "ping", "ready", "status"], "trilith healthcheck"),
    (&["fix", "fsck", "reindex"], "trilith repair"),
    (&["load", "restore"], "trilith import"),
    (&["dump", "backup"], "trilith export"),
    (&["true", "false", "yes", "no", "on", "off"], "--NAME=true or --NAME=false: the value of a switch follows a ="),
];

/// The error with a tip, where what was written is known to be meant for something.
pub(super) fn add(mut error: clap::Error) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg).and_then(|flag| meant(FLAGS, flag.trim_start_matches('-')));
    let tip = flag.or_else(|| text(ContextKind::InvalidSubcommand).and_then(|command| meant(COMMANDS, command)));
    if let Some(tip) = tip {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(format!("write {tip}"))]));
        // What only looks alike would be a second opinion.
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
    }
    error
}

fn meant(table: &'static [(&'static [&'static str], &'static str)], written: &str) -> Option<&'static str> {
    let written = written.split('=').next().unwrap_or(written);
    table.iter().find(|(names, _)| names.contains(&written)).map(|(_, tip)| *tip)
}
