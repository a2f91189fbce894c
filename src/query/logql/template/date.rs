//! Go's time layouts (`2006-01-02T15:04:05Z07:00`), for printing and for reading. All times are UTC.

use std::fmt::Write as _;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

/// Pieces of a layout and what chrono calls them; a longer one before those it starts with.
const PIECES: &[(&str, &str)] = &[
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("Z07:00", "%:z"),
    ("Z0700", "%z"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("-07", "%z"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("_2", "%e"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

enum Piece<'a> {
    Text(&'a str),
    Chrono(&'static str, &'static str),
    /// `.000` or `.999`: digits, and whether zeros at the end go.
    Fraction(usize, bool),
}

fn pieces(layout: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        if let Some((name, chrono)) = PIECES.iter().find(|(name, _)| rest.starts_with(name)) {
            pieces.push(Piece::Chrono(name, chrono));
            rest = rest.get(name.len()..).unwrap_or_default();
            continue;
        }
        let digits = rest.get(1..).unwrap_or_default();
        let run = |digit| digits.chars().take_while(|c| *c == digit).count();
        let (zeros, nines) = (run('0'), run('9'));
        if matches!(c, '.' | ',') && (zeros > 0 || nines > 0) {
            pieces.push(Piece::Fraction(zeros.max(nines).min(9), nines > 0));
            rest = digits.get(zeros.max(nines)..).unwrap_or_default();
            continue;
        }
        let (text, tail) = rest.split_at_checked(c.len_utf8()).unwrap_or((rest, ""));
        pieces.push(Piece::Text(text));
        rest = tail;
    }
    pieces
}

/// A time in a layout.
pub(super) fn format(nanos: i64, layout: &str) -> String {
    let time = DateTime::<Utc>::from_timestamp_nanos(nanos);
    let mut text = String::new();
    for piece in pieces(layout) {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Chrono("MST", _) => text.push_str("UTC"),
            Piece::Chrono(name, _) if name.starts_with('Z') => text.push('Z'),
            Piece::Chrono("-07", _) => text.push_str("+00"),
            Piece::Chrono(_, chrono) => {
                let _ = write!(text, "{}", time.format(chrono));
            }
            Piece::Fraction(digits, cut) => {
                let nanos = format!("{:09}", nanos.rem_euclid(1_000_000_000));
                let digits = nanos.get(..digits).unwrap_or_default();
                let digits = if cut { digits.trim_end_matches('0') } else { digits };
                if !digits.is_empty() {
                    text.push('.');
                    text.push_str(digits);
                }
            }
        }
    }
    text
}

/// A text in a layout, in nanoseconds since the Unix epoch.
pub(super) fn parse(text: &str, layout: &str) -> Option<i64> {
    let mut chrono = String::new();
    let mut zone = false;
    for piece in pieces(layout) {
        match piece {
            Piece::Text("%") => chrono.push_str("%%"),
            Piece::Text(piece) => chrono.push_str(piece),
            Piece::Chrono("MST", _) => chrono.push_str("UTC"),
            Piece::Chrono(_, piece) => {
                zone |= piece.ends_with('z');
                chrono.push_str(piece);
            }
            Piece::Fraction(..) => chrono.push_str("%.f"),
        }
    }
    let text =
        if zone && text.ends_with('Z') { format!("{}+00:00", text.trim_end_matches('Z')) } else { text.to_owned() };
    if zone {
        return DateTime::parse_from_str(&text, &chrono).ok()?.timestamp_nanos_opt();
    }
    let time = NaiveDateTime::parse_from_str(&text, &chrono)
        .ok()
        .or_else(|| NaiveDate::parse_from_str(&text, &chrono).ok()?.and_hms_opt(0, 0, 0))?;
    time.and_utc().timestamp_nanos_opt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_print_and_read_back() {
        let nanos = 1_700_000_000_120_000_000;
        assert_eq!(format(nanos, "Mon Jan _2 15:04:05.000 MST 2006"), "Tue Nov 14 22:13:20.120 UTC 2023");
        assert_eq!(format(nanos, "2/1/06 3:04PM .999"), "14/11/23 10:13PM .12");
        for layout in ["2006-01-02T15:04:05.999Z07:00", "2006-01-02 15:04:05.000 -0700"] {
            assert_eq!(parse(&format(nanos, layout), layout), Some(nanos), "{layout}");
        }
        assert_eq!(parse("2023-11-14", "2006-01-02"), Some(1_699_920_000_000_000_000));
        assert_eq!(parse("x", "2006"), None);
        assert!(!format(i64::MIN, "2006-01-02 15:04:05.000000000 % %Q").is_empty());
    }
}
