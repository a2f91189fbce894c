//! What the headers of a push say.

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};

use super::Headers;
use crate::wire::decompress::Encoding;

/// A header as text; `None` when it is missing or no text.
pub(super) fn text<'a>(headers: &'a Headers, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The media type, in lower case and without its parameters; empty when there is none.
pub(super) fn media_type(headers: &Headers) -> String {
    let value = text(headers, &CONTENT_TYPE).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A parameter of the media type, as in `application/x-protobuf; proto=...`.
pub(super) fn media_parameter<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let value = text(headers, &CONTENT_TYPE)?;
    value.split(';').skip(1).find_map(|parameter| {
        let (own, value) = parameter.split_once('=')?;
        own.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// The encoding of the body, `missing` when no header names one, `None` when it is not known.
pub(super) fn encoding(headers: &Headers, missing: Encoding) -> Option<Encoding> {
    match headers.get(CONTENT_ENCODING) {
        None => Some(missing),
        Some(value) => value.to_str().ok().and_then(Encoding::from_header),
    }
}
