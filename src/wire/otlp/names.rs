//! Prometheus names for OTLP metrics and attributes.
//! Spec: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.

use crate::wire::loki_labels::clean_name;

/// What decides on a name's suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffix {
    /// A counter: `_total`.
    Total,
    /// A gauge: `_ratio` when its unit is 1.
    Gauge,
    /// Neither.
    None,
}

/// Units of UCUM and the words that Prometheus uses for them.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
    ("1", ""),
];

/// Units after a slash.
const PER_UNITS: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("min", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The word for a unit; a unit that is not known is its own word, an annotation in braces has none.
fn word(unit: &str, table: &[(&str, &str)]) -> String {
    let unit = unit.trim();
    if unit.contains(['{', '}']) {
        return String::new();
    }
    match table.iter().find(|(short, _)| *short == unit) {
        Some((_, word)) => (*word).to_owned(),
        None => tokens(unit).collect::<Vec<_>>().join("_"),
    }
}

fn tokens(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':')).filter(|token| !token.is_empty())
}

/// The unit as Prometheus' metadata has it: `seconds`, `bytes_per_second`; may be empty.
pub fn unit(unit: &str) -> String {
    let (main, per) = unit.split_once('/').map_or((unit, None), |(main, per)| (main, Some(per)));
    let main = word(main, UNITS);
    match per.map(|per| word(per, PER_UNITS)).filter(|per| !per.is_empty()) {
        Some(per) if main.is_empty() => format!("per_{per}"),
        Some(per) => format!("{main}_per_{per}"),
        None => main,
    }
}

/// The name of a metric; empty when nothing of it is legal.
pub fn metric_name(name: &str, unit_sent: &str, suffix: Suffix) -> String {
    let mut parts: Vec<&str> = tokens(name).collect();
    if parts.is_empty() {
        return String::new();
    }
    let unit = unit(unit_sent);
    let unit_parts: Vec<&str> = unit.split('_').filter(|part| !part.is_empty()).collect();
    // A name that says its unit already says it once.
    let said = parts.windows(unit_parts.len().max(1)).any(|window| window == unit_parts.as_slice());
    if suffix == Suffix::Total {
        parts.retain(|part| *part != "total");
    }
    if !said {
        parts.extend(unit_parts);
    }
    match suffix {
        Suffix::Total => parts.push("total"),
        Suffix::Gauge if unit_sent.trim() == "1" => {
            parts.retain(|part| *part != "ratio");
            parts.push("ratio");
        }
        Suffix::Gauge | Suffix::None => {}
    }
    let name = parts.join("_");
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Label pairs of attributes: names made legal; where that makes two of them equal, their values are
/// joined by `;` in the order of the original names.
pub fn label_pairs(mut attributes: Vec<(String, String)>) -> Vec<(String, String)> {
    attributes.sort();
    let clean = attributes.into_iter().map(|(name, value)| (clean_name(&name).into_owned(), value));
    let mut clean: Vec<(String, String)> = clean.collect();
    // Stable: equal ones stay in the order of the original names.
    clean.sort_by(|a, b| a.0.cmp(&b.0));
    clean.dedup_by(|(name, value), (own, joined)| {
        let same = name == own;
        if same {
            joined.push(';');
            joined.push_str(value);
        }
        same
    });
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_unit_and_suffix_once() {
        let cases = [
            ("http.server.duration", "s", Suffix::None, "http_server_duration_seconds"),
            ("http.server.duration_seconds", "s", Suffix::None, "http_server_duration_seconds"),
            ("requests", "1", Suffix::Total, "requests_total"),
            ("requests.total", "{request}", Suffix::Total, "requests_total"),
            ("total.bytes", "By", Suffix::Total, "bytes_total"),
            ("disk.io", "By/s", Suffix::Gauge, "disk_io_bytes_per_second"),
            ("load", "1", Suffix::Gauge, "load_ratio"),
            ("load", "", Suffix::Gauge, "load"),
            ("cpu", "%", Suffix::Gauge, "cpu_percent"),
            ("a", "{packet}/s", Suffix::Gauge, "a_per_second"),
            ("a", "foo.bar", Suffix::Gauge, "a_foo_bar"),
            ("2xx", "", Suffix::Total, "_2xx_total"),
            ("a--b__c", "", Suffix::None, "a_b_c"),
            ("job:rate", "", Suffix::None, "job:rate"),
            ("...", "s", Suffix::None, ""),
        ];
        for (name, unit, suffix, expected) in cases {
            assert_eq!(metric_name(name, unit, suffix), expected, "{name} {unit}");
        }
    }

    #[test]
    fn labels_that_collide_are_joined_in_order_of_their_names() {
        let pairs = [("a_b", "2"), ("a.b", "1"), ("c", "3"), ("9", "4")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let expected = [("a_b", "1;2"), ("c", "3"), ("key_9", "4")];
        assert_eq!(label_pairs(pairs), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
