//! An automaton over the keys of a dictionary, for parts of runs.

use tantivy_fst::Automaton;

/// Accepts keys that hold a needle, or end with it (Knuth, Morris, Pratt).
pub(super) struct Inside {
    needle: Vec<u8>,
    fallback: Vec<usize>,
    at_end: bool,
}

impl Inside {
    pub(super) fn new(needle: &[u8], at_end: bool) -> Self {
        let mut automaton = Self { needle: needle.to_vec(), fallback: vec![0; needle.len() + 1], at_end };
        let mut state = 0;
        for (at, byte) in needle.iter().enumerate().skip(1) {
            state = automaton.step(state, *byte);
            if let Some(slot) = automaton.fallback.get_mut(at + 1) {
                *slot = state;
            }
        }
        automaton
    }

    fn step(&self, mut state: usize, byte: u8) -> usize {
        loop {
            if self.needle.get(state) == Some(&byte) {
                return state + 1;
            }
            if state == 0 {
                return 0;
            }
            state = self.fallback.get(state).copied().unwrap_or(0);
        }
    }
}

impl Automaton for Inside {
    type State = usize;

    fn start(&self) -> usize {
        0
    }

    fn is_match(&self, state: &usize) -> bool {
        *state == self.needle.len()
    }

    fn will_always_match(&self, state: &usize) -> bool {
        !self.at_end && self.is_match(state)
    }

    fn accept(&self, state: &usize, byte: u8) -> usize {
        if self.will_always_match(state) { *state } else { self.step(*state, byte) }
    }
}
