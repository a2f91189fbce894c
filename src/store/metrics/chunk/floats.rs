//! Float values of one block, bit for bit. Most are whole numbers or have few decimals: they become
//! whole numbers with a power of ten. Others become whole numbers with a power of two, or their bits
//! are taken for numbers in the order of the values. [`pack`] writes the numbers.
//! Values that do not go along (stale markers, infinities, -0) are exceptions beside the others.
//! Bytes: docs/format/metrics.md.

use super::pack;
use crate::store::codec::{Malformed, Reader, put_signed, put_varint};

const CONSTANT: u8 = 0;
const WHOLE_CONSTANT: u8 = 1;
const DECIMAL: u8 = 2;
const BINARY: u8 = 3;
const BITS: u8 = 4;
/// Flag of the mode: exceptions follow.
const EXCEPTIONS: u8 = 8;
/// Largest power of ten that values are multiplied with.
const DECIMALS_MAX: u8 = 14;
/// Largest power of two.
const BINARY_MAX: i32 = 1000;
/// Whole numbers up to here are exact as doubles.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Numbers of a power of two stay below this.
const BINARY_WHOLE_MAX: f64 = 4_611_686_018_427_387_904.0;
/// 10^0 to 10^14, each exact.
const POWERS: [f64; 15] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];

/// Memory that [`encode`] uses again and again.
#[derive(Default)]
pub struct Work {
    numbers: Vec<i64>,
    others: Vec<i64>,
    exceptions: Vec<(usize, u64)>,
    pack: pack::Work,
}

impl Work {
    /// For numbers of other kinds in the same block.
    pub fn pack(&mut self) -> &mut pack::Work {
        &mut self.pack
    }
}

/// Appends values.
pub fn encode(out: &mut Vec<u8>, values: &[f64], work: &mut Work) {
    let first = values.first().copied().unwrap_or_default();
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        return put_constant(out, first);
    }
    if let Some(decimals) = decimals(values, work) {
        return put(out, DECIMAL | decimals << 4, None, work);
    }
    let shift = binary(values, work);
    work.others.clear();
    work.others.extend(values.iter().map(|value| ordered(value.to_bits())));
    match shift {
        Some(shift) if pack::bytes(&work.numbers, &mut work.pack) <= pack::bytes(&work.others, &mut work.pack) => {
            put(out, BINARY, Some(shift), work);
        }
        _ => {
            out.push(BITS);
            pack::encode(out, &work.others, &mut work.pack);
        }
    }
}

