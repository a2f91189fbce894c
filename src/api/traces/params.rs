//! Parameters of requests: of the URL, and of a form in the body of a POST, which add up.

use axum::extract::Request;

use super::error::TraceError;
use crate::api::form::{self, Pairs};
use crate::base::duration;

/// Largest form in a body, in bytes.
const FORM_BYTES_MAX: usize = 1 << 20;

/// Parameters in the order they came; unknown ones are ignored by not being asked for.
#[derive(Debug, Default)]
pub(in crate::api) struct Params(Pairs);

impl Params {
    /// Those of a request.
    ///
    /// # Errors
    /// [`TraceError`] when the body is too large or broke off.
    pub(in crate::api) async fn read(request: Request) -> Result<Self, TraceError> {
        Ok(Self(form::read(request, FORM_BYTES_MAX).await?))
    }

    /// The parameter, when it is there and not empty.
    pub(in crate::api) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, value)| own == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter that may come more than once.
    pub(in crate::api) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, value)| own == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// An integer that is not negative.
    ///
    /// # Errors
    /// [`TraceError::Bad`] that names it.
    pub(in crate::api) fn number(&self, name: &str) -> Result<Option<u64>, TraceError> {
        self.get(name).map(|text| text.parse().map_err(|_| bad(name, text, "an integer"))).transpose()
    }

    /// A duration such as `1.5s`, in nanoseconds.
    ///
    /// # Errors
    /// [`TraceError::Bad`] that names it.
    pub(in crate::api) fn duration_ns(&self, name: &str) -> Result<Option<i64>, TraceError> {
        self.get(name).map(|text| duration::nanoseconds(text).ok_or_else(|| bad(name, text, "a duration"))).transpose()
    }

    /// A time in seconds since the Unix epoch as nanoseconds; 0 counts as absent.
    ///
    /// # Errors
    /// [`TraceError::Bad`] that names it.
    pub(in crate::api) fn seconds(&self, name: &str) -> Result<Option<i64>, TraceError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds: i64 = text.parse().map_err(|_| bad(name, text, "seconds since the Unix epoch"))?;
        let ns = seconds.checked_mul(1_000_000_000).ok_or_else(|| bad(name, text, "a time before the year 2262"))?;
        Ok(Some(ns).filter(|ns| *ns != 0))
    }

    /// `start` and `end` in seconds, as nanoseconds: both or none.
    ///
    /// # Errors
    /// [`TraceError::Bad`] when one is missing, or they are out of order.
    pub(in crate::api) fn range(&self) -> Result<Option<(i64, i64)>, TraceError> {
        match (self.seconds("start")?, self.seconds("end")?) {
            (None, None) => Ok(None),
            (Some(start), Some(end)) if start < end => Ok(Some((start, end))),
            (Some(start), Some(end)) => {
                let (start, end) = (start / 1_000_000_000, end / 1_000_000_000);
                Err(TraceError::Bad(format!("start must be before end, got start={start} and end={end}")))
            }
            (Some(_), None) | (None, Some(_)) => {
                Err(TraceError::Bad("start and end must both be given, or neither".to_owned()))
            }
        }
    }

    /// A time for metrics: seconds (up to ten digits, or with a fraction), nanoseconds or RFC 3339.
    ///
    /// # Errors
    /// [`TraceError::Bad`] that names it.
    pub(in crate::api) fn time_ns(&self, name: &str) -> Result<Option<i64>, TraceError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = || bad(name, text, "seconds, nanoseconds or RFC 3339");
        if let Ok(int) = text.parse::<i64>() {
            let seconds = text.trim_start_matches('-').len() <= 10;
            return if seconds { int.checked_mul(1_000_000_000).ok_or_else(wrong).map(Some) } else { Ok(Some(int)) };
        }
        if let Ok(float) = text.parse::<f64>() {
            let ns = float * 1e9;
            return if ns.abs() < i64::MAX as f64 { Ok(Some(ns as i64)) } else { Err(wrong()) };
        }
        let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
        time.timestamp_nanos_opt().ok_or_else(wrong).map(Some)
    }
}

fn bad(name: &str, text: &str, wanted: &str) -> TraceError {
    let text: String = text.chars().take(100).collect();
    TraceError::Bad(format!("invalid {name}: expected {wanted}, got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        let mut pairs = Pairs::new();
        form::decode(text.as_bytes(), &mut pairs).unwrap();
        Params(pairs)
    }

    #[test]
    fn times_are_seconds_nanoseconds_or_rfc_3339() {
        for text in ["1700000000", "1700000000000000000", "2023-11-14T22:13:20Z", "1700000000.0"] {
            assert_eq!(params(&format!("t={text}")).time_ns("t").unwrap(), Some(1_700_000_000_000_000_000), "{text}");
        }
        assert!(params("t=yesterday").time_ns("t").is_err());
        assert!(params("t=1e300").time_ns("t").is_err());
    }

    #[test]
    fn a_range_has_both_ends_in_order() {
        assert_eq!(params("start=0&end=0").range().unwrap(), None);
        assert_eq!(params("start=1&end=2").range().unwrap(), Some((1_000_000_000, 2_000_000_000)));
        for text in ["start=1", "end=1", "start=2&end=1", "start=2&end=2", "start=x&end=1", "start=1&end=9999999999999"]
        {
            assert!(params(text).range().is_err(), "{text}");
        }
    }
}
