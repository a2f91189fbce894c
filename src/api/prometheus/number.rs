//! Numbers as Prometheus's API writes them, fast: a large answer is little else.

/// Adds a number without a sign.
pub(super) fn whole(out: &mut String, mut number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut from = DIGITS_MAX;
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[from..]).unwrap_or_default());
}

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

/// Above this, not every whole number is a float.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Adds a float in the fewest digits that read back as it: plain digits, but an exponent of two
/// digits or more below a millionth and from 1e21 on.
pub(super) fn float(out: &mut String, value: f64) {
    let size = value.abs();
    if value.is_sign_negative() && !value.is_nan() {
        out.push('-');
    }
    if size < WHOLE_MAX && size.trunc() == size {
        return whole(out, size as u64);
    }
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        if value > 0.0 {
            out.push('+');
        }
        return out.push_str("Inf");
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(size);
    match text.split_once('e') {
        None => out.push_str(text.strip_suffix(".0").unwrap_or(text)),
        Some((mantissa, exponent)) => scientific(out, mantissa, exponent.parse().unwrap_or_default(), size),
    }
}

/// Adds a positive number given as `d.ddd` times ten to the `exponent`.
fn scientific(out: &mut String, mantissa: &str, exponent: i32, size: f64) {
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let rest = if rest == "0" { "" } else { rest };
    if !(1e-6..1e21).contains(&size) {
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push_str(if exponent < 0 { "e-" } else { "e+" });
        if exponent.abs() < 10 {
            out.push('0');
        }
        return whole(out, u64::from(exponent.unsigned_abs()));
    }
    let places = exponent.unsigned_abs() as usize;
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', places - 1));
        out.push_str(first);
        return out.push_str(rest);
    }
    out.push_str(first);
    match rest.split_at_checked(places) {
        Some((before, "")) => out.push_str(before),
        Some((before, behind)) => {
            out.push_str(before);
            out.push('.');
            out.push_str(behind);
        }
        None => {
            out.push_str(rest);
            out.extend(std::iter::repeat_n('0', places - rest.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written<T>(write: fn(&mut String, T), value: T) -> String {
        let mut out = String::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn floats_are_plain_digits_but_for_the_very_small_and_the_very_large() {
        for (value, text) in [
            (1e21, "1e+21"),
            (1.25e21, "1.25e+21"),
            (1e20, "100000000000000000000"),
            (1.234_567_890_123_456_8e20, "123456789012345680000"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
            (-f64::NAN, "NaN"),
            (5e-324, "5e-324"),
            (-8.82e-7, "-8.82e-07"),
            (1e-6, "0.000001"),
            (0.000_012_5, "0.0000125"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (0.0, "0"),
            (42.0, "42"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (-1.5, "-1.5"),
        ] {
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

    /// As short as the standard library's text, which rounds an exact tie the other way.
    fn check(value: f64) {
        let (text, standard) = (written(float, value), value.to_string());
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
        if (1e-6..1e21).contains(&value.abs()) {
            assert_eq!(text.len(), standard.len(), "{text} and {standard}");
            assert!(!text.contains('e'), "{text}");
        }
    }

    #[test]
    fn a_tie_goes_to_the_even_digit_as_in_prometheus() {
        let tie = "-725145320116662.25".parse().unwrap();
        assert_eq!(written(float, tie), "-725145320116662.2");
    }

    proptest! {
        #[test]
        fn any_float_is_as_short_as_it_can_be_and_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            check(value);
        }

        #[test]
        fn floats_of_daily_life_as_well(whole in -1_000_000_000_000i64..1_000_000_000_000, places in 0i32..10) {
            check(whole as f64 / 10f64.powi(places));
        }
    }
}
