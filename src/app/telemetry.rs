//! The server's own log: tracing to stderr, as text or JSON, with a level that a reload can change.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::config::{Config, LogFormat};

/// The log of this process.
#[derive(Clone, Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Telemetry {
    /// Sends the log of the whole process to stderr. Does nothing when somebody did before.
    pub fn start(config: &Config) -> Self {
        let (filter, handle) = reload::Layer::new(filter(&config.log_level));
        let lines = match config.log_format {
            LogFormat::Text => {
                let ansi = std::io::stderr().is_terminal();
                fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).boxed()
            }
            LogFormat::Json => fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).boxed(),
        };
        // A panic is a defect; it belongs into the log in the log's own format.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let payload = panic.payload();
            let literal = payload.downcast_ref::<&str>().copied();
            let what = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let what = what.unwrap_or("a panic without words");
            tracing::error!(place, what, "panic");
        }));
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self { filter: handle }
    }

    /// Changes the level.
    pub(super) fn set_level(&self, level: &str) {
        if let Err(error) = self.filter.reload(filter(level)) {
            tracing::error!(%error, "cannot change the log level");
        }
    }
}

fn filter(level: &str) -> EnvFilter {
    // Levels were checked when the configuration was read.
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}
