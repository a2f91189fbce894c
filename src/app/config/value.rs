//! Texts of values and what they mean: durations, amounts of bytes, addresses.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::base::duration;
use crate::base::limits::QueryBudget;
use crate::query::promql;
use crate::store::metrics::keep::Rule;

/// An amount of memory or disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So much of what there is, 0 to 100.
    Percent(f64),
}

impl Amount {
    /// Bytes, of `total` there are. Never more than `u64::MAX`.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (total as f64 * percent / 100.0) as u64,
        }
    }
}

/// The least that data is kept: less, and it is gone before anybody has looked at it.
const RETENTION_MIN: Duration = Duration::from_secs(60);

/// Reads `30d`, `12h`, `1h30m`; `None` for `forever`.
pub(super) fn retention(text: &str) -> Result<Option<Duration>, String> {
    if text == "forever" {
        return Ok(None);
    }
    let duration = duration(text).ok_or_else(|| {
        format!("\"{text}\" is not a duration: write 30d, 12h, 1h30m (units ms s m h d w y) or forever")
    })?;
    if duration < RETENTION_MIN {
        return Err(format!("\"{text}\" would keep next to nothing: write at least 1m, or forever"));
    }
    Ok(Some(duration))
}

pub(super) fn slow(text: &str) -> Result<Option<Duration>, String> {
    // YAML tools are free to write `off` as the boolean it once was.
    if matches!(text, "off" | "false") {
        return Ok(None);
    }
    match duration(text) {
        Some(duration) if !text.is_empty() => Ok(Some(duration)),
        _ => Err(format!("\"{text}\" is not a duration: write 5s, 500ms, 0s for all queries, or off")),
    }
}

/// Reads `{job="debug"}=2d; {tier="gold"}=400d`: selectors, each with how long its series are kept.
pub(super) fn rules(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for part in split_unquoted(text, ';') {
        let part = part.trim();
        if part.is_empty() || part == "none" {
            continue;
        }
        let wrong = || format!("\"{part}\" is not a selector and a duration, such as {{job=\"debug\"}}=2d");
        let (selector, keep) =
            part.rsplit_once('=').filter(|(own, _)| own.trim_end().ends_with('}')).ok_or_else(wrong)?;
        let matchers = promql::selector(selector.trim(), &QueryBudget::unlimited())
            .map_err(|error| format!("{}: {error}", wrong()))?;
        rules.push(Rule { matchers, keep: retention(keep.trim())? });
    }
    Ok(rules)
}

/// The pieces between separators that are not within quotes.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut pieces, mut from, mut quote, mut escaped) = (Vec::new(), 0, None, false);
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == separator => {
                pieces.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            None => {}
        }
    }
    pieces.push(&text[from..]);
    pieces
}

/// Reads `60s`, `5m`, at least `least`.
pub(super) fn time_from(text: &str, least: Duration) -> Result<Duration, String> {
    match time(text)? {
        short if short < least => Err(format!("\"{text}\" is too short: write at least {}ms", least.as_millis())),
        enough => Ok(enough),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let read = duration(text).filter(|duration| !duration.is_zero());
    read.ok_or_else(|| format!("\"{text}\" is not a duration above zero: write 60s, 5m (units ms s m h d w y)"))
}

/// Reads a whole number above zero.
pub(super) fn number<T: std::str::FromStr + Default + PartialEq>(text: &str) -> Result<T, String> {
    let read = text.parse().ok().filter(|number| *number != T::default());
    read.ok_or_else(|| format!("\"{text}\" is not a whole number above zero"))
}

fn duration(text: &str) -> Option<Duration> {
    // A duration that does not fit the clock of nanoseconds reaches before every time there is.
    duration::milliseconds(text).map(Duration::from_millis)
}

const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

/// Reads `80%`, `512MiB`, `2GB`, `1073741824`.
pub(super) fn amount(text: &str) -> Result<Amount, String> {
    let wrong =
        || format!("\"{text}\" is not an amount: write 512MiB, 2GB, a number of bytes, or a percentage like 60%");
    if let Some(number) = text.strip_suffix('%') {
        let percent: f64 = number.trim().parse().map_err(|_| wrong())?;
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(format!("\"{text}\" is not above 0% and at most 100%"));
        }
        return Ok(Amount::Percent(percent));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(*factor).ok_or_else(wrong)?,
        Err(_) => (number.parse::<f64>().map_err(|_| wrong())? * *factor as f64) as u64,
    };
    if bytes == 0 { Err(format!("\"{text}\" leaves no room at all")) } else { Ok(Amount::Bytes(bytes)) }
}

/// Reads an amount that, as far as it is one of bytes, is at least `least`.
pub(super) fn amount_from(text: &str, least: u64) -> Result<Amount, String> {
    match amount(text)? {
        Amount::Bytes(bytes) if bytes < least => {
            Err(format!("\"{text}\" is too little to work with: write at least {}MiB", least >> 20))
        }
        enough => Ok(enough),
    }
}

/// Reads a count of at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("\"{text}\" is no number of 1 or more"))
}

/// Reads a count of at least one and at most `most`, for limits that cannot be wider.
pub(super) fn count_upto(text: &str, most: usize) -> Result<usize, String> {
    match count(text)? {
        count if count > most => Err(format!("\"{text}\" is more than {most}, the most that a request may have")),
        count => Ok(count),
    }
}

/// Reads `127.0.0.1:9090`, `[::1]:9090`, `localhost:9090`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.starts_with(':') {
        return Err(format!(
            "\"{text}\" has no address: write 0.0.0.0{text} for all of them, 127.0.0.1{text} for loopback"
        ));
    }
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| format!("\"{text}\" is not an address and port such as 127.0.0.1:9090"))
}

/// Reads `true` and `false`, as YAML and shells write them.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}

/// Checks a level or a filter of `tracing`.
pub(super) fn level(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let wrong =
        || format!("\"{text}\" is not a level: write error, warn, info, debug, trace, or info,trilith::store=debug");
    for directive in text.split(',') {
        let level = directive.rsplit('=').next().unwrap_or_default();
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            return Err(wrong());
        }
    }
    tracing_subscriber::EnvFilter::try_new(text).map(drop).map_err(|_| wrong())
}
