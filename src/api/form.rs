//! Parameters of requests as browsers and Grafana write them: of the URL and of a form in the body of
//! a POST, which add up.

use axum::body::Bytes;
use axum::extract::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::base::error::{Classify, ErrorClass};

/// Names and values in the order they came, the URL's first.
pub(super) type Pairs = Vec<(String, String)>;

/// Why a form was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    /// It is too large.
    #[error("the form is longer than {0} bytes; ask for less at once")]
    TooLarge(usize),
    /// The connection broke off.
    #[error("read the form: {0}")]
    Read(String),
}

impl Classify for FormError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::TooLarge(_) => ErrorClass::TooLarge,
            Self::Read(_) => ErrorClass::BadData,
        }
    }
}

/// The parameters of a request whose form may have up to `bytes_max` bytes.
///
/// # Errors
/// [`FormError`].
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<Pairs, FormError> {
    let mut pairs = Pairs::new();
    decode(request.uri().query().unwrap_or_default(), &mut pairs);
    let is_form = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded"));
    if is_form {
        let body: Bytes = match Limited::new(request.into_body(), bytes_max).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(FormError::TooLarge(bytes_max)),
            Err(error) => return Err(FormError::Read(error.to_string())),
        };
        decode(&String::from_utf8_lossy(&body), &mut pairs);
    }
    Ok(pairs)
}

/// Adds the pairs of `application/x-www-form-urlencoded`.
pub(super) fn decode(text: &str, pairs: &mut Pairs) {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((unescape(name), unescape(value)));
    }
}

/// Percent escapes and `+`; a broken escape stays as it is.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, escaped(tail)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The byte that two hexadecimal digits stand for.
fn escaped(text: &[u8]) -> Option<u8> {
    let digits = text.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
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
            decode(text, &mut pairs);
            assert_eq!(pairs, [(name.to_owned(), value.to_owned())], "{text}");
        }
    }
}
