//! What the targets share: changes of messages that leave their lengths right, besides those of single bytes
//! that libFuzzer makes.

use libfuzzer_sys::fuzzer_mutate;
use trilith::wire;

/// As the changes below name it.
#[path = "."]
mod base {
    #[path = "../../src/base/mutate.rs"]
    #[allow(dead_code)]
    pub mod mutate;
}
#[path = "../../src/wire/tests/mutations.rs"]
mod mutations;

use base::mutate::Mutator;
use wire::decompress::{Encoding, decompress};

/// Most bytes of an input that is decompressed before it is changed.
const INFLATED_MAX: usize = 1 << 20;

/// Puts `changed` in the place of the input, which `data` begins with; what is too long is as libFuzzer does it.
fn put(changed: Option<Vec<u8>>, data: &mut [u8], size: usize, max_size: usize) -> usize {
    match changed {
        Some(changed) if changed.len() <= max_size => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
}

/// Changes a protobuf message: half the time its fields, else its bytes. Where it is packed as snappy it is unpacked.
pub fn change_protobuf(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let changed = seed.is_multiple_of(2).then(|| {
        let good = decompress(Encoding::Snappy, &data[..size], INFLATED_MAX).ok()?;
        mutations::protobuf(&good, seed.into())
    });
    let changed = changed.map(|changed| changed.or_else(|| mutations::protobuf(&data[..size], seed.into())));
    put(changed.flatten(), data, size, max_size)
}

/// Changes JSON: half the time its values, else its bytes.
pub fn change_json(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let changed =
        seed.is_multiple_of(2).then(|| mutations::json(std::str::from_utf8(&data[..size]).ok()?, seed.into()));
    put(changed.flatten(), data, size, max_size)
}

/// Now and then something valid, made of a seed, instead of the input; else libFuzzer's change. What is valid is
/// the start of what is nearly so.
pub fn change_or_valid(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    valid: impl FnOnce(&[u8], u32) -> Vec<u8>,
) -> usize {
    let changed = Mutator::new(seed.into()).below(64) == 0;
    let changed = changed.then(|| valid(&data[..size], seed));
    put(changed, data, size, max_size)
}

/// Bytes of one edit for [`edit`].
pub const EDIT_BYTES: usize = 4;

/// One change that four bytes of an input mean: two say where, one how, one with what.
pub fn edit(content: &mut Vec<u8>, [high, low, way, value]: [u8; EDIT_BYTES]) {
    let place = usize::from(u16::from_be_bytes([high, low])) % content.len().max(1);
    match way % 5 {
        0 => content.truncate(place),
        1 => content.insert(place.min(content.len()), value),
        2 => content.iter_mut().skip(place).take(1).for_each(|byte| *byte = value),
        3 => {
            let end = (place + 1 + usize::from(value % 16)).min(content.len());
            let piece = content.get(place..end).unwrap_or_default().to_vec();
            content.splice(place..place, piece);
        }
        _ => content.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << (value % 8)),
    }
}
