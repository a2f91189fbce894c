//! Whole numbers as bits of one width: each less the smallest of them, or the step to it from the
//! one before less the smallest step, in units of what all have in common. Few numbers far off the
//! others are patches beside them; where many repeat the one before, only changes are written.
//! Decoding is a few plain loops over a few hundred numbers.
//! Bytes: docs/format/metrics.md.

use crate::store::codec::{Malformed, Reader, put_signed, put_varint};

const STEPS: u8 = 1;
const UNIT: u8 = 2;
const REPEATS: u8 = 4;
const PATCHES: u8 = 8;
/// Numbers looked at to tell the bulk from what is far off.
const SAMPLES: usize = 31;
/// A bulk this many bits narrower than the whole is worth patches.
const NARROWER: u32 = 3;
/// About what a patch takes beside its bits.
const PATCH_BITS: u64 = 16;

/// Memory that [`encode`] uses again and again.
#[derive(Default)]
pub struct Work {
    kept: Vec<i64>,
    steps: Vec<i64>,
    patches: Vec<(usize, u64)>,
}

/// How numbers are written.
#[derive(Clone, Copy, Debug)]
struct Plan {
    steps: bool,
    repeats: bool,
    base: i64,
    width: u32,
    patched: bool,
    bits: u64,
}

fn width(value: u64) -> u32 {
    64 - value.leading_zeros()
}

fn number(width: u32) -> u64 {
    u64::MAX.checked_shr(64 - width).unwrap_or(0)
}

/// Smallest, largest, and how far apart.
fn bounds(numbers: &[i64]) -> (i64, u32) {
    let (min, max) = numbers.iter().fold((i64::MAX, i64::MIN), |(min, max), own| (min.min(*own), max.max(*own)));
    (min, if numbers.is_empty() { 0 } else { width(max.wrapping_sub(min) as u64) })
}

/// The lower edge of the bulk of the numbers, when it is much narrower than `whole`.
fn bulk(numbers: &[i64], whole: u32) -> Option<i64> {
    if numbers.len() < SAMPLES || whole < NARROWER {
        return None;
    }
    let mut samples = [0; SAMPLES];
    let stride = numbers.len() / SAMPLES;
    for (sample, own) in samples.iter_mut().zip(numbers.iter().step_by(stride)) {
        *sample = *own;
    }
    samples.sort_unstable();
    let (low, high) = (samples[SAMPLES / 7], samples[SAMPLES - 1 - SAMPLES / 7]);
    let spread = high.wrapping_sub(low);
    if width(spread as u64) + NARROWER > whole {
        return None;
    }
    // The smallest that lies not far below the samples.
    let edge = low.saturating_sub(spread);
    numbers.iter().copied().filter(|own| *own >= edge).min()
}

/// The cheapest width for the distances from `base`, and the bits it takes.
fn patched(numbers: &[i64], base: i64) -> (u32, u64) {
    let mut counts = [0u64; 65];
    for own in numbers {
        if let Some(count) = counts.get_mut(width(own.wrapping_sub(base) as u64) as usize) {
            *count += 1;
        }
    }
    let (mut best, mut over, mut over_bits) = ((64, 64 * numbers.len() as u64), 0, 0);
    for (width, count) in counts.iter().enumerate().rev() {
        let width = width as u64;
        let bits = numbers.len() as u64 * width + over * PATCH_BITS + over_bits - over * width;
        if bits <= best.1 {
            best = (width as u32, bits);
        }
        over += count;
        over_bits += count * width;
    }
    best
}

fn plan_one(numbers: &[i64], steps: bool) -> Plan {
    let (base, whole) = bounds(numbers);
    let mut plan = Plan { steps, repeats: false, base, width: whole, patched: false, bits: 0 };
    plan.bits = numbers.len() as u64 * u64::from(whole);
    if let Some(base) = bulk(numbers, whole) {
        let (width, bits) = patched(numbers, base);
        if bits < plan.bits {
            plan = Plan { base, width, patched: true, bits, ..plan };
        }
    }
    plan
}

