//! Parameters of a request: those of the URL and those of a form in the body, as one list.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use super::error::ApiError;
use crate::api::context::Context;
use crate::api::form::{self, Pairs};
use crate::base::limits::QueryBudget;
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;
use crate::query::promql::lex;
use crate::query::promql::{self, PromqlError};
use crate::wire::compress::Coding;

/// Longest form that is read, in bytes.
const FORM_BYTES_MAX: usize = 8 << 20;
/// Times further away than this many milliseconds from 1970 are taken to be there.
const TIME_MAX: i64 = 1 << 53;

/// The parameters, and what the request's headers say about its answer.
#[derive(Debug, Default)]
pub(super) struct Params {
    /// In the order URL, body.
    pairs: Pairs,
    /// How the client would have its answer.
    pub(super) coding: Coding,
    /// Who asks, as far as headers say.
    pub(super) asker: Vec<(&'static str, String)>,
}

/// What a selector that all series would match is told.
const EMPTY: &str = "match[] must contain at least one non-empty matcher";

/// Headers that say who asks, and what the log calls them. Grafana sends the first ones.
const ASKER: [(&str, &str); 8] = [
    ("x-dashboard-uid", "dashboard"),
    ("x-panel-id", "panel"),
    ("x-rule-uid", "rule"),
    ("x-datasource-uid", "datasource"),
    ("x-grafana-org-id", "org"),
    ("x-grafana-user", "user"),
    ("x-query-tags", "tags"),
    ("user-agent", "agent"),
];
/// Characters of such a header that are kept.
const ASKER_MAX: usize = 100;

fn asker(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let text = |header: &str| headers.get(header).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let named = ASKER.iter().filter_map(|(header, name)| Some((*name, text(header)?)));
    named.map(|(name, text)| (name, text.chars().take(ASKER_MAX).collect())).collect()
}

/// Brings times that are further away than any data nearer.
pub(super) fn clamp(range: &mut RangeMs) {
    (range.start, range.end) = (range.start.clamp(-TIME_MAX, TIME_MAX), range.end.clamp(-TIME_MAX, TIME_MAX));
}

/// How the client of these headers would have its answer.
pub(super) fn coding(headers: &HeaderMap) -> Coding {
    Coding::accepted(headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()))
}

impl FromRequest<Context> for Params {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Context) -> Result<Self, Response> {
        let (coding, asker) = (coding(request.headers()), asker(request.headers()));
        match form::read(request, FORM_BYTES_MAX).await {
            Ok(pairs) => Ok(Self { pairs, coding, asker }),
            Err(error) => Err(ApiError::from(error).into_response()),
        }
    }
}

impl Params {
    /// The first value of a name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// All values of a name.
    pub(super) fn all<'p>(&'p self, name: &str) -> impl Iterator<Item = &'p str> {
        self.pairs.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The query.
    pub(super) fn query(&self) -> Result<String, ApiError> {
        self.get("query").map(str::to_owned).ok_or_else(|| {
            ApiError::bad_data("invalid parameter \"query\": 1:1: parse error: no expression found in input")
        })
    }

    /// A time in milliseconds, if given.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match time_ms(text) {
            Some(ms) => Ok(Some(ms)),
            None => Err(ApiError::bad_data(format!(
                "invalid parameter {name:?}: invalid time value for '{name}': cannot parse {text:?} to a valid timestamp"
            ))),
        }
    }

    /// `start` and `end`, all of time where they are missing.
    pub(super) fn range(&self) -> Result<RangeMs, ApiError> {
        let range = self.times()?;
        if range.end < range.start {
            return Err(ApiError::bad_data("invalid parameter \"end\": end timestamp must not be before start time"));
        }
        Ok(range)
    }

    /// The same in any order.
    pub(super) fn times(&self) -> Result<RangeMs, ApiError> {
        let start = self.time("start")?.unwrap_or(-TIME_MAX);
        let end = self.time("end")?.unwrap_or(TIME_MAX);
        Ok(RangeMs { start, end })
    }

    /// A duration in milliseconds, if given.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match lex::duration_ms(text) {
            Some(ms) => Ok(Some(ms)),
            None => {
                let message = format!("invalid parameter {name:?}: cannot parse {text:?} to a valid duration");
                Err(ApiError::bad_data(message))
            }
        }
    }

    /// The time that the query may take.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        Ok(self.duration("timeout")?.map(|ms| Duration::from_millis(ms.unsigned_abs())))
    }

    /// `limit`; 0 is none.
    pub(super) fn limit(&self, name: &str) -> Result<usize, ApiError> {
        let Some(text) = self.get(name) else { return Ok(0) };
        let why = if text.parse::<i64>().is_ok_and(|limit| limit < 0) {
            "limit must be non-negative".to_owned()
        } else {
            format!("{text:?} is no number")
        };
        text.parse().map_err(|_| ApiError::bad_data(format!("invalid parameter {name:?}: {why}")))
    }

    /// The selectors of `match[]`.
    pub(super) fn selectors(&self, budget: &QueryBudget) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let parse = |text| match promql::selector(text, budget) {
            Ok(matchers) if matchers.iter().all(Matcher::matches_empty) => {
                Err(ApiError::bad_data(format!("invalid parameter \"match[]\": {EMPTY}")))
            }
            Ok(matchers) => Ok(matchers),
            Err(error @ PromqlError::Limit(_)) => Err(error.into()),
            Err(error) => {
                let text = error.to_string();
                let what = if text.ends_with("must contain at least one non-empty matcher") { EMPTY } else { &text };
                Err(ApiError::bad_data(format!("invalid parameter \"match[]\": {what}")))
            }
        };
        self.all("match[]").map(parse).collect()
    }
}

