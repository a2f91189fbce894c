//! Float samples of one series in a part: the column of times, then that of values, in whole bytes,
//! so that the compression of the frame finds what series have in common.
//! Times: deltas of deltas, runs of zeros counted. Values: a constant, or whole multiples of a
//! power of ten as deltas (with exceptions such as stale markers), or XOR with the value before.
//! Bytes: docs/format/metrics.md.

use crate::store::codec::{Malformed, Reader, put_signed, put_varint};

const MODE_CONSTANT: u8 = 0;
const MODE_DECIMAL: u8 = 1;
const MODE_XOR: u8 = 2;
/// Most samples in one column; a larger count is damage.
pub const SAMPLES_MAX: usize = 1 << 16;
/// Largest power of ten that values are multiplied with.
const EXPONENT_MAX: u8 = 9;
/// Whole numbers up to here are exact as doubles.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends samples; `times` and `values` have one length of at most [`SAMPLES_MAX`].
pub fn encode(out: &mut Vec<u8>, times: &[i64], values: &[f64]) {
    debug_assert!(times.len() == values.len() && times.len() <= SAMPLES_MAX, "one value for each time");
    put_times(out, times);
    put_values(out, values);
}

fn put_times(out: &mut Vec<u8>, times: &[i64]) {
    let (mut last, mut delta, mut zeros) = (0i64, 0i64, 0u64);
    for (at, t) in times.iter().enumerate() {
        let step = t.wrapping_sub(last);
        let change = step.wrapping_sub(delta);
        last = *t;
        // The first time is no step, so that the second one is not a jump back.
        delta = if at == 0 { 0 } else { step };
        if change == 0 {
            zeros += 1;
            continue;
        }
        put_zeros(out, &mut zeros);
        put_signed(out, change);
    }
    put_zeros(out, &mut zeros);
}

fn put_zeros(out: &mut Vec<u8>, zeros: &mut u64) {
    if *zeros > 0 {
        out.push(0);
        put_varint(out, *zeros - 1);
        *zeros = 0;
    }
}

fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    let first = values.first().copied().unwrap_or_default().to_bits();
    if values.iter().all(|value| value.to_bits() == first) {
        out.push(MODE_CONSTANT);
        out.extend_from_slice(&first.to_le_bytes());
    } else if let Some((exponent, wholes, exceptions)) = decimals(values) {
        put_decimals(out, exponent, &wholes, &exceptions);
    } else {
        out.push(MODE_XOR);
        put_xors(out, values);
    }
}

type Decimals = (u8, Vec<i64>, Vec<(usize, u64)>);

/// The smallest power of ten that makes nearly all values whole, the whole numbers (the one
/// before, where a value is an exception) and the exceptions.
fn decimals(values: &[f64]) -> Option<Decimals> {
    let exceptions_max = values.len() / 8 + 1;
    let mut exponent = 0;
    // Most columns fail or succeed by their first values; only then all are tried.
    let sample = values.get(..values.len().min(16)).unwrap_or(values);
    loop {
        if sample.iter().filter(|value| whole(**value, exponent).is_none()).count() <= sample.len() / 8 + 1
            && let Some(found) = convert(values, exponent, exceptions_max)
        {
            return Some(found);
        }
        if exponent == EXPONENT_MAX {
            return None;
        }
        exponent += 1;
    }
}

fn convert(values: &[f64], exponent: u8, exceptions_max: usize) -> Option<Decimals> {
    let (mut wholes, mut exceptions) = (Vec::with_capacity(values.len()), Vec::new());
    for (at, value) in values.iter().enumerate() {
        match whole(*value, exponent) {
            Some(whole) => wholes.push(whole),
            None if exceptions.len() == exceptions_max => return None,
            None => {
                exceptions.push((at, value.to_bits()));
                wholes.push(wholes.last().copied().unwrap_or_default());
            }
        }
    }
    Some((exponent, wholes, exceptions))
}

fn power(exponent: u8) -> f64 {
    10f64.powi(i32::from(exponent.min(EXPONENT_MAX)))
}

/// The whole number that [`unwhole`] turns into `value`, bit for bit.
fn whole(value: f64, exponent: u8) -> Option<i64> {
    let scaled = (value * power(exponent)).round();
    if scaled.abs() > WHOLE_MAX {
        return None;
    }
    let whole = scaled as i64;
    (unwhole(whole, exponent).to_bits() == value.to_bits()).then_some(whole)
}

fn unwhole(whole: i64, exponent: u8) -> f64 {
    // Both are exact, so the quotient is the double nearest to the decimal number.
    whole as f64 / power(exponent)
}

fn put_decimals(out: &mut Vec<u8>, exponent: u8, wholes: &[i64], exceptions: &[(usize, u64)]) {
    out.push(MODE_DECIMAL);
    out.push(exponent);
    put_varint(out, exceptions.len() as u64);
    let mut next = 0;
    for (at, bits) in exceptions {
        put_varint(out, (at - next) as u64);
        out.extend_from_slice(&bits.to_le_bytes());
        next = at + 1;
    }
    let mut last = 0i64;
    for whole in wholes {
        put_signed(out, whole.wrapping_sub(last));
        last = *whole;
    }
}