fn put_steps(numbers: &[i64], steps: &mut Vec<i64>) {
    steps.clear();
    let pairs = numbers.iter().zip(numbers.get(1..).unwrap_or_default());
    steps.extend(pairs.map(|(before, own)| own.wrapping_sub(*before)));
}

fn plan(numbers: &[i64], work: &mut Work) -> Plan {
    let plain = plan_one(numbers, false);
    put_steps(numbers, &mut work.steps);
    let mut stepped = plan_one(&work.steps, true);
    stepped.bits += 8 + u64::from(width(numbers.first().copied().unwrap_or_default().unsigned_abs()));
    let mut best = if stepped.bits < plain.bits { stepped } else { plain };
    let repeats = work.steps.iter().filter(|step| **step == 0).count();
    let kept = (numbers.len() - repeats) as u64;
    let bits = |plan: &Plan| numbers.len() as u64 + kept * u64::from(plan.width) + 16;
    for other in [plain, stepped] {
        if repeats > 0 && !other.patched && bits(&other) < best.bits {
            best = Plan { repeats: true, bits: bits(&other), ..other };
        }
    }
    best
}

/// About how many bytes [`encode`] takes.
pub fn bytes(numbers: &[i64], work: &mut Work) -> u64 {
    plan(numbers, work).bits / 8
}

/// Appends `numbers`.
pub fn encode(out: &mut Vec<u8>, numbers: &[i64], work: &mut Work) {
    let mut plan = plan(numbers, work);
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    let mut flags = if plan.steps { STEPS } else { 0 };
    if plan.repeats {
        flags |= REPEATS;
        put_repeats(out, numbers, &mut work.kept);
    } else {
        work.kept.clear();
        work.kept.extend_from_slice(numbers);
    }
    if plan.steps {
        put_signed(out, work.kept.first().copied().unwrap_or_default());
        put_steps(&work.kept, &mut work.steps);
        std::mem::swap(&mut work.kept, &mut work.steps);
    }
    if plan.repeats {
        // Without the steps of none, or the numbers said again, the bounds may be closer.
        (plan.base, plan.width) = bounds(&work.kept);
    }
    put_signed(out, if work.kept.is_empty() { 0 } else { plan.base });
    work.kept.iter_mut().for_each(|own| *own = own.wrapping_sub(plan.base));
    if !plan.patched {
        let unit = unit(&work.kept);
        if unit > 1 {
            flags |= UNIT;
            put_varint(out, unit);
            work.kept.iter_mut().for_each(|own| *own = (*own as u64 / unit) as i64);
            plan.width = width(work.kept.iter().map(|own| *own as u64).max().unwrap_or_default());
        }
    } else {
        flags |= PATCHES;
        put_patches(out, plan.width, work);
    }
    put_bits(out, &work.kept, plan.width);
    if let Some(head) = out.get_mut(at..at + 2) {
        head.copy_from_slice(&[flags, plan.width as u8]);
    }
}

/// A bit for each number: whether it repeats the one before, the lowest bit first.
fn put_repeats(out: &mut Vec<u8>, numbers: &[i64], kept: &mut Vec<i64>) {
    kept.clear();
    let mut last = None;
    for eight in numbers.chunks(8) {
        let mut byte = 0;
        for (at, own) in eight.iter().enumerate() {
            if last == Some(*own) {
                byte |= 1 << at;
            } else {
                kept.push(*own);
            }
            last = Some(*own);
        }
        out.push(byte);
    }
}

/// What all numbers are a multiple of.
fn unit(numbers: &[i64]) -> u64 {
    let mut unit = 0u64;
    for own in numbers {
        let mut other = *own as u64;
        while other != 0 {
            (unit, other) = (other, unit % other);
        }
        if unit == 1 {
            break;
        }
    }
    unit
}

fn put_patches(out: &mut Vec<u8>, width: u32, work: &mut Work) {
    work.patches.clear();
    let fits = number(width);
    for (at, own) in work.kept.iter_mut().enumerate() {
        let value = *own as u64;
        if value > fits {
            work.patches.push((at, value.checked_shr(width).unwrap_or(0)));
            *own = (value & fits) as i64;
        }
    }
    put_varint(out, work.patches.len() as u64);
    let mut next = 0;
    for (at, high) in &work.patches {
        put_varint(out, (at - next) as u64);
        put_varint(out, *high);
        next = at + 1;
    }
}

