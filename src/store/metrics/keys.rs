//! Label sets of one frame of a part, as keys, in one text.

/// Label sets of one frame, as keys.
#[derive(Default)]
pub struct Keys {
    text: String,
    ends: Vec<usize>,
    numbers: Vec<u32>,
}

impl Keys {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.numbers.clear();
    }

    /// Adds a series.
    pub fn push(&mut self, number: u32, key: &str) {
        self.text.push_str(key);
        self.ends.push(self.text.len());
        self.numbers.push(number);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        (0..self.ends.len()).filter_map(|at| self.get(at))
    }

    /// Key and number of the series at a place.
    pub fn get(&self, at: usize) -> Option<(&str, u32)> {
        let start = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        Some((self.text.get(start..*self.ends.get(at)?)?, *self.numbers.get(at)?))
    }
}
