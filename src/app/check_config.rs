//! `trilith check-config`: every setting, what it comes to here, and where it comes from, in columns.

use std::path::Path;

use crate::base::disk::{Disk as _, RealDisk};

use super::config::{Amount, Config, Extra, SETTINGS};
use super::data_dir::absolute;
use super::greeting::size;
use super::{host, memory, services};

/// Values up to so many characters make their column wide; a longer one has a line for itself.
const VALUE_WIDTH_MAX: usize = 60;

/// The table, a line a setting.
pub(super) fn table(config: &Config) -> String {
    let rows: Vec<[String; 3]> = SETTINGS
        .iter()
        .filter_map(|setting| {
            let (text, origin) = config.effective.get(setting.name)?;
            Some([setting.name.to_owned(), in_force(config, setting.name, text), origin.to_string()])
        })
        .collect();
    let width = |column: usize, most: usize| {
        let widths = rows.iter().filter_map(|row| Some(row.get(column)?.chars().count()));
        widths.filter(|width| *width <= most).max().unwrap_or_default()
    };
    let (name_width, value_width) = (width(0, usize::MAX), width(1, VALUE_WIDTH_MAX));
    let mut table = String::new();
    for [name, value, origin] in &rows {
        if value.chars().count() > value_width {
            table.push_str(&format!(
                "{name:<name_width$}  {value}\n{:<name_width$}  {:<value_width$}  {origin}\n",
                "", ""
            ));
        } else {
            table.push_str(&format!("{name:<name_width$}  {value:<value_width$}  {origin}\n"));
        }
    }
    table
}

/// What a value comes to here, after what was written where that is not the same.
fn in_force(config: &Config, name: &str, text: &str) -> String {
    let came_to = match name {
        "data-dir" => {
            return absolute(&config.data_dir).display().to_string();
        }
        "listen" => return config.listen.to_string(),
        "memory-limit" => Some(bytes(memory_limit(config))),
        "disk-limit" => disk_limit(config).map(bytes),
        "query-memory-max" => Some(bytes(query_memory(config))),
        _ => match Extra::ALL.into_iter().find(|extra| extra.flag() == name) {
            Some(extra) => return config.address(extra).map_or_else(|| "off".to_owned(), |at| at.to_string()),
            None => None,
        },
    };
    came_to.map_or_else(|| text.to_owned(), |bytes| format!("{text} = {bytes}"))
}

fn bytes(bytes: u64) -> String {
    format!("{bytes} bytes ({})", size(bytes))
}

fn memory_limit(config: &Config) -> u64 {
    config.memory_limit.of(host::memory_total())
}

fn query_memory(config: &Config) -> u64 {
    let limit = memory_limit(config);
    config.query_memory_max.of(limit).min(services::queries_bytes_max(&memory::account(limit)))
}

/// Of the file system that the data directory is on, or will be.
fn disk_limit(config: &Config) -> Option<u64> {
    let path = absolute(&config.data_dir);
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let total = RealDisk.space(there).map(|space| space.total).ok();
    match config.disk_limit {
        Amount::Bytes(bytes) => Some(bytes),
        share @ Amount::Percent(_) => total.map(|total| share.of(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_said_in_bytes_addresses_as_they_are_and_columns_hold() {
        let mut config = Config::default();
        let rules = format!("{{job=\"{}\"}}=2d", "x".repeat(100));
        for (name, text) in [
            ("data-dir", "some/where"),
            ("memory-limit", "1GiB"),
            ("query-memory-max", "50%"),
            ("listen", "0.0.0.0:80"),
            ("listen-loki", "off"),
            ("retention-metrics-rules", rules.as_str()),
        ] {
            config.set(name, text).unwrap();
        }
        let table = table(&config);
        let line = |name: &str| table.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        let here = std::env::current_dir().unwrap().join("some/where");
        assert!(line("data-dir").contains(here.to_str().unwrap()), "{table}");
        assert!(line("memory-limit").contains(" 1GiB = 1073741824 bytes (1 GiB) "), "{table}");
        let third = ((1 << 30) - (20 << 20)) / 3;
        assert!(line("query-memory-max").contains(&format!(" 50% = {third} bytes (")), "{table}");
        assert!(line("disk-limit").contains(" bytes ("), "{table}");
        assert!(
            line("listen-otlp-grpc").contains(" 0.0.0.0:4317 ") && line("listen-loki").contains(" off "),
            "{table}"
        );
        // Every origin stands in the same column, that of the value with a line for itself too.
        let columns: Vec<Option<usize>> =
            table.lines().filter(|line| !line.contains("xxx")).map(|line| line.rfind("  default")).collect();
        assert!(columns.iter().all(|column| column.is_some() && *column == columns[0]), "{table}");
    }
}
