//! Under `--cfg fuzzing` alone: what lies in a frame is changed after its checksum held, as the fuzz target
//! that reads parts says. Otherwise no change would get past the checksum.

use parking_lot::Mutex;

static EDITS: Mutex<(Vec<u8>, usize)> = Mutex::new((Vec::new(), 0));

/// From now on `edits` say what is changed: of each frame in turn a byte says how many of its bytes, then four
/// bytes each say which and how.
pub fn set(edits: &[u8]) {
    *EDITS.lock() = (edits.to_vec(), 0);
}

pub(super) fn change(mut payload: Vec<u8>) -> Vec<u8> {
    let mut edits = EDITS.lock();
    let (bytes, at) = &mut *edits;
    let mut next = || {
        let byte = bytes.get(*at).copied();
        *at += 1;
        byte
    };
    for _ in 0..next().unwrap_or_default() % 4 {
        let (Some(high), Some(low), Some(way), Some(value)) = (next(), next(), next(), next()) else { break };
        let place = usize::from(u16::from_be_bytes([high, low])) % payload.len().max(1);
        match way % 4 {
            0 => payload.truncate(place),
            1 => payload.insert(place.min(payload.len()), value),
            2 => payload.iter_mut().skip(place).take(1).for_each(|byte| *byte = value),
            _ => payload.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << (value % 8)),
        }
    }
    payload
}
