//! Floats as text in the fewest digits that read back as them, as Go's strconv writes them: plain digits, or
//! with an exponent of two digits or more where the form has one. Fast: large answers are little else.

use std::ops::Range;

/// Decimal exponents of numbers that are written without one.
pub type Plain = Range<i32>;

/// Go's `%f` with as many digits as needed: never an exponent.
pub const FIXED: Plain = i32::MIN..i32::MAX;
/// Go's `%g`: an exponent below a ten-thousandth and from a million on.
pub const GENERAL: Plain = -4..6;
/// What Go prints where no form is named (`%v`): from 1e21 on.
pub const PRINTED: Plain = -4..21;
/// JSON of Go: an exponent below a millionth and from 1e21 on.
pub const JSON: Plain = -6..21;

/// Above this, not every whole number is a float.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Whole numbers up to there have exponents below this.
const WHOLE_EXPONENTS: i32 = 16;
/// Exponents of numbers that the crate writes in plain digits lie in here.
const CRATE_PLAIN: Plain = -5..16;

/// Adds a whole number without a sign.
pub fn push_whole(out: &mut String, mut number: u64) {
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

/// Adds a float: plain digits where its exponent is in `plain`.
#[inline]
pub fn push(out: &mut String, value: f64, plain: Plain) {
    let size = value.abs();
    if value.is_sign_negative() && !value.is_nan() {
        out.push('-');
    }
    if plain.end >= WHOLE_EXPONENTS && size < WHOLE_MAX && size.trunc() == size {
        return push_whole(out, size as u64);
    }
    push_any(out, value, size, plain);
}

fn push_any(out: &mut String, value: f64, size: f64, plain: Plain) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        if value > 0.0 {
            out.push('+');
        }
        return out.push_str("Inf");
    }
    if size == 0.0 {
        return out.push('0');
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(size);
    match text.split_once('e') {
        None if plain.start <= CRATE_PLAIN.start && plain.end >= CRATE_PLAIN.end => {
            out.push_str(text.strip_suffix(".0").unwrap_or(text));
        }
        None => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let all = [whole, if fraction == "0" { "" } else { fraction }].concat();
            let digits = all.trim_start_matches('0');
            let exponent = whole.len() as i32 - 1 - (all.len() - digits.len()) as i32;
            push_digits(out, digits.trim_end_matches('0'), exponent, &plain);
        }
        Some((mantissa, exponent)) => {
            let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
            let digits = [first, if rest == "0" { "" } else { rest }].concat();
            push_digits(out, &digits, exponent.parse().unwrap_or_default(), &plain);
        }
    }
}

/// The text of a float.
pub fn text(value: f64, plain: Plain) -> String {
    let mut out = String::new();
    push(&mut out, value, plain);
    out
}

/// The text of a float with at most so many significant digits, as Go's `%.3g` writes it.
pub fn text_to(value: f64, digits: usize) -> String {
    let mut out = String::new();
    if !value.is_finite() {
        push(&mut out, value, GENERAL);
        return out;
    }
    let text = format!("{:.*e}", digits.saturating_sub(1), value.abs());
    if value.is_sign_negative() {
        out.push('-');
    }
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let short = match all.trim_end_matches('0') {
        "" => "0",
        short => short,
    };
    let limit = i32::try_from(digits).unwrap_or(i32::MAX).max(1);
    push_digits(&mut out, short, exponent.parse().unwrap_or_default(), &(GENERAL.start..limit));
    out
}

/// Adds a positive number given as `digits`, the first of them before the point, times ten to the `exponent`.
fn push_digits(out: &mut String, digits: &str, exponent: i32, plain: &Plain) {
    let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
    if !plain.contains(&exponent) {
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push_str(if exponent < 0 { "e-" } else { "e+" });
        if exponent.abs() < 10 {
            out.push('0');
        }
        return push_whole(out, u64::from(exponent.unsigned_abs()));
    }
    let places = exponent.unsigned_abs() as usize;
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', places - 1));
        return out.push_str(digits);
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

    #[test]
    fn each_form_has_exponents_where_go_has_them() {
        for (value, fixed, general, printed, json) in [
            (0.0, "0", "0", "0", "0"),
            (-0.0, "-0", "-0", "-0", "-0"),
            (42.0, "42", "42", "42", "42"),
            (-1.5, "-1.5", "-1.5", "-1.5", "-1.5"),
            (100_000.0, "100000", "100000", "100000", "100000"),
            (1_234_567.0, "1234567", "1.234567e+06", "1234567", "1234567"),
            (1e6, "1000000", "1e+06", "1000000", "1000000"),
            (999_999.5, "999999.5", "999999.5", "999999.5", "999999.5"),
            (1e20, "100000000000000000000", "1e+20", "100000000000000000000", "100000000000000000000"),
            (1.25e21, "1250000000000000000000", "1.25e+21", "1.25e+21", "1.25e+21"),
            (0.0001, "0.0001", "0.0001", "0.0001", "0.0001"),
            (0.000_012_5, "0.0000125", "1.25e-05", "1.25e-05", "0.0000125"),
            (1e-6, "0.000001", "1e-06", "1e-06", "0.000001"),
            (-8.82e-7, "-0.000000882", "-8.82e-07", "-8.82e-07", "-8.82e-07"),
            (1e-10, "0.0000000001", "1e-10", "1e-10", "1e-10"),
            (0.1, "0.1", "0.1", "0.1", "0.1"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf", "-Inf"),
            (-f64::NAN, "NaN", "NaN", "NaN", "NaN"),
        ] {
            let all = [FIXED, GENERAL, PRINTED, JSON].map(|plain| text(value, plain));
            assert_eq!(all, [fixed, general, printed, json]);
        }
        assert_eq!(text(5e-324, GENERAL), "5e-324");
        assert_eq!(text(f64::MAX, JSON), "1.7976931348623157e+308");
        assert_eq!(text(9_007_199_254_740_993.0, JSON), "9007199254740992");
        assert_eq!(text(f64::MAX, FIXED).len(), 309);
    }

    #[test]
    fn digits_are_as_many_as_may_be() {
        for (value, digits, written) in [
            (0.0, 3, "0"),
            (-1234.5, 3, "-1.23e+03"),
            (0.100_000_1, 3, "0.1"),
            (999.9, 3, "1e+03"),
            (0.000_012, 4, "1.2e-05"),
            (12.0, 0, "1e+01"),
            (f64::INFINITY, 3, "+Inf"),
            (f64::NAN, 3, "NaN"),
        ] {
            assert_eq!(text_to(value, digits), written, "{value}");
        }
    }

    #[test]
    fn a_tie_goes_to_the_even_digit_as_in_go() {
        assert_eq!(text("-725145320116662.25".parse().unwrap(), JSON), "-725145320116662.2");
    }

    /// As short as the standard library's text, which rounds an exact tie the other way.
    fn check(value: f64) {
        for plain in [FIXED, GENERAL, PRINTED, JSON] {
            let (own, exponent) = (text(value, plain.clone()), format!("{value:e}"));
            assert_eq!(own.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{own}");
            let exponent: i32 = exponent.split_once('e').unwrap().1.parse().unwrap();
            assert_eq!(own.contains('e'), !plain.contains(&exponent), "{own}");
            if plain == FIXED {
                assert_eq!(own.len(), value.to_string().len(), "{own} and {value}");
            }
        }
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