fn put_bits(out: &mut Vec<u8>, numbers: &[i64], width: u32) {
    if width == 0 {
        return;
    }
    let (mut word, mut filled) = (0u64, 0);
    for own in numbers {
        let own = *own as u64;
        word |= own << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= 64;
            word = own.checked_shr(width - filled).unwrap_or(0);
        }
    }
    out.extend_from_slice(word.to_le_bytes().get(..filled.div_ceil(8) as usize).unwrap_or_default());
}

/// Reads `count` numbers into `numbers`, which is cleared first.
///
/// # Errors
/// [`Malformed`]. The caller has made sure that `count` is not too large.
pub fn decode(reader: &mut Reader<'_>, count: usize, numbers: &mut Vec<i64>) -> Result<(), Malformed> {
    let (flags, width) = (reader.byte()?, u32::from(reader.byte()?));
    if flags > 15 || width > 64 {
        return Err(Malformed("unknown coding of numbers"));
    }
    let repeats = if flags & REPEATS != 0 { reader.take(count.div_ceil(8))? } else { &[] };
    let repeated: usize = repeats.iter().map(|byte| byte.count_ones() as usize).sum();
    let kept = count.checked_sub(repeated).ok_or(Malformed("more repeats than numbers"))?;
    let first = if flags & STEPS != 0 { reader.signed()? } else { 0 };
    let packed = if flags & STEPS != 0 { kept.saturating_sub(1) } else { kept };
    let base = reader.signed()?;
    let unit = if flags & UNIT != 0 { reader.varint()? as i64 } else { 1 };
    let patches = if flags & PATCHES != 0 { skip_patches(reader, packed)? } else { Reader::new(&[]) };
    numbers.clear();
    numbers.reserve(count);
    take_bits(reader.take((packed * width as usize).div_ceil(8))?, width, packed, numbers);
    patch(patches, width, numbers)?;
    if flags & STEPS != 0 {
        let mut own = first;
        for step in numbers.iter_mut() {
            let before = own;
            own = own.wrapping_add(base).wrapping_add(step.wrapping_mul(unit));
            *step = before;
        }
        if kept > 0 {
            numbers.push(own);
        }
    } else if unit == 1 {
        numbers.iter_mut().for_each(|own| *own = own.wrapping_add(base));
    } else {
        numbers.iter_mut().for_each(|own| *own = base.wrapping_add(own.wrapping_mul(unit)));
    }
    if repeated > 0 { repeat(repeats, count, numbers) } else { Ok(()) }
}

fn skip_patches<'a>(reader: &mut Reader<'a>, max: usize) -> Result<Reader<'a>, Malformed> {
    let patches = reader.clone();
    for _ in 0..reader.count(max)? {
        reader.varint()?;
        reader.varint()?;
    }
    Ok(patches)
}

fn patch(mut patches: Reader<'_>, width: u32, numbers: &mut [i64]) -> Result<(), Malformed> {
    if patches.is_empty() {
        return Ok(());
    }
    let mut next = 0usize;
    for _ in 0..patches.varint()? {
        let at = next.saturating_add(patches.count(numbers.len())?);
        let own = numbers.get_mut(at).ok_or(Malformed("a patch lies outside its block"))?;
        *own |= patches.varint()?.checked_shl(width).unwrap_or(0) as i64;
        next = at + 1;
    }
    Ok(())
}

/// Puts repeated numbers where they were, from the end.
fn repeat(repeats: &[u8], count: usize, numbers: &mut Vec<i64>) -> Result<(), Malformed> {
    let short = Malformed("a number repeats none");
    let mut from = numbers.len();
    numbers.resize(count, 0);
    for to in (0..count).rev() {
        let repeats = repeats.get(to / 8).is_some_and(|byte| byte >> (to % 8) & 1 == 1);
        let own = *numbers.get(from.checked_sub(1).ok_or(short)?).ok_or(short)?;
        *numbers.get_mut(to).ok_or(short)? = own;
        from -= usize::from(!repeats);
    }
    if from == 0 { Ok(()) } else { Err(short) }
}

