//! Parameters of requests as browsers and Grafana write them: of the URL and of a form in the body of
//! a POST, which add up. Of a parameter that is in both, the form's counts, as in Go's `FormValue`, by which Prometheus
//! and Loki read them.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::base::error::{Classify, ErrorClass};
use crate::base::in_flight::BodyError;
use crate::base::percent;

/// More parameters than this no request has: a list of them takes many times the bytes that it came in.
pub(super) const PARAMETERS_MAX: usize = 10_000;

/// Names and values in the order they came, the form's first.
pub(super) type Pairs = Vec<(String, String)>;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    /// It is too large.
    #[error("the request is longer than {0} bytes; ask for less at once")]
    TooLarge(usize),
    /// It has too many parameters.
    #[error("the request has more than {PARAMETERS_MAX} parameters; ask for less at once")]
    TooMany,
    /// It did not arrive in time, or there was no room for it.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Its text is not UTF-8; a query that was changed on the way would be answered as if it were another.
    #[error("{0} is not UTF-8")]
    Text(String),
    /// The connection broke off.
    #[error("read the request: {0}")]
    Read(String),
}

impl Classify for FormError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::TooLarge(_) => ErrorClass::TooLarge,
            Self::Body(error) => error.class(),
            Self::TooMany | Self::Text(_) | Self::Read(_) => ErrorClass::BadData,
        }
    }
}

/// The parameters of a request whose form may have up to `bytes_max` bytes.
///
/// # Errors
/// [`FormError`].
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<Pairs, FormError> {
    let mut pairs = Pairs::new();
    let uri = request.uri().clone();
    let is_form = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded"));
    if is_form {
        let body = whole(request.into_body(), bytes_max).await?;
        decode(&body, &mut pairs)?;
    }
    decode(uri.query().unwrap_or_default().as_bytes(), &mut pairs)?;
    Ok(pairs)
}

/// A whole body of up to `bytes_max` bytes. How fast it must come, and whether there is room, is the connection's work.
///
/// # Errors
/// [`FormError`].
pub(super) async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, FormError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(FormError::TooLarge(bytes_max)),
        Err(error) => {
            let lost = BodyError::among(&*error).cloned();
            Err(lost.map_or_else(|| FormError::Read(error.to_string()), FormError::Body))
        }
    }
}

/// Adds the pairs of `application/x-www-form-urlencoded`.
///
/// # Errors
/// [`FormError::Text`], [`FormError::TooMany`].
pub(super) fn decode(text: &[u8], pairs: &mut Pairs) -> Result<(), FormError> {
    for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        if pairs.len() >= PARAMETERS_MAX {
            return Err(FormError::TooMany);
        }
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (name, value) = pair.split_at(end);
        let name = String::from_utf8(percent::decode_query(name))
            .map_err(|_| FormError::Text("a parameter's name".to_owned()))?;
        match String::from_utf8(percent::decode_query(value.get(1..).unwrap_or_default())) {
            Ok(value) => pairs.push((name, value)),
            Err(_) => {
                return Err(FormError::Text(format!("parameter {:?}", name.chars().take(100).collect::<String>())));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_broken_ones_stay() {
        let cases = [
            ("a=1%2B1+2", ("a", "1+1 2")),
            ("match%5B%5D=%7Ba%3D%22%C3%BC%22%7D", ("match[]", "{a=\"ü\"}")),
            ("bad=%zz%4", ("bad", "%zz%4")),
            ("sign=%+1", ("sign", "% 1")),
            ("alone", ("alone", "")),
        ];
        for (text, (name, value)) in cases {
            let mut pairs = Pairs::new();
            decode(text.as_bytes(), &mut pairs).unwrap();
            assert_eq!(pairs, [(name.to_owned(), value.to_owned())], "{text}");
        }
    }

    #[tokio::test]
    async fn a_form_goes_before_the_url() {
        let request = axum::http::Request::post("/?query=2&match[]=b&time=7")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
            .body(Body::from("query=1&match[]=a"))
            .unwrap();
        let pairs = read(request, 100).await.unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("query", "1"), ("match[]", "a"), ("query", "2"), ("match[]", "b"), ("time", "7")]);
    }

    #[test]
    fn a_list_without_end_is_not_read_to_its_end() {
        let mut pairs = Pairs::new();
        decode("a&".repeat(PARAMETERS_MAX).as_bytes(), &mut pairs).unwrap();
        let error = decode(b"a", &mut pairs).unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadData);
        assert_eq!((pairs.len(), error.to_string().contains("10000")), (PARAMETERS_MAX, true), "{error}");
    }

    #[test]
    fn what_is_not_utf8_is_named() {
        let error = |text: &[u8]| decode(text, &mut Pairs::new()).unwrap_err().to_string();
        assert_eq!(error(b"query=up%ff"), "parameter \"query\" is not UTF-8");
        assert_eq!(error(b"query=a&match[]=\xc3"), "parameter \"match[]\" is not UTF-8");
        assert_eq!(error(b"%fe=a"), "a parameter's name is not UTF-8");
    }
}