fn put_constant(out: &mut Vec<u8>, value: f64) {
    if let Some(whole) = whole(value, 0).filter(|whole| whole.abs() < 1 << 40) {
        out.push(WHOLE_CONSTANT);
        put_signed(out, whole);
    } else {
        out.push(CONSTANT);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

fn put(out: &mut Vec<u8>, mode: u8, shift: Option<u64>, work: &mut Work) {
    out.push(if work.exceptions.is_empty() { mode } else { mode | EXCEPTIONS });
    if let Some(shift) = shift {
        put_varint(out, shift);
    }
    if !work.exceptions.is_empty() {
        put_varint(out, work.exceptions.len() as u64);
        let mut next = 0;
        for (at, bits) in &work.exceptions {
            put_varint(out, (at - next) as u64);
            out.extend_from_slice(&bits.to_le_bytes());
            next = at + 1;
        }
    }
    pack::encode(out, &work.numbers, &mut work.pack);
}

fn power(decimals: u8) -> f64 {
    POWERS.get(usize::from(decimals)).copied().unwrap_or(1.0)
}

/// The whole number that, divided by the power of ten, is `value`, bit for bit.
fn whole(value: f64, decimals: u8) -> Option<i64> {
    let power = power(decimals);
    let scaled = value * power;
    if scaled.is_nan() || scaled.abs() > WHOLE_MAX {
        return None;
    }
    let whole = (scaled + 0.5f64.copysign(scaled)) as i64;
    // Both are exact, so the quotient is the double nearest to the decimal number.
    (whole as f64 / power).to_bits().eq(&value.to_bits()).then_some(whole)
}

/// Fills the numbers with those of the smallest power of ten that does for nearly all values.
fn decimals(values: &[f64], work: &mut Work) -> Option<u8> {
    let exceptions_max = values.len() / 16 + 1;
    let mut decimals = 0;
    let mut odd = 0;
    // Some values tell how many decimals there are; then all are converted.
    for value in values.iter().step_by(values.len() / 16 + 1) {
        let mut own = decimals;
        while own <= DECIMALS_MAX && whole(*value, own).is_none() {
            own += 1;
        }
        if own <= DECIMALS_MAX {
            decimals = own;
        } else {
            odd += 1;
            if odd > 2 {
                return None;
            }
        }
    }
    while decimals <= DECIMALS_MAX {
        let failed = convert(values, exceptions_max, work, |value| whole(value, decimals));
        match failed {
            None => return Some(decimals),
            // The first value that would be one exception too many says how many decimals it needs.
            Some(value) => {
                decimals = (decimals + 1..=DECIMALS_MAX).find(|decimals| whole(value, *decimals).is_some())?;
            }
        }
    }
    None
}

/// Fills the numbers; returns the value that would be one exception too many.
fn convert(values: &[f64], exceptions_max: usize, work: &mut Work, number: impl Fn(f64) -> Option<i64>) -> Option<f64> {
    work.numbers.clear();
    work.exceptions.clear();
    let mut last = 0;
    for (at, value) in values.iter().enumerate() {
        match number(*value) {
            Some(number) => last = number,
            None if work.exceptions.len() == exceptions_max => return Some(*value),
            None => work.exceptions.push((at, value.to_bits())),
        }
        work.numbers.push(last);
    }
    None
}

/// Fills the numbers with those of the smallest power of two that does for nearly all values.
fn binary(values: &[f64], work: &mut Work) -> Option<u64> {
    let lowest = |value: f64| {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32;
        let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
        (exponent != 0 && exponent != 0x7ff).then(|| exponent - 1075 + mantissa.trailing_zeros() as i32)
    };
    let shift = -values.iter().filter_map(|value| lowest(*value)).min()?;
    if !(0..=BINARY_MAX).contains(&shift) {
        return None;
    }
    let power = 2f64.powi(shift);
    let failed = convert(values, values.len() / 16 + 1, work, |value| {
        let scaled = value * power;
        let plain = scaled.abs() < BINARY_WHOLE_MAX && (value != 0.0 || value.is_sign_positive());
        let whole = plain.then_some(scaled as i64)?;
        (whole as f64 == scaled).then_some(whole)
    });
    if failed.is_some() { None } else { u64::try_from(shift).ok() }
}

/// Bits as a number, in the order of the values.
fn ordered(bits: u64) -> i64 {
    let bits = bits as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// Reads `count` values and appends them to `values`; `numbers` is only used.
///
/// # Errors
/// [`Malformed`]. The caller has made sure that `count` is not too large.
pub fn decode(
    reader: &mut Reader<'_>,
    count: usize,
    numbers: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let mode = reader.byte()?;
    let before = values.len();
    match mode & 7 {
        CONSTANT => values.resize(before + count, reader.f64()?),
        WHOLE_CONSTANT => values.resize(before + count, reader.signed()? as f64),
        BITS => {
            pack::decode(reader, count, numbers)?;
            values.extend(numbers.iter().map(|number| f64::from_bits(ordered(*number as u64) as u64)));
        }
        DECIMAL => {
            let exceptions = skip_exceptions(reader, mode, count)?;
            pack::decode(reader, count, numbers)?;
            match mode >> 4 {
                0 => values.extend(numbers.iter().map(|number| *number as f64)),
                decimals => {
                    let power = power(decimals);
                    values.extend(numbers.iter().map(|number| *number as f64 / power));
                }
            }
            put_exceptions(exceptions, values, before)?;
        }
        BINARY => {
            let shift = reader.count(BINARY_MAX as usize)? as i32;
            let exceptions = skip_exceptions(reader, mode, count)?;
            pack::decode(reader, count, numbers)?;
            let power = 2f64.powi(-shift);
            values.extend(numbers.iter().map(|number| *number as f64 * power));
            put_exceptions(exceptions, values, before)?;
        }
        _ => return Err(Malformed("unknown coding of values")),
    }
    Ok(())
}

fn skip_exceptions<'a>(reader: &mut Reader<'a>, mode: u8, count: usize) -> Result<Reader<'a>, Malformed> {
    if mode & EXCEPTIONS == 0 {
        return Ok(Reader::new(&[]));
    }
    let exceptions = reader.clone();
    for _ in 0..reader.count(count)? {
        reader.varint()?;
        reader.u64()?;
    }
    Ok(exceptions)
}

fn put_exceptions(mut exceptions: Reader<'_>, values: &mut [f64], before: usize) -> Result<(), Malformed> {
    if exceptions.is_empty() {
        return Ok(());
    }
    let mut next = before;
    for _ in 0..exceptions.varint()? {
        let at = next.saturating_add(exceptions.count(values.len())?);
        *values.get_mut(at).ok_or(Malformed("an exception lies outside its block"))? = exceptions.f64()?;
        next = at + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_round_trip(values: &[f64]) -> usize {
        let mut out = Vec::new();
        encode(&mut out, values, &mut Work::default());
        let (mut reader, mut found) = (Reader::new(&out), vec![4.0]);
        decode(&mut reader, values.len(), &mut Vec::new(), &mut found).unwrap();
        assert!(reader.is_empty());
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found[1..]), bits(values));
        out.len()
    }

    #[test]
    fn special_values_survive_by_their_bits() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let special =
            [1.0, stale, f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX, f64::MIN, 0.1];
        check_round_trip(&special);
        check_round_trip(&[-0.0, 0.0]);
        check_round_trip(&[-0.0, -0.0]);
        check_round_trip(&[stale]);
        check_round_trip(&[]);
        for special in special {
            let mut values: Vec<f64> = (0..100).map(|at| f64::from(at) / 8.0).collect();
            values[50] = special;
            values[99] = special;
            check_round_trip(&values);
        }
    }

    #[test]
    fn ordinary_shapes_take_few_bytes() {
        let counter: Vec<f64> = (0..280).map(|at| f64::from(1_000_000 + at * 15 + at % 3)).collect();
        assert!(check_round_trip(&counter) < 280 / 4 + 16);
        let decimals: Vec<f64> = (0..280).map(|at| f64::from(at * 7919 % 1000) / 1000.0).collect();
        assert!(check_round_trip(&decimals) < 280 * 10 / 8 + 16);
        let mut random = 1u64;
        let noise: Vec<f64> = (0..280)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 12) as f64 / (1u64 << 51) as f64 - 1.0
            })
            .collect();
        assert!(check_round_trip(&noise) <= 280 * 52 / 8 + 16);
    }

    proptest! {
        #[test]
        fn any_values_round_trip(bits: Vec<u64>) {
            check_round_trip(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
        }

        #[test]
        fn values_of_few_decimals_round_trip(wholes in prop::collection::vec(-1_000_000i64..1_000_000, 1..300), decimals in 0usize..15) {
            check_round_trip(&wholes.iter().map(|whole| *whole as f64 / POWERS[decimals]).collect::<Vec<_>>());
        }

        #[test]
        fn values_of_a_power_of_two_round_trip(wholes: Vec<i64>, shift in -1074i32..1000) {
            check_round_trip(&wholes.iter().map(|whole| (*whole >> 11) as f64 * 2f64.powi(shift)).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>, count in 0usize..500) {
            let _ = decode(&mut Reader::new(&bytes), count, &mut Vec::new(), &mut Vec::new());
        }
    }
}
