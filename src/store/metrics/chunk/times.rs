//! A column of times: the first, then by how much each step differs from the one before, runs of no
//! difference counted.
//! Bytes: docs/format/metrics.md.

use crate::store::codec::{Malformed, Reader, put_signed, put_varint};

/// Appends times.
pub fn encode(out: &mut Vec<u8>, times: &[i64]) {
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

/// Reads `count` times.
///
/// # Errors
/// [`Malformed`]. The caller has made sure that `count` is not too large.
pub fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    let mut times = Vec::with_capacity(count);
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
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_round_trip(times: &[i64]) -> usize {
        let mut out = Vec::new();
        encode(&mut out, times);
        let mut reader = Reader::new(&out);
        assert_eq!(decode(&mut reader, times.len()).unwrap(), times);
        assert!(reader.is_empty());
        out.len()
    }

    #[test]
    fn regular_times_take_a_few_bytes() {
        let times: Vec<i64> = (0..280).map(|at| 1_700_000_000_000 + at * 15_000).collect();
        assert!(check_round_trip(&times) < 14);
        check_round_trip(&[i64::MIN, i64::MAX, 0]);
        check_round_trip(&[]);
        check_round_trip(&[0, 0, 0, 5]);
    }

    proptest! {
        #[test]
        fn any_times_round_trip(times: Vec<i64>) {
            check_round_trip(&times);
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>, count in 0usize..500) {
            let _ = decode(&mut Reader::new(&bytes), count);
        }
    }
}
