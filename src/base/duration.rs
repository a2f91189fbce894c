//! Durations as Go and Prometheus write them: numbers, each with a unit. What a language takes beside
//! that (signs, plain numbers, bounds of its own) is its own work.

use std::fmt::Write as _;

/// Nanoseconds of a millisecond.
const MS: i64 = 1_000_000;

/// Units in nanoseconds, those that start like another one first. A month would be no length.
const UNITS: [(&str, i64); 11] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", MS),
    ("s", 1_000 * MS),
    ("m", 60_000 * MS),
    ("h", 3_600_000 * MS),
    ("d", 86_400_000 * MS),
    ("w", 604_800_000 * MS),
    ("y", 31_536_000_000 * MS),
];

/// A number, the nanoseconds of its unit, and what follows.
type Part<'t> = (&'t str, i64, &'t str);

/// The part that `text` begins with, whose unit is none below `least` nanoseconds; the number is digits,
/// and points where fractions may be.
fn part(text: &str, fractions: bool, least: i64) -> Option<Part<'_>> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || (fractions && c == '.'))).filter(|end| *end > 0)?;
    let (number, tail) = text.split_at_checked(end)?;
    let (unit, scale) = UNITS.iter().find(|(unit, scale)| *scale >= least && tail.starts_with(unit))?;
    Some((number, *scale, tail.get(unit.len()..)?))
}

/// Bytes of the whole numbers with units down to the millisecond that `text` begins with; 0 without any.
pub fn length(text: &str) -> usize {
    let mut rest = text;
    while let Some((_, _, tail)) = part(rest, false, MS) {
        rest = tail;
    }
    text.len() - rest.len()
}

/// Milliseconds of a duration such as `1h30m`: whole numbers, units down to the millisecond. `None` when it
/// is none, empty or too long.
pub fn milliseconds(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let (number, unit, tail) = part(rest, false, MS)?;
        let unit = u64::try_from(unit / MS).ok()?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Nanoseconds of a duration such as `1.5s`, `1h30m`, `2d`, exact where all numbers are whole. `None` when it
/// is none, empty or too long.
pub fn nanoseconds(text: &str) -> Option<i64> {
    let (mut rest, mut total, mut exact) = (text, 0.0_f64, Some(0_i64));
    while !rest.is_empty() {
        let (number, unit, tail) = part(rest, true, 1)?;
        total += number.parse::<f64>().ok()? * unit as f64;
        exact = match (exact, number.parse::<i64>()) {
            (Some(exact), Ok(number)) => Some(exact.checked_add(number.checked_mul(unit)?)?),
            _ => None,
        };
        rest = tail;
    }
    if text.is_empty() || exact.is_some() {
        return exact.filter(|_| !text.is_empty());
    }
    (total.is_finite() && total < i64::MAX as f64).then(|| total.round() as i64)
}

/// A duration in milliseconds as PromQL writes it; years, weeks and days only where nothing is left over.
pub fn prometheus(ms: u64) -> String {
    const UNITS: [(u64, &str, bool); 7] = [
        (31_536_000_000, "y", true),
        (604_800_000, "w", true),
        (86_400_000, "d", false),
        (3_600_000, "h", false),
        (60_000, "m", false),
        (1_000, "s", false),
        (1, "ms", false),
    ];
    let (mut out, mut rest) = (String::new(), ms);
    for (length, unit, exact) in UNITS {
        if rest >= length && (!exact || rest.is_multiple_of(length)) {
            let _ = write!(out, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// A duration in nanoseconds as Go prints it: `1.5ms`, `1m0.5s`, `2h0m0s`.
pub fn go(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let abs = ns.unsigned_abs();
    let text = match abs {
        0 => "0s".to_owned(),
        1..1_000 => format!("{abs}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(abs, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(abs, 1_000_000)),
        _ => {
            let minutes = abs / 60_000_000_000;
            let seconds = format!("{}s", decimal(abs % 60_000_000_000, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

fn decimal(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_durations_are_whole_numbers_down_to_the_millisecond() {
        for (text, ms) in [
            ("1h30m", Some(5_400_000)),
            ("0s", Some(0)),
            ("1m1ms", Some(60_001)),
            ("1m1m", Some(120_000)),
            ("1000y", Some(31_536_000_000_000)),
            ("", None),
            ("5", None),
            ("1.5h", None),
            ("-1h", None),
            ("5us", None),
            ("5ns", None),
            ("m", None),
            ("1mx", None),
            ("1h5", None),
            ("1 h", None),
            ("18446744073709551615ms", Some(u64::MAX)),
            ("18446744073709551616ms", None),
            ("18446744073709551615s", None),
        ] {
            assert_eq!(milliseconds(text), ms, "{text}");
        }
        for (text, bytes) in [("1h30m]", 5), ("1h30", 2), ("5", 0), ("1.5h", 0), ("5mso", 3), ("", 0), ("1y2w3d+", 6)] {
            assert_eq!(length(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations_with_fractions_are_exact_where_they_are_whole() {
        for (text, ns) in [
            ("1.5s", Some(1_500_000_000)),
            ("1h0.5m", Some(3_630_000_000_000)),
            ("3µs", Some(3_000)),
            ("3μs4us5ns", Some(7_005)),
            (".5s", Some(500_000_000)),
            ("106751d23h47m16s854ms775us807ns", Some(i64::MAX)),
            ("106751d23h47m16s854ms775us808ns", None),
            ("1e3s", None),
            ("1.5.2s", None),
            ("1", None),
            ("", None),
            ("-1s", None),
            ("99999999999999999999s", None),
            ("0.9999999999999999999y", Some(31_536_000_000_000_000)),
        ] {
            assert_eq!(nanoseconds(text), ns, "{text}");
        }
    }

    #[test]
    fn durations_print_as_go_and_prometheus_print_them() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (-2_000_000, "-2ms"),
            (1_500_000_000, "1.5s"),
            (60_500_000_000, "1m0.5s"),
            (7_200_000_000_000, "2h0m0s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(go(ns), text);
        }
        for (ms, text) in [
            (0, "0s"),
            (90_000, "1m30s"),
            (604_800_000, "1w"),
            (691_200_000, "8d"),
            (31_536_000_000, "1y"),
            (31_536_000_001, "365d1ms"),
        ] {
            assert_eq!(prometheus(ms), text);
        }
    }
}
