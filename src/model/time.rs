//! Times with their unit in the type. Conversions say how they round.

/// Milliseconds since the Unix epoch, the clock of metrics. May be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMs(pub i64);

/// Nanoseconds since the Unix epoch, the clock of logs and traces. May be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampNs(pub i64);

impl TimestampNs {
    /// Rounds towards the past, also before 1970, where `/` would round towards the future.
    pub fn floor_ms(self) -> TimestampMs {
        TimestampMs(self.0.div_euclid(1_000_000))
    }
}

/// Metrics between two times in milliseconds, both inclusive. Empty when `start > end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RangeMs {
    /// First millisecond in the range.
    pub start: i64,
    /// Last millisecond in the range.
    pub end: i64,
}

impl RangeMs {
    /// All of time.
    pub const ALL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// Whether `t` lies in the range.
    pub fn contains(self, t: i64) -> bool {
        self.start <= t && t <= self.end
    }

    /// Whether data that spans `min..=max` can have something in the range.
    pub fn overlaps(self, min: i64, max: i64) -> bool {
        self.start <= max && min <= self.end
    }
}

/// Logs and spans between two times in nanoseconds: `start` is in, `end` is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RangeNs {
    /// First nanosecond in the range.
    pub start: i64,
    /// First nanosecond after the range.
    pub end: i64,
}

impl RangeNs {
    /// All of time (but its very last nanosecond).
    pub const ALL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// Whether `t` lies in the range.
    pub fn contains(self, t: i64) -> bool {
        self.start <= t && t < self.end
    }

    /// Whether data that spans `min..=max` can have something in the range.
    pub fn overlaps(self, min: i64, max: i64) -> bool {
        self.start <= max && min < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_round_to_the_past_also_before_1970() {
        assert_eq!(TimestampNs(-1).floor_ms(), TimestampMs(-1));
        assert_eq!(TimestampNs(1_999_999).floor_ms(), TimestampMs(1));
    }
}
