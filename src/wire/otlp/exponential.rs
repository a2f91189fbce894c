//! Exponential histograms of OTLP to native histograms of Prometheus. Both have bases of 2^(2^-n);
//! OTLP's bucket i is (base^i, base^(i+1)], Prometheus' is (base^(i-1), base^i]. Resolutions over 8 are made
//! coarser, under -4 refused.

use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;

use crate::model::histogram::{BucketSpan, Histogram};
use crate::model::sample::STALE_NAN_BITS;
use crate::wire::label_check::Refusal;
use crate::wire::limits::Options;

const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;

/// Width of the zero bucket where the sender says nothing, as Prometheus has it.
const ZERO_THRESHOLD: f64 = 1e-128;

/// The histogram of a data point.
pub(super) fn convert(point: &ExponentialHistogramDataPoint, options: &Options) -> Result<Arc<Histogram>, Refusal> {
    let refuse = |text: String| Err(Refusal::new("invalid_histogram", text));
    if point.scale < SCHEMA_MIN {
        return refuse(format!("scale {} is below {SCHEMA_MIN}", point.scale));
    }
    let shift = point.scale.saturating_sub(SCHEMA_MAX).clamp(0, 62);
    let (positive_spans, positive) = side(point.positive.as_ref(), shift, options)?;
    let (negative_spans, negative) = side(point.negative.as_ref(), shift, options)?;
    let zero_threshold = if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD };
    Ok(Arc::new(Histogram {
        schema: point.scale.min(SCHEMA_MAX),
        zero_threshold,
        zero_count: point.zero_count as f64,
        count: point.count as f64,
        sum: point.sum.unwrap_or_default(),
        positive_spans,
        positive,
        negative_spans,
        negative,
        ..Histogram::default()
    }))
}

/// The histogram that ends a series.
pub(super) fn stale() -> Arc<Histogram> {
    Arc::new(Histogram { sum: f64::from_bits(STALE_NAN_BITS), ..Histogram::default() })
}

fn side(buckets: Option<&Buckets>, shift: i32, options: &Options) -> Result<(Vec<BucketSpan>, Vec<f64>), Refusal> {
    let (mut spans, mut counts) = (Vec::<BucketSpan>::new(), Vec::<f64>::new());
    let Some(buckets) = buckets else { return Ok((spans, counts)) };
    if buckets.bucket_counts.len() > options.buckets_max {
        let text = format!("{} buckets, over the limit of {}", buckets.bucket_counts.len(), options.buckets_max);
        return Err(Refusal::new("invalid_histogram", text));
    }
    let mut end = 0i64;
    for (index, count) in (i64::from(buckets.offset)..).zip(&buckets.bucket_counts) {
        if *count == 0 {
            continue;
        }
        let index = (index >> shift) + 1;
        if let (Some(last), true) = (counts.last_mut(), index + 1 == end) {
            *last += *count as f64;
            continue;
        }
        let gap = i32::try_from(index - end).ok().filter(|_| i32::try_from(index + 1).is_ok());
        let gap = gap.ok_or_else(|| Refusal::new("invalid_histogram", format!("bucket {index} is out of range")))?;
        match spans.last_mut() {
            Some(span) if gap == 0 => span.length += 1,
            Some(_) | None => spans.push(BucketSpan { offset: gap, length: 1 }),
        }
        counts.push(*count as f64);
        end = index + 1;
    }
    Ok((spans, counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::limits::DEFAULT;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialHistogramDataPoint {
        let positive = Some(Buckets { offset, bucket_counts: counts.to_vec() });
        ExponentialHistogramDataPoint { scale, positive, ..ExponentialHistogramDataPoint::default() }
    }

    fn converted(scale: i32, offset: i32, counts: &[u64]) -> (i32, Vec<(i32, u32)>, Vec<f64>) {
        let histogram = convert(&point(scale, offset, counts), &DEFAULT).unwrap();
        let spans = histogram.positive_spans.iter().map(|span| (span.offset, span.length)).collect();
        (histogram.schema, spans, histogram.positive.clone())
    }

    #[test]
    fn buckets_move_up_by_one() {
        assert_eq!(converted(3, -2, &[1, 2, 0, 0, 3]), (3, vec![(-1, 2), (2, 1)], vec![1.0, 2.0, 3.0]));
        assert_eq!(converted(0, 5, &[]), (0, vec![], vec![]));
    }

    #[test]
    fn finer_buckets_are_merged() {
        // At scale 10, buckets -1 to 6; at 8 four of them make one.
        let merged = converted(10, -1, &[1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(merged, (8, vec![(0, 3)], vec![1.0, 4.0, 3.0]));
    }

    #[test]
    fn what_prometheus_cannot_hold_is_refused() {
        assert!(convert(&point(-5, 0, &[1]), &DEFAULT).is_err());
        assert!(convert(&point(0, i32::MAX, &[1, 1]), &DEFAULT).is_err());
        assert!(convert(&point(i32::MAX, i32::MIN, &[1, 1]), &DEFAULT).is_ok());
    }
}
