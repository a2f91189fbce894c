//! Parameters of a request: those of the URL and those of a form in the body, as one list.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use chrono::DateTime;

use super::error::ApiError;
use crate::api::context::Context;
use crate::api::form::{self, Pairs};
use crate::model::time::RangeNs;
use crate::query::logql::Direction;
use crate::query::logql::lexer::parse_duration;

/// Longest form that is read, in bytes.
const FORM_BYTES_MAX: usize = 2 << 20;
/// Most lines in an answer.
pub(super) const LINES_MAX: usize = 5_000;
/// Lines in an answer when nothing else is asked.
const LINES_DEFAULT: usize = 100;
const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// The parameters, in the order URL, body.
#[derive(Debug, Default)]
pub(super) struct Params(Pairs);

impl FromRequest<Context> for Params {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Context) -> Result<Self, Response> {
        match form::read(request, FORM_BYTES_MAX).await {
            Ok(pairs) => Ok(Self(pairs)),
            Err(error) => Err(ApiError::from(error).into_response()),
        }
    }
}

impl Params {
    /// The first value of a name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, value)| own == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All values of a name, also those written `name[]`.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let named = |own: &str| own.strip_suffix("[]").unwrap_or(own) == name;
        self.0.iter().filter(|(own, value)| named(own) && !value.is_empty()).map(|(_, value)| value.as_str()).collect()
    }

    /// The query's text, or the empty one.
    pub(super) fn query(&self) -> &str {
        self.get("query").unwrap_or_default()
    }

    /// A time in nanoseconds, if given.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = || {
            let text: String = text.chars().take(80).collect();
            ApiError::bad_data(format!(
                "invalid {name} {text:?}: nanoseconds, seconds with fraction or RFC 3339 are understood"
            ))
        };
        parse_time(text).map(Some).ok_or_else(wrong)
    }

    /// A duration in nanoseconds, if given: `15s`, or seconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().map(|seconds| seconds * 1e9).filter(|nanos| nanos.abs() < 9.2e18);
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        let nanos = seconds.map(|nanos| nanos as i64).or_else(|| parse_duration(text));
        let wrong = || {
            let text: String = text.chars().take(80).collect();
            ApiError::bad_data(format!("invalid {name} {text:?}: a duration such as 15s or seconds are understood"))
        };
        nanos.map(Some).ok_or_else(wrong)
    }

    /// `start` and `end`; without, the last `since` (or `default`) until now.
    fn bounds(&self, now: i64, default: i64) -> Result<(i64, i64), ApiError> {
        let end = self.time("end")?.unwrap_or(now);
        let since = self.duration("since")?.unwrap_or(default);
        let start = self.time("start")?.unwrap_or_else(|| end.min(now).saturating_sub(since));
        if start > end {
            return Err(ApiError::bad_data(format!(
                "end timestamp must not be before start time: {end} is before {start}"
            )));
        }
        Ok((start, end))
    }

    /// The range of a query; the last hour when none is given.
    pub(super) fn range(&self, now: i64) -> Result<RangeNs, ApiError> {
        let (start, end) = self.bounds(now, HOUR)?;
        Ok(RangeNs { start, end })
    }

    /// The range of a look-up in the index; the last six hours when none is given. One without length,
    /// as the log context asks for, is taken as the day around it.
    pub(super) fn index_range(&self, now: i64) -> Result<RangeNs, ApiError> {
        let (start, end) = self.bounds(now, 6 * HOUR)?;
        if start == end {
            let day = start.div_euclid(DAY).saturating_mul(DAY);
            return Ok(RangeNs { start: day, end: day.saturating_add(DAY) });
        }
        Ok(RangeNs { start, end })
    }

    /// `limit`, at most [`LINES_MAX`].
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(LINES_DEFAULT) };
        match text.parse::<i64>() {
            Ok(limit) if limit <= 0 => Err(ApiError::bad_data("limit must be a positive value")),
            Ok(limit) => usize::try_from(limit).ok().filter(|limit| *limit <= LINES_MAX).ok_or_else(|| {
                ApiError::bad_data(format!(
                    "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {LINES_MAX})"
                ))
            }),
            Err(_) => Err(ApiError::bad_data("limit must be a whole number")),
        }
    }

    /// A count that is only a wish: what is no number is `default`, more than `most` is `most`.
    pub(super) fn count(&self, name: &str, default: usize, most: usize) -> usize {
        let count = self.get(name).and_then(|text| text.parse().ok()).filter(|count| *count > 0);
        count.unwrap_or(default).min(most)
    }

    /// `direction`, newest first by default.
    pub(super) fn direction(&self) -> Result<Direction, ApiError> {
        match self.get("direction") {
            None => Ok(Direction::Backward),
            Some(text) if text.eq_ignore_ascii_case("backward") => Ok(Direction::Backward),
            Some(text) if text.eq_ignore_ascii_case("forward") => Ok(Direction::Forward),
            Some(text) => {
                let text: String = text.chars().take(80).collect();
                Err(ApiError::bad_data(format!("invalid direction {text:?}: forward or backward")))
            }
        }
    }

    /// `step` in nanoseconds; a 250th of the range, at least a second, when none is given.
    pub(super) fn step(&self, range: RangeNs) -> Result<i64, ApiError> {
        match self.duration("step")? {
            Some(step) if step <= 0 => Err(ApiError::bad_data(
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            )),
            Some(step) => Ok(step),
            None => Ok((range.end.saturating_sub(range.start) / 250 / SECOND).max(1).saturating_mul(SECOND)),
        }
    }
}

/// Integers are nanoseconds, but those that are plausible times in seconds (1973 to 2065) are seconds.
fn parse_time(text: &str) -> Option<i64> {
    if let Ok(value) = text.parse::<i64>() {
        return Some(if (100_000_000..3_000_000_000).contains(&value) { value * SECOND } else { value });
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let (whole, fraction) = (seconds.trunc(), seconds.fract());
        if !seconds.is_finite() || whole.abs() > 9.2e9 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        let nanos = (whole as i64).saturating_mul(SECOND).saturating_add((fraction * 1e9).round() as i64);
        return Some(nanos);
    }
    DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_three_forms() {
        assert_eq!(parse_time("4000000000"), Some(4 * SECOND));
        assert_eq!(parse_time("1700000000"), Some(1_700_000_000 * SECOND));
        assert_eq!(parse_time("1700000000000000001"), Some(1_700_000_000_000_000_001));
        assert_eq!(parse_time("1700000000.5"), Some(1_700_000_000_500_000_000));
        assert_eq!(parse_time("2023-11-14T22:13:20.000000001Z"), Some(1_700_000_000_000_000_001));
        assert_eq!(parse_time("2023-11-14T23:13:20+01:00"), Some(1_700_000_000 * SECOND));
        for text in ["yesterday", "1e300", "NaN", "9999-01-01T00:00:00Z"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_without_length_is_the_day_around_it() {
        let params =
            Params(vec![("start".into(), "1700000000000000000".into()), ("end".into(), "1700000000000000000".into())]);
        let range = params.index_range(0).unwrap();
        assert_eq!((range.end - range.start, range.contains(1_700_000_000_000_000_000)), (DAY, true));
    }
}
