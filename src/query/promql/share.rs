//! Which series a ratio picks (`limit_ratio`): by the hash of their labels, so that the same series are
//! picked whenever and wherever the query runs, and those that a Prometheus of the usual build picks:
//! xxHash64 of the names and values in order, each after its length.

use super::value::nameless;
use crate::base::xxhash::xxhash64;
use crate::model::labels::Labels;

/// Adds a text after its length: a byte, or 255 and three bytes.
fn put(bytes: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length @ 0..=254) => bytes.push(length),
        Ok(255) | Err(_) => {
            let [low, middle, high, ..] = text.len().to_le_bytes();
            bytes.extend([255, low, middle, high]);
        }
    }
    bytes.extend_from_slice(text.as_bytes());
}

/// The place of a series among all, from 0 to 1. The name counts unless it goes at the end of the query.
pub(super) fn share_of(labels: &Labels, drop_name: bool) -> f64 {
    let own = if drop_name { &nameless(labels) } else { labels };
    let mut bytes = Vec::with_capacity(labels.bytes());
    for (name, value) in own {
        put(&mut bytes, name);
        put(&mut bytes, value);
    }
    xxhash64(&bytes) as f64 / u64::MAX as f64
}

/// Whether a place is in the share that a ratio picks: a positive one from the low end, a negative one
/// from the high end, so that `r` and `r - 1` together pick each series once.
pub(super) fn in_ratio(share: f64, ratio: f64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    if ratio >= 0.0 { share < ratio } else { share >= 1.0 + ratio }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)], drop_name: bool) -> u64 {
        // A float has the upper half whole.
        (share_of(&Labels::from_pairs(pairs.iter().copied()).unwrap(), drop_name) * u64::MAX as f64) as u64 >> 32
    }

    #[test]
    fn a_share_is_that_of_the_bytes_of_labels_wherever_it_is_computed() {
        let hash = |bytes: &[u8]| xxhash64(bytes) >> 32;
        let pairs = [("__name__", "up"), ("job", "shop")];
        assert_eq!(of(&pairs, false), hash(b"\x08__name__\x02up\x03job\x04shop"));
        assert_eq!(of(&pairs, true), hash(b"\x03job\x04shop"));
        let long = "x".repeat(300);
        let bytes = [b"\x01a\xff\x2c\x01\x00", long.as_bytes()].concat();
        assert_eq!(of(&[("a", &long)], false), hash(&bytes));
    }

    #[test]
    fn a_ratio_and_its_complement_pick_each_series_once() {
        for at in 0..1_000 {
            let labels = Labels::from_pairs([("n", at.to_string())]).unwrap();
            let share = share_of(&labels, false);
            assert_ne!(in_ratio(share, 0.3), in_ratio(share, -0.7));
        }
    }
}