/// The least and the greatest time as Prometheus's own clients write them; no calendar reaches so far.
const LEAST_TIME: &str = "-292273086-05-16T16:47:06Z";
const GREATEST_TIME: &str = "292277025-08-18T07:12:54.999999999Z";

/// Seconds since 1970 with a fraction, or RFC 3339.
fn time_ms(text: &str) -> Option<i64> {
    match text {
        LEAST_TIME => return Some(-TIME_MAX),
        GREATEST_TIME => return Some(TIME_MAX),
        _ => {}
    }
    if let Ok(seconds) = text.parse::<f64>() {
        // Digits that no float can hold are an error, as they are in Go.
        if seconds.is_nan() || seconds.is_infinite() && text.contains(|digit: char| digit.is_ascii_digit()) {
            return None;
        }
        // The fraction is rounded by itself, before large seconds take digits from it.
        let ms = (seconds.trunc() * 1000.0) + (seconds.fract() * 1000.0).round();
        return Some((ms as i64).clamp(-TIME_MAX, TIME_MAX));
    }
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(time.timestamp_millis().clamp(-TIME_MAX, TIME_MAX))
}

/// The name behind Prometheus's escaping: `U__service_2e_name` is `service.name`.
pub(super) fn label_name(escaped: &str) -> String {
    let Some(rest) = escaped.strip_prefix("U__") else { return escaped.to_owned() };
    let mut name = String::with_capacity(rest.len());
    let mut rest = rest;
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(more) = after.strip_prefix('_') {
            name.push('_');
            rest = more;
            continue;
        }
        let rune = after
            .split_once('_')
            .and_then(|(hex, more)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, more)));
        let Some((rune, more)) = rune else { return escaped.to_owned() };
        name.push(rune);
        rest = more;
    }
    name + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names_come_back() {
        assert_eq!(label_name("U__service_2e_name"), "service.name");
        assert_eq!(label_name("U__a__b_1f600_"), "a_b😀");
        assert_eq!(label_name("job"), "job");
        assert_eq!(label_name("U__broken_zz"), "U__broken_zz");
    }

    #[test]
    fn times_are_floats_or_rfc3339() {
        assert_eq!(time_ms("1700000000.123"), Some(1_700_000_000_123));
        assert_eq!(time_ms("1970-01-01T00:00:04Z"), Some(4_000));
        assert_eq!(time_ms("1.0005"), Some(1_000));
        assert_eq!(time_ms("1e300"), Some(TIME_MAX));
        assert_eq!(time_ms("NaN"), None);
        assert_eq!((time_ms("1e400"), time_ms("-1e400")), (None, None));
        assert_eq!(time_ms("-292273086-05-16T16:47:06Z"), Some(-TIME_MAX));
        assert_eq!(time_ms("292277025-08-18T07:12:54.999999999Z"), Some(TIME_MAX));
        assert_eq!(time_ms("soon"), None);
    }
}
