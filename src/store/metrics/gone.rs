//! Which series of a part have nothing left to show: all that the part can have of them in some time is
//! deleted or past its retention. Found by postings, without reading a label set.

use roaring::RoaringBitmap;

use super::keep::{Sieve, cover};
use super::segment::Part;
use crate::base::limits::QueryBudget;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;

/// Series between two looks at the deadline.
const PER_CHECK: usize = 4096;

/// The series of `part` of which `sieve` leaves out all that may lie in `range`.
///
/// # Errors
/// [`StoreError::Limit`].
pub fn gone(part: &Part, sieve: &Sieve, range: RangeMs, budget: &QueryBudget) -> Result<RoaringBitmap, StoreError> {
    let info = part.reader().info();
    let span = RangeMs { start: range.start.max(info.min_t), end: range.end.min(info.max_t) };
    let (mut gone, mut partly) = (RoaringBitmap::new(), Vec::new());
    let mut leave_out = |series: RoaringBitmap, times: RangeMs| {
        if cover(&[times], span) {
            gone |= series;
        } else {
            partly.push((series, times));
        }
    };
    let touches = |times: &RangeMs| times.overlaps(span.start, span.end);
    for (matchers, times) in sieve.deletions().filter(|(_, times)| touches(times)) {
        leave_out(part.matched(matchers, RangeMs::ALL, budget)?, times);
    }
    let periods = sieve.periods();
    if periods.iter().any(|(_, times)| times.as_ref().is_some_and(touches)) {
        // Of each series the first that fits.
        let mut before = RoaringBitmap::new();
        for (matchers, times) in periods {
            let series = part.matched(matchers, RangeMs::ALL, budget)? - &before;
            before |= &series;
            if let Some(times) = times.filter(touches) {
                leave_out(series, times);
            }
        }
    }
    let all: Vec<RangeMs> = partly.iter().map(|own| own.1).collect();
    if partly.len() > 1 && cover(&all, span) {
        let mut several = RoaringBitmap::new();
        partly.iter().for_each(|own| several |= &own.0);
        for (at, id) in (several - &gone).iter().enumerate() {
            if at % PER_CHECK == 0 {
                budget.check()?;
            }
            let own: Vec<RangeMs> = partly.iter().filter(|own| own.0.contains(id)).map(|own| own.1).collect();
            if cover(&own, span) {
                gone.insert(id);
            }
        }
    }
    Ok(gone)
}
