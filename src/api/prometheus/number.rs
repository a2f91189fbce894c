//! Numbers as Prometheus's API writes them, fast: a large answer is little else.

use crate::base::float_text;
pub(super) use crate::base::float_text::push_whole as whole;

/// Adds milliseconds as seconds, with three digits behind the point unless they are zeros.
pub(super) fn time(out: &mut String, ms: i64) {
    let size = ms.unsigned_abs();
    if ms < 0 {
        out.push('-');
    }
    whole(out, size / 1000);
    let rest = size % 1000;
    if rest != 0 {
        out.push('.');
        for digit in [rest / 100, rest / 10 % 10, rest % 10] {
            out.push(char::from(b'0' + digit as u8));
        }
    }
}

/// Adds a float.
pub(super) fn float(out: &mut String, value: f64) {
    float_text::push(out, value, float_text::JSON);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written<T>(write: fn(&mut String, T), value: T) -> String {
        let mut out = String::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn floats_are_those_of_json() {
        for (value, text) in
            [(1e21, "1e+21"), (1e20, "100000000000000000000"), (-8.82e-7, "-8.82e-07"), (1e-6, "0.000001")]
        {
            assert_eq!(written(float, value), text);
        }
    }

    #[test]
    fn times_are_seconds_with_milliseconds() {
        for (ms, text) in [
            (1_500, "1.500"),
            (-1, "-0.001"),
            (4_000, "4"),
            (0, "0"),
            (1_700_000_000_999, "1700000000.999"),
            (256, "0.256"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(written(time, ms), text);
        }
    }
}
