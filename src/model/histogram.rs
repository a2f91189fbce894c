//! Native histograms (Prometheus, "Native Histograms" specification), counts as floats.
//! Integer histograms become floats without loss up to 2^53 per bucket.

/// Schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// What is known about a counter reset before this sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHint {
    /// Must be found out by comparing.
    #[default]
    Unknown,
    /// There was one.
    Reset,
    /// There was none.
    NotReset,
    /// A gauge: resets do not apply.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSpan {
    /// Gap to the end of the span before; the first span's is its absolute index.
    pub offset: i32,
    /// Buckets in the span.
    pub length: u32,
}

/// One native histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// What is known about resets.
    pub reset_hint: ResetHint,
    /// Resolution: bucket bounds grow by 2^(2^-schema); -53 means custom bounds.
    pub schema: i32,
    /// Width of the zero bucket on either side.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; the stale NaN marks the end of the series.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<BucketSpan>,
    /// Absolute counts of the positive buckets, as many as the spans say.
    pub positive: Vec<f64>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<BucketSpan>,
    /// Absolute counts of the negative buckets, as many as the spans say.
    pub negative: Vec<f64>,
    /// Upper bounds of custom buckets, ascending, without +Inf; empty for other schemas.
    pub custom_bounds: Vec<f64>,
}

impl Histogram {
    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + 8 * (self.positive_spans.len() + self.negative_spans.len())
            + 8 * (self.positive.len() + self.negative.len() + self.custom_bounds.len())
    }
}
