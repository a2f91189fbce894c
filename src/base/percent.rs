//! Percent escapes of URLs, forms and headers. Encoding spares what each of them lets stand; decoding
//! leaves a broken escape as it is.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// What is neither a letter nor a digit nor one of `-_.~` (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What is not printable, and the sign itself.
const UNPRINTABLE: &AsciiSet = &CONTROLS.add(b'%');

/// `text` for any place of a URL.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// `text` for a value of a query or form, with `+` for blanks.
pub fn encode_query(text: &str) -> String {
    // A percent sign of the text itself is `%25` by now.
    encode(text).replace("%20", "+")
}

/// `text` for a header: printable ASCII stands.
pub fn encode_header(text: &str) -> String {
    utf8_percent_encode(text, UNPRINTABLE).to_string()
}

/// The bytes of a value of a query or form, in which `+` stands for a blank.
pub fn decode_query(text: &[u8]) -> Vec<u8> {
    let spaced: Cow<'_, [u8]> = if memchr::memchr(b'+', text).is_some() {
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
    } else {
        text.into()
    };
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_spares_what_may_stand_there() {
        let text = "a-_.~ 1%+&=/ü\n";
        assert_eq!(encode(text), "a-_.~%201%25%2B%26%3D%2F%C3%BC%0A");
        assert_eq!(encode_query(text), "a-_.~+1%25%2B%26%3D%2F%C3%BC%0A");
        assert_eq!(encode_query("%20"), "%2520");
        assert_eq!(encode_header(text), "a-_.~ 1%25+&=/%C3%BC%0A");
    }

    #[test]
    fn escapes_come_back_and_broken_ones_stay() {
        for (text, bytes) in [
            ("a-_.~+1%25%2B%26%3D%2F%C3%BC%0A", "a-_.~ 1%+&=/ü\n".as_bytes()),
            ("%zz%4", b"%zz%4"),
            ("%", b"%"),
            ("%+1", b"% 1"),
            ("%e4+%E4", b"\xe4 \xe4"),
        ] {
            assert_eq!(decode_query(text.as_bytes()), bytes, "{text}");
        }
    }
}
