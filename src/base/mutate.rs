//! Valid bytes made wrong, for properties of decoders: what is random dies at the first check, what was
//! valid a moment ago reaches the code behind it. Whoever has checksums or lengths mends them afterwards.
//! Seeded: a failure is repeated by its seed.

/// A source of damage.
#[derive(Clone, Debug)]
pub(crate) struct Mutator(u64);

impl Mutator {
    /// A source of its own for each `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// A number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`; 0 when that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    /// One of `all`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A number that finds ends of ranges: 0, powers of two and their neighbours, of any width.
    pub(crate) fn number(&mut self) -> u64 {
        let power = 1u64 << self.below(64);
        [0, 1, power, power - 1, power | 1, u64::MAX, i64::MAX as u64, self.next()][self.below(8)]
    }

    /// The bytes with one to three changes: flipped, set, cut out, repeated, moved, cut short, put in.
    pub(crate) fn bytes(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(16)).min(bytes.len());
            let piece = bytes.get(at..end).unwrap_or_default().to_vec();
            match (self.below(8), bytes.get_mut(at)) {
                (0 | 1, Some(byte)) => *byte ^= 1 << self.below(8),
                (2, Some(byte)) => *byte = *self.pick(&[0, 1, 0x7f, 0x80, 0xfe, 0xff]),
                (3, Some(_)) => drop(bytes.drain(at..end)),
                (4, Some(_)) => drop(bytes.splice(at..at, piece.repeat(1 + self.below(8)))),
                (5, Some(_)) => {
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                (6, Some(_)) if self.below(4) == 0 => bytes.truncate(at),
                _ => drop(bytes.splice(
                    at..at,
                    self.number().to_le_bytes().into_iter().take(1 + self.below(8)).collect::<Vec<_>>(),
                )),
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_damage_and_most_seeds_give_some() {
        let good: Vec<u8> = (0..100).collect();
        let of = |seed| Mutator::new(seed).bytes(&good);
        assert!((0..100).all(|seed| of(seed) == of(seed)));
        let different: std::collections::HashSet<Vec<u8>> = (0..100).map(of).filter(|bytes| *bytes != good).collect();
        assert!(different.len() > 90, "{}", different.len());
        assert!(Mutator::new(1).bytes(&[]).len() <= 24);
    }
}