/// XOR with the value before: a byte that says how many bytes are zero in front and behind, then
/// those between.
fn put_xors(out: &mut Vec<u8>, values: &[f64]) {
    let mut last = 0u64;
    for value in values {
        let xor = value.to_bits() ^ last;
        last = value.to_bits();
        let (lead, trail) = if xor == 0 { (8, 0) } else { (xor.leading_zeros() / 8, xor.trailing_zeros() / 8) };
        out.push((lead << 4 | trail) as u8);
        let bytes = xor.to_be_bytes();
        out.extend_from_slice(bytes.get(lead as usize..8 - trail as usize).unwrap_or_default());
    }
}

/// Reads `count` samples into `times` and `values`, which are cleared first.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: &[u8], count: usize, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
    if count > SAMPLES_MAX {
        return Err(Malformed("too many samples in a column"));
    }
    let mut reader = Reader::new(bytes);
    take_times(&mut reader, count, times)?;
    take_values(&mut reader, count, values)?;
    if reader.is_empty() { Ok(()) } else { Err(Malformed("bytes behind a column")) }
}

fn take_times(reader: &mut Reader<'_>, count: usize, times: &mut Vec<i64>) -> Result<(), Malformed> {
    times.clear();
    times.reserve(count);
    let (mut last, mut delta) = (0i64, 0i64);
    while times.len() < count {
        let change = reader.signed()?;
        let repeat = if change == 0 { reader.count(count - times.len() - 1)? + 1 } else { 1 };
        for _ in 0..repeat {
            let step = delta.wrapping_add(change);
            last = last.wrapping_add(step);
            delta = if times.is_empty() { 0 } else { step };
            times.push(last);
        }
    }
    Ok(())
}

fn take_values(reader: &mut Reader<'_>, count: usize, values: &mut Vec<f64>) -> Result<(), Malformed> {
    values.clear();
    values.reserve(count);
    match reader.byte()? {
        MODE_CONSTANT => values.resize(count, reader.f64()?),
        MODE_DECIMAL => take_decimals(reader, count, values)?,
        MODE_XOR => take_xors(reader, count, values)?,
        _ => return Err(Malformed("unknown coding of values")),
    }
    Ok(())
}

fn take_decimals(reader: &mut Reader<'_>, count: usize, values: &mut Vec<f64>) -> Result<(), Malformed> {
    let exponent = reader.byte()?;
    if exponent > EXPONENT_MAX {
        return Err(Malformed("power of ten too large"));
    }
    let mut exceptions = Vec::new();
    for _ in 0..reader.count(count)? {
        exceptions.push((reader.count(count)?, reader.f64()?));
    }
    let power = power(exponent);
    let mut whole = 0i64;
    for _ in 0..count {
        whole = whole.wrapping_add(reader.signed()?);
        values.push(whole as f64 / power);
    }
    let mut next = 0usize;
    for (gap, value) in exceptions {
        let at = next + gap;
        *values.get_mut(at).ok_or(Malformed("an exception lies outside its column"))? = value;
        next = at + 1;
    }
    Ok(())
}

fn take_xors(reader: &mut Reader<'_>, count: usize, values: &mut Vec<f64>) -> Result<(), Malformed> {
    let mut last = 0u64;
    for _ in 0..count {
        let shape = usize::from(reader.byte()?);
        let (lead, trail) = (shape >> 4, shape & 15);
        let len = 8usize.checked_sub(lead + trail).ok_or(Malformed("a value of more than eight bytes"))?;
        let xor = reader.take(len)?.iter().fold(0u64, |xor, byte| xor << 8 | u64::from(*byte));
        last ^= xor.checked_shl(8 * trail as u32).unwrap_or_default();
        values.push(f64::from_bits(last));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_round_trip(times: &[i64], values: &[f64]) -> usize {
        let mut bytes = Vec::new();
        encode(&mut bytes, times, values);
        let (mut found_times, mut found) = (vec![1], vec![1.0]);
        decode(&bytes, times.len(), &mut found_times, &mut found).unwrap();
        assert_eq!(found_times, times);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(values));
        bytes.len()
    }

    fn steps(count: i64) -> Vec<i64> {
        (0..count).map(|at| 1_700_000_000_000 + at * 15_000).collect()
    }

    #[test]
    fn special_values_survive_by_their_bits() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let values = [1.0, stale, f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX, 0.1];
        check_round_trip(&steps(10), &values);
        check_round_trip(&steps(2), &[-0.0, 0.0]);
        check_round_trip(&[], &[]);
    }

    #[test]
    fn values_survive_the_widest_gap_in_time() {
        check_round_trip(&[i64::MIN, i64::MAX, i64::MIN, 0, 0, -1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn a_counter_with_a_stale_marker_takes_little_more_than_a_byte_a_sample() {
        let mut values: Vec<f64> = (0..480).map(|at| f64::from(at * 17 + 1_000_000)).collect();
        values[479] = f64::from_bits(0x7ff0_0000_0000_0002);
        assert!(check_round_trip(&steps(480), &values) < 480 + 40);
        let tenths: Vec<f64> = (0..480).map(|at| f64::from(at % 7) / 10.0).collect();
        assert!(check_round_trip(&steps(480), &tenths) < 480 + 40);
    }

    proptest! {
        #[test]
        fn any_samples_round_trip(samples: Vec<(i64, u64)>) {
            let times: Vec<_> = samples.iter().map(|sample| sample.0).collect();
            check_round_trip(&times, &samples.iter().map(|sample| f64::from_bits(sample.1)).collect::<Vec<_>>());
            check_round_trip(&times, &samples.iter().map(|sample| sample.1 as i32 as f64 / 1000.0).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>, count in 0usize..500) {
            let _ = decode(&bytes, count, &mut Vec::new(), &mut Vec::new());
        }
    }
}