fn take_bits(bytes: &[u8], width: u32, count: usize, numbers: &mut Vec<i64>) {
    if width == 0 {
        return numbers.resize(count, 0);
    }
    let (step, mask) = (width as usize, number(width));
    let mut bit = 0;
    // A number of up to 57 bits lies in the eight bytes from where it begins.
    if width <= 57 {
        let whole = if bytes.len() < 8 { 0 } else { (8 * (bytes.len() - 8) + 7) / step + 1 }.min(count);
        numbers.extend((0..whole).map(|at| {
            let bit = at * step;
            let word = bytes.get(bit / 8..).and_then(|rest| rest.first_chunk::<8>()).copied().unwrap_or_default();
            (u64::from_le_bytes(word) >> (bit % 8) & mask) as i64
        }));
        bit = whole * step;
    }
    for _ in numbers.len()..count {
        let mut word = [0; 16];
        for (to, from) in word.iter_mut().zip(bytes.get(bit / 8..).unwrap_or_default()) {
            *to = *from;
        }
        numbers.push((u128::from_le_bytes(word) >> (bit % 8)) as u64 as i64 & mask as i64);
        bit += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_round_trip(numbers: &[i64]) -> usize {
        let mut out = Vec::new();
        encode(&mut out, numbers, &mut Work::default());
        let len = out.len();
        out.push(77);
        let (mut reader, mut found) = (Reader::new(&out), vec![1]);
        decode(&mut reader, numbers.len(), &mut found).unwrap();
        assert_eq!(found, numbers);
        assert_eq!(reader.rest(), [77]);
        len
    }

    #[test]
    fn every_width_comes_back() {
        check_round_trip(&[]);
        check_round_trip(&[5]);
        check_round_trip(&[i64::MIN, i64::MAX, 0, -1, i64::MIN]);
        for width in 0..64 {
            for count in [1, 2, 7, 8, 9, 63, 64, 65, 280] {
                let numbers: Vec<i64> = (0..count)
                    .map(|at: i64| (at.wrapping_mul(0x2545_F491_4F6C_DD1D) as u64 >> (63 - width)) as i64)
                    .collect();
                check_round_trip(&numbers);
            }
        }
    }

    #[test]
    fn one_number_far_off_does_not_widen_the_others() {
        let mut numbers: Vec<i64> = (0..280).map(|at| at * 100 + at * at * 7919 % 61).collect();
        let plain = check_round_trip(&numbers);
        numbers[140..].iter_mut().for_each(|own| *own -= 1_000_000_000);
        assert!(check_round_trip(&numbers) < plain + 24);
    }

    #[test]
    fn what_numbers_have_in_common_is_written_once() {
        let numbers: Vec<i64> = (0..280).map(|at| at * 7919 % 16 * 4096).collect();
        assert!(check_round_trip(&numbers) <= 8 + 280 / 2);
        let seldom: Vec<i64> = (0..280).map(|at| at / 70 * 1000).collect();
        assert!(check_round_trip(&seldom) < 30);
        let often: Vec<i64> = (0..280).map(|at| at / 3 * 7919 % 65_521).collect();
        assert!(check_round_trip(&often) < 280 / 8 + 2 * 280 / 3 + 20);
    }

    proptest! {
        #[test]
        fn any_numbers_round_trip(numbers: Vec<i64>) {
            check_round_trip(&numbers);
        }

        #[test]
        fn near_numbers_with_outliers_round_trip(numbers in prop::collection::vec(-9i64..9, 40..300), far: Vec<(u8, i64)>) {
            let mut numbers = numbers;
            for (at, far) in far {
                let at = usize::from(at) % numbers.len();
                numbers[at] = far;
            }
            check_round_trip(&numbers);
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>, count in 0usize..500) {
            let _ = decode(&mut Reader::new(&bytes), count, &mut Vec::new());
        }
    }
}
