//! The first lines of the log, in words: the address to open, where data lies, every listener, and what is kept for
//! how long. As JSON they are the one event `listening`, whose fields say the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::config::{Config, Extra, LogFormat};
use super::listener::Addresses;

/// What there is to say of a server that begins to listen.
pub(super) struct Greeting<'a> {
    /// What is in force.
    pub(super) config: &'a Config,
    /// Where it listens.
    pub(super) addresses: &'a Addresses,
    /// Where data lies, from the root on.
    pub(super) data_dir: &'a Path,
    /// Whether nothing was there.
    pub(super) is_new: bool,
    /// Bytes that `--memory-limit` comes to.
    pub(super) memory_limit: u64,
    /// Bytes that `--disk-limit` comes to, where the disk says how large it is.
    pub(super) disk_limit: Option<u64>,
}

impl Greeting<'_> {
    /// Says it in the log.
    pub(super) fn say(&self) {
        match self.config.log_format {
            LogFormat::Text => self.lines().iter().for_each(|line| tracing::info!(target: "trilith", "{line}")),
            LogFormat::Json => self.event(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let main = self.addresses.main;
        let mut lines = vec![format!("open {} in a browser", url(main))];
        let found = if self.is_new { " (a new data directory: nothing was there)" } else { "" };
        lines.push(format!("data lies in {}{found}", self.data_dir.display()));
        lines.push(format!("listening on {main}: everything{}", everywhere(main)));
        for (extra, address) in self.extra() {
            lines.push(format!("listening on {address}: {}", extra.serves()));
        }
        let kept = self.config.retention;
        let disk = self.disk_limit.map(|bytes| format!(" and {} of disk", size(bytes))).unwrap_or_default();
        lines.push(format!(
            "metrics are kept {}, logs {}, traces {}; within {} of memory{disk}",
            span(kept.metrics),
            span(kept.logs),
            span(kept.traces),
            size(self.memory_limit),
        ));
        lines
    }

    fn event(&self) {
        let at = |extra| self.addresses.extra.get(&extra).map(tracing::field::display);
        let kept = self.config.retention;
        tracing::info!(
            target: "trilith",
            address = %self.addresses.main,
            otlp_grpc = at(Extra::OtlpGrpc),
            otlp_http = at(Extra::OtlpHttp),
            loki = at(Extra::Loki),
            tempo = at(Extra::Tempo),
            data_dir = %self.data_dir.display(),
            new_data_dir = self.is_new,
            retention_metrics = span(kept.metrics),
            retention_logs = span(kept.logs),
            retention_traces = span(kept.traces),
            memory_limit_bytes = self.memory_limit,
            disk_limit_bytes = self.disk_limit,
            "listening"
        );
    }

    fn extra(&self) -> impl Iterator<Item = (Extra, SocketAddr)> {
        Extra::ALL.into_iter().filter_map(|extra| Some((extra, *self.addresses.extra.get(&extra)?)))
    }
}

/// What a browser on this machine takes for `address`.
pub(super) fn url(mut address: SocketAddr) -> String {
    address.set_ip(match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    });
    format!("http://{address}/")
}

fn everywhere(address: SocketAddr) -> &'static str {
    if address.ip().is_loopback() { ", for this machine alone (--listen 0.0.0.0:9090 lets others in)" } else { "" }
}

/// A retention, in its largest whole unit.
fn span(kept: Option<Duration>) -> String {
    let Some(kept) = kept else { return "forever".to_owned() };
    let seconds = kept.as_secs();
    let unit = [(86_400, "d"), (3_600, "h"), (60, "m")].into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / unit)
}

/// An amount of bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64).replace(".0 ", " "),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn lines(main: &str, is_new: bool, config: &Config) -> String {
        let extra = HashMap::from([(Extra::Loki, address("127.0.0.1:3100")), (Extra::Tempo, address("[::1]:7"))]);
        let addresses = Addresses { main: address(main), extra };
        let greeting = Greeting {
            config,
            addresses: &addresses,
            data_dir: Path::new("/var/lib/trilith"),
            is_new,
            memory_limit: 3 << 29,
            disk_limit: Some(100 << 30),
        };
        greeting.lines().join("\n")
    }

    #[test]
    fn it_says_where_to_look_where_data_lies_who_listens_and_what_is_kept() {
        let text = lines("127.0.0.1:9090", true, &Config::default());
        let expected = "open http://127.0.0.1:9090/ in a browser\n\
            data lies in /var/lib/trilith (a new data directory: nothing was there)\n\
            listening on 127.0.0.1:9090: everything, for this machine alone (--listen 0.0.0.0:9090 lets others in)\n\
            listening on 127.0.0.1:3100: Loki's paths at the root\n\
            listening on [::1]:7: Tempo's paths at the root\n\
            metrics are kept 30d, logs 14d, traces 7d; within 1.5 GiB of memory and 100 GiB of disk";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_address_that_no_browser_takes_is_made_one_and_old_data_is_not_called_new() {
        let mut config = Config::default();
        config.retention.logs = None;
        config.retention.traces = Some(Duration::from_secs(5_400));
        let text = lines("0.0.0.0:80", false, &config);
        assert!(text.starts_with("open http://127.0.0.1:80/ in"), "{text}");
        assert!(text.contains("listening on 0.0.0.0:80: everything\n") && !text.contains("new"), "{text}");
        assert!(text.contains("logs forever, traces 90m;"), "{text}");
        assert_eq!(url(address("[::]:1")), "http://[::1]:1/");
        assert_eq!(size(900), "900 bytes");
    }
}
